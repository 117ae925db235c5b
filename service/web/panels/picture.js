// @ts-check
/**
 * The settings of the image: seed, truncation, model and class.
 *
 * @typedef {import("../link.js").Image} Image
 * @typedef {import("../api/client.js").Model} Model
 */

import { element, onClick } from "../dom.js";
import { MAX_SEED, PSI, refusalOf } from "../link.js";
import { clamp } from "../picture/view.js";
import { sentence } from "../text.js";

export class PicturePanel {
  #model = element("model", HTMLSelectElement);
  #class = element("class", HTMLInputElement);
  #className = element("class-name", HTMLSelectElement);
  #seed = element("seed", HTMLInputElement);
  #psi = element("psi", HTMLInputElement);
  #slider = element("psi-slider", HTMLInputElement);
  /** @type {Model[]} */
  #models = [];
  /** @type {Image} the last valid settings */
  #image = { model: "", seed: 0, psi: PSI.initial, classIndex: null };
  /** @type {HTMLElement | null} the field in which the user types, whose text stays as it is */
  #edited = null;

  /** @param {(image: Image, how: import("../history.js").How) => void} onChange
   * @param {(text: string, field: HTMLInputElement) => void} onRefused a number that is none of the service's */
  constructor(onChange, onRefused) {
    this.onChange = onChange;
    this.onRefused = onRefused;
    this.#seed.max = String(MAX_SEED);
    this.#psi.min = String(PSI.low);
    this.#psi.max = String(PSI.high);
    for (const field of [this.#model, this.#class, this.#seed, this.#psi]) {
      field.addEventListener("input", () => this.#read(field));
    }
    this.#model.addEventListener("change", () => this.#show());
    for (const field of [this.#class, this.#seed, this.#psi]) {
      field.addEventListener("change", () => this.#settle(field));
    }
    this.#className.addEventListener("input", () => this.#change({ classIndex: Number(this.#className.value) }, "step"));
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
    const { recipe, ...image } = this.#image;
    this.#image = { ...image, ...ofSeed(recipe) };
    this.#change({ seed: (seed + MAX_SEED + 1) % (MAX_SEED + 1) }, "step");
  }

  setRandomSeed() {
    this.setSeed(crypto.getRandomValues(new Uint32Array(1))[0]);
  }

  /** @param {number} psi */
  #setPsi(psi) {
    this.#change({ psi }, "moving");
  }

  /** @param {Partial<Image>} values @param {import("../history.js").How} how */
  #change(values, how) {
    const { id: _, ...image } = this.#image;
    this.setImage({ ...image, ...values });
    this.onChange(this.#image, how);
  }

  /** @param {HTMLElement} edited */
  #read(edited) {
    const { id: _, ...before } = this.#image;
    const { seed, psi, classIndex, recipe, model, shape } = before;
    const classes = this.#classes(this.#model.value);
    this.#class.max = String(Math.max(classes - 1, 0));
    const typed = (/** @type {HTMLInputElement} */ field) => (this.#accepts(field) ? field.valueAsNumber : null);
    for (const field of [this.#class, this.#seed, this.#psi]) field.ariaInvalid = String(!this.#accepts(field));
    const newSeed = typed(this.#seed) ?? seed;
    const kept = newSeed === seed ? (recipe ? { recipe } : {}) : ofSeed(recipe);
    this.#image = {
      model: this.#model.value,
      seed: newSeed,
      psi: typed(this.#psi) ?? psi,
      classIndex: classes ? (typed(this.#class) ?? clamp(classIndex ?? 0, 0, classes - 1)) : null,
      ...(model === this.#model.value ? kept : {}), // which is of that model
      ...(shape ? { shape } : {}),
    };
    this.#slider.value = String(this.#image.psi);
    this.#showClass();
    if (JSON.stringify(this.#image) === JSON.stringify(before)) return;
    this.#edited = edited;
    this.onChange(this.#image, edited === this.#psi ? "moving" : "step");
    this.#edited = null;
  }

  /** What was refused gives way to what is shown. @param {HTMLInputElement} field */
  #settle(field) {
    const { value, min, max } = field;
    const refused = field.validity.badInput || (value !== "" && !this.#accepts(field));
    this.#show();
    if (refused) this.onRefused(sentence(refusalOf(field.id, Number(min), Number(max), value)), field);
  }

  /** @param {HTMLInputElement} field */
  #accepts(field) {
    const { valueAsNumber: typed, min, max } = field;
    return typed >= Number(min) && typed <= Number(max) && (field === this.#psi || Number.isInteger(typed));
  }

  #show() {
    const { model, seed, psi, classIndex, recipe } = this.#image;
    this.#seed.classList.toggle("replaced", Boolean(recipe?.base)); // by a latent of one's own
    // A stored picture may be of a model that is no longer served.
    if (![...this.#model.options].some(({ value }) => value === model)) this.#model.add(new Option(model, model));
    this.#model.value = model;
    this.#slider.value = String(psi);
    this.#write(this.#seed, seed);
    this.#write(this.#psi, Number(psi.toFixed(4)));
    if (classIndex !== null) this.#write(this.#class, classIndex);
    this.#showClass();
  }

  /** @param {HTMLInputElement} field @param {number} value */
  #write(field, value) {
    if (field === this.#edited) return;
    field.value = String(value);
    field.ariaInvalid = "false";
  }

  #showClass() {
    const { model, classIndex } = this.#image;
    const classes = this.#classes(model);
    const names = this.#named(model)?.class_names ?? [];
    element("class-field", HTMLElement).hidden = !classes;
    element("class-range", HTMLElement).textContent = names.length ? "" : `0 – ${classes - 1}`;
    this.#class.max = String(Math.max(classes - 1, 0));
    if (classes && !this.#class.value) this.#class.value = String(classIndex);
    element("class-label", HTMLLabelElement).htmlFor = names.length ? "class-name" : "class";
    this.#class.hidden = names.length > 0;
    this.#className.hidden = names.length === 0;
    if (names.length && this.#className.dataset.model !== model) this.#listClasses(classes, names);
    this.#className.dataset.model = model;
    this.#className.value = String(classIndex);
  }

  /** @param {number} classes @param {string[]} names of the first of them */
  #listClasses(classes, names) {
    const options = Array.from({ length: classes }, (_, index) => new Option(names[index] ?? `class ${index}`, String(index)));
    this.#className.replaceChildren(...options);
  }

  /** @param {string} name */
  #classes(name) {
    return this.#named(name)?.classes ?? 0;
  }

  /** @param {string} name */
  #named(name) {
    return this.#models.find((model) => model.name === name);
  }
}

/** What stays when another seed is asked for: all but a latent in place of the seed.
 * @param {import("../link.js").Recipe | undefined} recipe @returns {{ recipe?: import("../link.js").Recipe }} */
function ofSeed({ base: _, ...recipe } = {}) {
  return Object.keys(recipe).length ? { recipe } : {};
}
