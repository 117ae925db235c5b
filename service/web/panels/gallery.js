// @ts-check
/** The gallery: favourites and recent pictures, to be shown again or compared with what is shown. */

import { button, create, element, onClick } from "../dom.js";
import { shownPsi } from "../numbers.js";
import { paint } from "../picture/stage.js";
import { fit } from "../picture/view.js";
import { shapeName } from "../shape.js";
import { Pictures, isSame } from "./pictures.js";

const THUMBNAIL = { width: 128, height: 128 };

export class Gallery {
  #favourite = element("favourite", HTMLButtonElement);
  /** @type {import("../link.js").Image | null} */
  #shown = null;

  /** @param {object} reactions
   * @param {(image: import("../link.js").Image) => void} reactions.onOpen
   * @param {(image: import("../link.js").Image) => void} reactions.onCompare
   * @param {() => import("./pictures.js").Entry} reactions.current what is shown */
  constructor(reactions) {
    this.reactions = reactions;
    this.pictures = new Pictures(() => this.#show());
    onClick("favourite", () => this.toggleFavourite());
    onClick("clear-recent", () => this.pictures.clearRecent());
    this.#show();
  }

  toggleFavourite() {
    this.pictures.toggle(this.reactions.current());
  }

  /** What the page shows is another picture. @param {import("../link.js").Image} image */
  setImage(image) {
    if (this.#shown && isSame(this.#shown, image)) return;
    this.#shown = image;
    this.#show();
  }

  #show() {
    const { favourites, recent } = this.pictures;
    this.#list("favourites", favourites);
    this.#list("recent", recent);
    element("clear-recent", HTMLElement).hidden = recent.length === 0;
    const on = this.#shown !== null && this.pictures.isFavourite(this.#shown);
    this.#favourite.setAttribute("aria-pressed", String(on));
  }

  /** @param {string} id @param {import("./pictures.js").Entry[]} entries */
  #list(id, entries) {
    element(`${id}-none`, HTMLElement).hidden = entries.length > 0;
    element(id, HTMLElement).replaceChildren(...entries.map((entry) => this.#item(entry)));
  }

  /** @param {import("./pictures.js").Entry} entry */
  #item({ image, thumbnail }) {
    const name = imageName(image);
    const open = button("", () => this.reactions.onOpen(image), "thumbnail");
    open.append(create("img", { src: thumbnail, alt: "", width: 96, height: 96 }), create("span", { textContent: shortName(image) }));
    open.setAttribute("aria-label", `Show ${name}`);
    open.title = name;
    const compare = button("Compare", () => this.reactions.onCompare(image), "small");
    compare.setAttribute("aria-label", `Compare with ${name}`);
    const item = create("li", {}, open, compare);
    item.toggleAttribute("aria-current", this.#shown !== null && isSame(this.#shown, image));
    return item;
  }
}

/** Under a thumbnail. @param {import("../link.js").Image} image */
function shortName({ seed, psi, recipe }) {
  return `${recipe?.base ? "own" : seed} · ψ ${shownPsi(psi)}`;
}

/** @param {import("../link.js").Image} image */
export function imageName({ model, seed, psi, classIndex, recipe, shape }) {
  const ofClass = classIndex === null ? "" : ` · class ${classIndex}`;
  const source = recipe?.base ? "own latent" : `seed ${seed}`;
  const mixed = recipe?.mix ? ` + ${recipe.mix.seed}` : "";
  return `${model}${ofClass} · ${source}${mixed} · ψ ${shownPsi(psi)}${recipe?.edits ? " · edited" : ""}${shapeName(shape)}`;
}

/** A small picture of what is loaded. @param {import("../picture/layers.js").Layers} layers
 * @param {import("../picture/view.js").Region} frame @returns {string} a data: URL */
export function thumbnailOf(layers, frame) {
  const canvas = create("canvas", THUMBNAIL);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const { x, y } = fit(frame, THUMBNAIL);
  paint(context, layers, { x, y, extent: frame[2] - frame[0] }, THUMBNAIL);
  return canvas.toDataURL("image/jpeg", 0.8);
}
