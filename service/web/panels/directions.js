// @ts-check
/**
 * Sliders for the strongest directions of a model.
 *
 * @typedef {import("../api/client.js").Direction} Direction
 */

import { create, element } from "../dom.js";
import { minus } from "../numbers.js";
import { clamp } from "../picture/view.js";

const STRONGEST = 8; // directions that are shown
const RANGE = 3; // of a slider, in standard deviations

export class Directions {
  #list = element("directions", HTMLElement);
  #told = element("directions-told", HTMLElement);
  /** @type {Map<string, { slider: HTMLInputElement, output: HTMLOutputElement }>} by the names of their directions */
  #fields = new Map();
  /** @type {Record<string, number>} */
  #edits = {};
  /** The model whose directions are listed, or looked for. */
  #model = "";
  #searching = new AbortController();

  /** @param {import("../api/client.js").Api} api
   * @param {(edits: Record<string, number> | undefined) => void} onChange while a slider moves */
  constructor(api, onChange) {
    this.api = api;
    this.onChange = onChange;
  }

  /** List the directions of a model, which a worker may have to look for first. @param {string} model */
  async find(model) {
    if (model === this.#model) return;
    this.#model = model;
    this.#searching.abort();
    const { signal } = (this.#searching = new AbortController());
    this.#fields.clear();
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
    this.show(this.#edits);
  }

  /** @param {Record<string, number>} edits */
  show(edits) {
    this.#edits = edits;
    for (const [name, { slider, output }] of this.#fields) {
      const amount = edits[name] ?? 0;
      slider.value = String(clamp(amount, -RANGE, RANGE));
      output.value = amount ? minus(amount.toFixed(2)) : "";
    }
  }

  /** @param {Direction} direction */
  #item(direction) {
    const { name, label: given } = direction;
    const slider = create("input", {
      type: "range",
      id: `direction-${name}`,
      min: String(-RANGE),
      max: String(RANGE),
      step: "0.05",
      value: "0",
      title: "Double click for 0",
    });
    slider.addEventListener("input", () => this.#set(name, slider.valueAsNumber));
    slider.addEventListener("dblclick", () => this.#set(name, 0));
    const about = create("span", { className: "muted", textContent: ` ${describe(direction)}` });
    const label = create("label", { htmlFor: slider.id, textContent: given ?? name }, about);
    label.title = given ? name : "creps directions --name gives it a name";
    const output = create("output");
    output.htmlFor.value = slider.id;
    this.#fields.set(name, { slider, output });
    return create("div", { className: "field" }, create("div", { className: "field-head" }, label, output), slider);
  }

  /** @param {string} name @param {number} amount */
  #set(name, amount) {
    const { [name]: _, ...others } = this.#edits;
    const edits = amount ? { ...others, [name]: amount } : others;
    this.onChange(Object.keys(edits).length ? edits : undefined);
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
