// @ts-check
/**
 * The fields that say which picture is shown: seed, truncation, model and class.
 *
 * @typedef {import("./link.js").Picture} Picture
 * @typedef {import("./api.js").Model} Model
 */

import { element, onClick } from "./dom.js";
import { MAX_SEED, PSI } from "./link.js";
import { clamp } from "./view.js";

export class Panel {
  #model = element("model", HTMLSelectElement);
  #class = element("class", HTMLInputElement);
  #seed = element("seed", HTMLInputElement);
  #psi = element("psi", HTMLInputElement);
  /** @type {Model[]} */
  #models = [];
  /** @type {Picture} what the fields say, or said before they held nonsense */
  #picture = { model: "", seed: 0, psi: PSI.initial, classIndex: null };

  /** @param {(picture: Picture) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.#seed.max = String(MAX_SEED);
    this.#psi.min = String(PSI.low);
    this.#psi.max = String(PSI.high);
    for (const field of [this.#model, this.#class, this.#seed, this.#psi]) {
      field.addEventListener("input", () => this.#read());
      field.addEventListener("change", () => this.#show()); // what was refused gives way to what is shown
    }
    onClick("previous", () => this.setSeed(this.#picture.seed - 1));
    onClick("next", () => this.setSeed(this.#picture.seed + 1));
    onClick("random", () => this.setRandomSeed());
  }

  /** @param {Model[]} models */
  setModels(models) {
    this.#models = models;
    this.#model.replaceChildren(...models.map(({ name }) => new Option(name, name)));
  }

  /** @param {Picture} picture */
  setPicture(picture) {
    this.#picture = picture;
    this.#show();
  }

  /** @param {number} seed beyond the last comes the first */
  setSeed(seed) {
    this.setPicture({ ...this.#picture, seed: (seed + MAX_SEED + 1) % (MAX_SEED + 1) });
    this.onChange(this.#picture);
  }

  setRandomSeed() {
    this.setSeed(crypto.getRandomValues(new Uint32Array(1))[0]);
  }

  #read() {
    const { seed, classIndex } = this.#picture;
    const classes = this.#classes(this.#model.value);
    this.#picture = {
      model: this.#model.value,
      seed: wholeNumber(this.#seed, MAX_SEED) ?? seed,
      psi: this.#psi.valueAsNumber,
      classIndex: classes ? (wholeNumber(this.#class, classes - 1) ?? clamp(classIndex ?? 0, 0, classes - 1)) : null,
    };
    this.#showClass();
    this.#showPsi();
    this.onChange(this.#picture);
  }

  #show() {
    const { model, seed, psi, classIndex } = this.#picture;
    this.#model.value = model;
    this.#seed.value = String(seed);
    this.#psi.value = String(psi);
    if (classIndex !== null) this.#class.value = String(classIndex);
    this.#showClass();
    this.#showPsi();
  }

  #showClass() {
    const classes = this.#classes(this.#picture.model);
    element("class-field", HTMLElement).hidden = !classes;
    element("class-range", HTMLElement).textContent = classes ? `0 – ${classes - 1}` : "";
    this.#class.max = String(Math.max(classes - 1, 0));
    if (classes && !this.#class.value) this.#class.value = String(this.#picture.classIndex);
  }

  #showPsi() {
    element("psi-value", HTMLOutputElement).value = this.#picture.psi.toFixed(2).replace("-", "−");
    const share = (this.#picture.psi - PSI.low) / (PSI.high - PSI.low);
    this.#psi.style.setProperty("--share", String(share));
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
