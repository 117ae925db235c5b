// @ts-check
/**
 * What is changed in the latent of a seed: steps along directions, a second seed, or a latent of one's own in its place.
 *
 * @typedef {import("../link.js").Image} Image
 * @typedef {import("../link.js").Recipe} Recipe
 * @typedef {import("../api/client.js").Direction} Direction
 */

import { Problem, sleep } from "../api/client.js";
import { create, element, onClick } from "../dom.js";
import { MAX_SEED } from "../link.js";
import { clamp } from "../picture/view.js";

const STRONGEST = 8; // directions that are shown
const RANGE = 3; // of a slider, in standard deviations
const POLL_MILLISECONDS = 700;

export class LatentsPanel {
  #list = element("directions", HTMLElement);
  #told = element("latents-told", HTMLElement);
  #mixSeed = element("mix-seed", HTMLInputElement);
  #mix = element("mix", HTMLInputElement);
  #file = element("latent-file", HTMLInputElement);
  /** @type {Map<string, HTMLInputElement>} sliders by the names of their directions */
  #sliders = new Map();
  /** @type {Image | null} */
  #image = null;
  /** The model whose directions are listed, or looked for. */
  #model = "";
  #searching = new AbortController();
  #projecting = new AbortController();

  /** @param {import("../api/client.js").Api} api @param {import("../api/latents.js").Latents} latents
   * @param {(image: Image, whileMoving: boolean) => void} onChange */
  constructor(api, latents, onChange) {
    this.api = api;
    this.latents = latents;
    this.onChange = onChange;
    this.#mixSeed.max = String(MAX_SEED);
    this.#mix.addEventListener("input", () => this.#setMix(true));
    this.#mixSeed.addEventListener("input", () => this.#setMix(false));
    this.#file.addEventListener("change", () => this.#open());
    onClick("latents-reset", () => this.#change({ mix: undefined, edits: undefined }, false));
    onClick("latent-drop", () => this.#change({ base: undefined }, false));
    onClick("projection-cancel", () => this.#projecting.abort());
    element("tab-latents", HTMLElement).addEventListener("selected", () => this.#find());
  }

  /** The page shows another image. @param {Image} image */
  setImage(image) {
    this.#image = image;
    if (image.model !== this.#model && this.#isOpen) this.#find();
    else this.#show();
  }

  get #isOpen() {
    return !element("panel-latents", HTMLElement).hidden;
  }

  get #recipe() {
    return this.#image?.recipe ?? {};
  }

  /** List the directions of the model, which a worker may have to look for first. */
  async #find() {
    const model = this.#image?.model;
    if (!model || model === this.#model) return;
    this.#model = model;
    this.#searching.abort();
    const { signal } = (this.#searching = new AbortController());
    this.#sliders.clear();
    this.#list.replaceChildren();
    this.#told.textContent = "Looking for directions: seconds, or minutes for a large model …";
    try {
      const found = await this.api.directions(model, signal);
      this.#list.replaceChildren(...found.slice(0, STRONGEST).map((direction) => this.#item(direction)));
      this.#told.textContent = found.length ? "" : "This model has no directions of its own.";
    } catch (error) {
      if (signal.aborted) return;
      this.#model = ""; // try again when the panel is opened
      this.#told.textContent = /** @type {Error} */ (error).message;
    }
    this.#show();
  }

  /** @param {Direction} direction */
  #item(direction) {
    const { name } = direction;
    const slider = create("input", {
      type: "range",
      id: `direction-${name}`,
      min: String(-RANGE),
      max: String(RANGE),
      step: "0.05",
      value: "0",
      title: "Double click for 0",
    });
    slider.addEventListener("input", () => this.#setEdit(name, slider.valueAsNumber));
    slider.addEventListener("dblclick", () => this.#setEdit(name, 0));
    this.#sliders.set(name, slider);
    const label = create("label", { htmlFor: slider.id, textContent: name }, create("span", { className: "muted", textContent: ` ${describe(direction)}` }));
    const value = create("output", { htmlFor: slider.id });
    return create("div", { className: "field" }, create("div", { className: "field-head" }, label, value), slider);
  }

  /** @param {string} name @param {number} amount */
  #setEdit(name, amount) {
    const { [name]: _, ...others } = this.#recipe.edits ?? {};
    const edits = amount ? { ...others, [name]: amount } : others;
    this.#change({ edits: Object.keys(edits).length ? edits : undefined }, true);
  }

  /** @param {boolean} whileMoving */
  #setMix(whileMoving) {
    const seed = this.#mixSeed.valueAsNumber;
    const weight = this.#mix.valueAsNumber;
    if (!Number.isInteger(seed) || seed < 0 || seed > MAX_SEED) return;
    this.#change({ mix: weight ? { seed, weight } : undefined }, whileMoving);
  }

  /** @param {Recipe} values @param {boolean} whileMoving */
  #change(values, whileMoving) {
    if (!this.#image) return;
    const { recipe: _, id: __, ...image } = this.#image;
    const recipe = Object.fromEntries(Object.entries({ ...this.#recipe, ...values }).filter(([, value]) => value !== undefined));
    this.#image = Object.keys(recipe).length ? { ...image, recipe } : image;
    this.#show();
    this.onChange(this.#image, whileMoving);
  }

  #show() {
    const { base, mix, edits = {} } = this.#recipe;
    for (const [name, slider] of this.#sliders) {
      const amount = edits[name] ?? 0;
      slider.value = String(clamp(amount, -RANGE, RANGE));
      const output = slider.parentElement?.querySelector("output");
      if (output) output.textContent = amount ? amount.toFixed(2).replace("-", "−") : "";
    }
    this.#mix.value = String(mix?.weight ?? 0);
    if (mix) this.#mixSeed.value = String(mix.seed);
    element("latent-own", HTMLElement).hidden = !base;
    element("latents-reset", HTMLButtonElement).disabled = !mix && !Object.keys(edits).length;
  }

  /** Show the latent in a file, or of a picture. */
  async #open() {
    const file = this.#file.files?.[0];
    const model = this.#image?.model;
    if (!file || !model) return;
    this.#file.value = ""; // so that the same file can be chosen again
    this.#told.textContent = `Reading ${file.name} …`;
    try {
      const base = file.type.startsWith("image/") ? await this.#project(model, file) : await this.latents.upload(model, file);
      if (base && this.#image?.model === model) this.#change({ base }, false);
    } catch (error) {
      if (!(error instanceof Problem)) throw error;
      this.#told.textContent = error.message;
    }
  }

  /** Find the latent of a picture, and show how it comes nearer. @param {string} model @param {File} file
   * @returns {Promise<string | null>} its id; null if the search was cancelled */
  async #project(model, file) {
    this.#projecting.abort();
    const { signal } = (this.#projecting = new AbortController());
    const headers = { "Content-Type": file.type };
    const ordered = await this.api.send("POST", `v1/projections?model=${encodeURIComponent(model)}`, { file, headers });
    let projection = await ordered.json();
    const address = `v1/projections/${projection.id}`;
    const cancel = element("projection-cancel", HTMLElement);
    cancel.hidden = false;
    let shown = "";
    try {
      while (projection.state === "queued" || projection.state === "running") {
        const { steps_done, steps, latent } = projection;
        this.#told.textContent = steps_done ? `Looking for the picture: step ${steps_done} of ${steps}` : "The picture waits for a worker …";
        if (latent && latent !== shown && this.#image?.model === model) this.#change({ base: (shown = latent) }, true);
        await sleep(POLL_MILLISECONDS, signal);
        projection = await (await this.api.send("GET", address)).json();
      }
    } catch (error) {
      if (!signal.aborted) throw error;
      await this.api.send("DELETE", address);
      this.#told.textContent = "Cancelled: this is how near it came.";
      return null;
    } finally {
      cancel.hidden = true;
    }
    if (projection.state !== "succeeded") throw new Problem(0, projection.error ?? "The search was cancelled.");
    this.#told.textContent = `Found, within ${projection.psnr.toFixed(1)} dB.`;
    return projection.latent;
  }
}

/** What a step along a direction does, as far as it can be told in words. @param {Direction} direction */
function describe({ layers, effect, luma, chroma }) {
  const words = [];
  if (Math.abs(luma) > effect / 4) words.push(luma > 0 ? "brighter" : "darker");
  if (Math.abs(chroma) > effect / 8) words.push(chroma > 0 ? "more colour" : "less colour");
  if (!words.length) words.push("form");
  return `${words.join(", ")} · ${layers.length === 1 ? `style ${layers[0]}` : "all styles"}`;
}
