// @ts-check
/**
 * The settings of the image: seed, truncation, model and class.
 *
 * @typedef {import("../link.js").Image} Image
 * @typedef {import("../api/client.js").Model} Model
 */

import { element, onClick } from "../dom.js";
import { MAX_SEED, PSI } from "../link.js";
import { clamp } from "../picture/view.js";

export class PicturePanel {
  #model = element("model", HTMLSelectElement);
  #class = element("class", HTMLInputElement);
  #seed = element("seed", HTMLInputElement);
  #psi = element("psi", HTMLInputElement);
  #slider = element("psi-slider", HTMLInputElement);
  /** @type {Model[]} */
  #models = [];
  /** @type {Image} the last valid settings */
  #image = { model: "", seed: 0, psi: PSI.initial, classIndex: null };

  /** @param {(image: Image, whileMoving: boolean) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.#seed.max = String(MAX_SEED);
    this.#psi.min = String(PSI.low);
    this.#psi.max = String(PSI.high);
    for (const field of [this.#model, this.#class, this.#seed, this.#psi]) {
      field.addEventListener("input", () => this.#read(field === this.#psi));
      field.addEventListener("change", () => this.#show()); // what was refused gives way to what is shown
    }
    this.#slider.addEventListener("input", () => this.#setPsi(this.#slider.valueAsNumber));
    this.#slider.addEventListener("dblclick", () => this.#setPsi(PSI.initial));
    onClick("previous", () => this.setSeed(this.#image.seed - 1));
    onClick("next", () => this.setSeed(this.#image.seed + 1));
    onClick("random", () => this.setRandomSeed());
  }

  /** @param {Model[]} models */
  setModels(models) {
    this.#models = models;
    this.#model.replaceChildren(...models.map(({ name }) => new Option(name, name)));
  }

  /** @param {Image} image */
  setImage(image) {
    this.#image = image;
    this.#show();
  }

  /** @param {number} seed beyond the last comes the first */
  setSeed(seed) {
    this.#change({ seed: (seed + MAX_SEED + 1) % (MAX_SEED + 1) }, false);
  }

  setRandomSeed() {
    this.setSeed(crypto.getRandomValues(new Uint32Array(1))[0]);
  }

  /** @param {number} psi */
  #setPsi(psi) {
    this.#change({ psi }, true);
  }

  /** @param {Partial<Image>} values @param {boolean} whileMoving */
  #change(values, whileMoving) {
    this.setImage({ ...this.#image, ...values });
    this.onChange(this.#image, whileMoving);
  }

  /** @param {boolean} whileMoving */
  #read(whileMoving) {
    const { seed, psi, classIndex } = this.#image;
    const classes = this.#classes(this.#model.value);
    const typed = this.#psi.valueAsNumber;
    this.#image = {
      model: this.#model.value,
      seed: wholeNumber(this.#seed, MAX_SEED) ?? seed,
      psi: typed >= PSI.low && typed <= PSI.high ? typed : psi,
      classIndex: classes ? (wholeNumber(this.#class, classes - 1) ?? clamp(classIndex ?? 0, 0, classes - 1)) : null,
    };
    this.#slider.value = String(this.#image.psi);
    this.#showClass();
    this.onChange(this.#image, whileMoving);
  }

  #show() {
    const { model, seed, psi, classIndex } = this.#image;
    // A stored picture may be of a model that is no longer served.
    if (![...this.#model.options].some(({ value }) => value === model)) this.#model.add(new Option(model, model));
    this.#model.value = model;
    this.#seed.value = String(seed);
    this.#psi.value = String(Number(psi.toFixed(4)));
    this.#slider.value = String(psi);
    if (classIndex !== null) this.#class.value = String(classIndex);
    this.#showClass();
  }

  #showClass() {
    const classes = this.#classes(this.#image.model);
    element("class-field", HTMLElement).hidden = !classes;
    element("class-range", HTMLElement).textContent = classes ? `0 – ${classes - 1}` : "";
    this.#class.max = String(Math.max(classes - 1, 0));
    if (classes && !this.#class.value) this.#class.value = String(this.#image.classIndex);
  }

  /** @param {string} name */
  #classes(name) {
    return this.#models.find((model) => model.name === name)?.classes ?? 0;
  }
}

/** The whole number that a field holds; null if there is none from 0 to `high`.
 * @param {HTMLInputElement} field @param {number} high */
function wholeNumber({ valueAsNumber }, high) {
  return Number.isInteger(valueAsNumber) && valueAsNumber >= 0 && valueAsNumber <= high ? valueAsNumber : null;
}
