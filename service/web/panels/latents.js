// @ts-check
/**
 * What is changed in the latent of a seed: steps along directions, a second seed, or a latent of one's own in its place.
 *
 * @typedef {import("../link.js").Image} Image
 * @typedef {import("../link.js").Recipe} Recipe
 * @typedef {import("../history.js").How} How
 */

import { element, onClick } from "../dom.js";
import { walk } from "../film/walk.js";
import { PSI } from "../link.js";
import { Directions } from "./directions.js";
import { MixPanel } from "./mix.js";
import { ProjectionPanel } from "./projection.js";

const WALK_FPS = 12;

export class LatentsPanel {
  /** @type {Image | null} */
  #image = null;
  #walk = element("walk", HTMLButtonElement);
  #weight = 0; // of the frame of the walk that is shown

  /** @param {import("../api/client.js").Api} api @param {import("../api/latents.js").Latents} latents
   * @param {import("../film/player.js").Player} player
   * @param {object} page
   * @param {(model: string) => number} page.stylesOf the number of styles of a model
   * @param {() => { view: import("../picture/view.js").View, size: import("../picture/view.js").Size }} page.seen
   * @param {(image: Image, how: How) => void} page.onChange */
  constructor(api, latents, player, page) {
    this.player = player;
    this.page = page;
    this.directions = new Directions(api, (edits) => this.#change({ edits }, "moving"));
    this.mix = new MixPanel((mix, isMoving) => this.#change({ mix }, isMoving ? "moving" : "step"));
    this.projection = new ProjectionPanel(api, latents, {
      current: () => this.#image,
      onFound: (base, how) => this.#change({ base }, how, { psi: 1 }), // as it is, not nearer to the average
      onOpen: (image) => page.onChange(image, "step"),
    });
    onClick("latents-reset", () => this.#change({ mix: undefined, edits: undefined }, "step"));
    onClick("latent-drop", () => this.#change({ base: undefined }, "step", { psi: PSI.initial }));
    onClick("walk", () => this.#toggleWalk());
    element("tab-latents", HTMLElement).addEventListener("selected", () => this.#find());
  }

  /** The page shows another image. @param {Image} image */
  setImage(image) {
    this.#image = image;
    this.#show();
    if (this.#isOpen) this.#find();
  }

  get #isOpen() {
    return !element("panel-latents", HTMLElement).hidden;
  }

  get #recipe() {
    return this.#image?.recipe ?? {};
  }

  #find() {
    if (this.#image) this.directions.find(this.#image.model);
  }

  /** @param {Recipe} values @param {How} how @param {Partial<Image>} [others] */
  #change(values, how, others = {}) {
    if (!this.#image) return;
    const { recipe: _, id: __, ...image } = { ...this.#image, ...others };
    const recipe = Object.fromEntries(Object.entries({ ...this.#recipe, ...values }).filter(([, value]) => value !== undefined));
    this.#image = Object.keys(recipe).length ? { ...image, recipe } : image;
    this.#show();
    this.page.onChange(this.#image, how);
  }

  #show() {
    const { base, mix, edits = {} } = this.#recipe;
    this.directions.show(edits);
    if (this.#image) {
      this.mix.show(this.page.stylesOf(this.#image.model), mix);
      this.projection.setImage(this.#image);
    }
    element("latent-own", HTMLElement).hidden = !base;
    element("latents-reset", HTMLButtonElement).disabled = !mix && !Object.keys(edits).length;
  }

  /** Play the way to the other seed and back, or stay where it is. */
  #toggleWalk() {
    if (this.#walk.ariaPressed === "true") {
      const mix = this.mix.at(this.#weight);
      this.player.stop();
      this.#change({ mix: mix?.weight ? mix : undefined }, "step");
      return;
    }
    const from = this.#recipe.mix?.weight ?? 0;
    const mix = this.mix.at(from);
    if (!this.#image || !mix) return;
    const { view, size } = this.page.seen();
    const image = { ...this.#image, recipe: { ...this.#recipe, mix } };
    const frames = walk(image, view, size).map(({ weight, body }) => ({
      body,
      show: () => this.mix.showWeight((this.#weight = weight)),
    }));
    this.#weight = from;
    const first = frames.findIndex((_, index) => index / (frames.length / 2) >= from);
    this.#walk.ariaPressed = "true";
    this.player.play(frames, WALK_FPS, () => this.#stopped(), Math.max(0, first));
  }

  #stopped() {
    this.#walk.ariaPressed = "false";
    this.#show();
  }
}
