// @ts-check
/**
 * Another seed that is mixed in, in all styles or in some groups of them.
 *
 * @typedef {import("../link.js").Mix} Mix
 */

import { create, element } from "../dom.js";
import { MAX_SEED } from "../link.js";

export class MixPanel {
  #seed = element("mix-seed", HTMLInputElement);
  #weight = element("mix", HTMLInputElement);
  #output = element("mix-value", HTMLOutputElement);
  #groups = element("mix-groups", HTMLElement);
  #styles = 0;
  /** @type {Set<string>} ranges of the groups that are mixed in */
  #chosen = new Set();

  /** @param {(mix: Mix | undefined, isMoving: boolean) => void} onChange */
  constructor(onChange) {
    this.onChange = onChange;
    this.#seed.max = String(MAX_SEED);
    this.#weight.addEventListener("input", () => this.#change(true));
    this.#seed.addEventListener("input", () => this.#change(false));
  }

  /** The fields as they are, with another weight; undefined where the seed is none. @param {number} weight
   * @returns {Mix | undefined} */
  at(weight) {
    const seed = this.#seed.valueAsNumber;
    this.#seed.ariaInvalid = String(!isSeed(seed));
    if (!isSeed(seed)) return undefined;
    const all = this.#chosen.size === this.#groups.children.length;
    return { seed, weight, ...(all ? {} : { layers: [...this.#chosen].join(",") }) };
  }

  /** @param {number} styles of the model @param {Mix | undefined} mix */
  show(styles, mix) {
    if (styles && styles !== this.#styles) this.#list(styles);
    this.showWeight(mix?.weight ?? 0);
    if (!mix) return;
    if (this.#seed !== document.activeElement) this.#seed.value = String(mix.seed);
    const ranges = this.#ranges;
    const layers = mix.layers?.split(",");
    this.#choose(layers ? ranges.filter((range) => layers.includes(range)) : ranges);
  }

  /** @param {number} weight */
  showWeight(weight) {
    this.#weight.value = String(weight);
    this.#output.value = weight ? `${Math.round(100 * weight)} %` : "";
  }

  get #ranges() {
    return /** @type {HTMLButtonElement[]} */ ([...this.#groups.children]).map(({ value }) => value);
  }

  /** @param {boolean} isMoving */
  #change(isMoving) {
    const weight = this.#weight.valueAsNumber;
    const mix = this.at(weight);
    if (mix) this.onChange(weight ? mix : undefined, isMoving);
  }

  /** @param {number} styles */
  #list(styles) {
    this.#styles = styles;
    const buttons = groupsOf(styles).map(({ name, range, about }) => {
      const button = create("button", { type: "button", className: "chip", textContent: name, value: range, title: about });
      button.addEventListener("click", () => this.#toggle(range));
      return button;
    });
    this.#groups.replaceChildren(...buttons);
    this.#choose(this.#ranges);
  }

  /** The last group stays. @param {string} range */
  #toggle(range) {
    const chosen = this.#ranges.filter((each) => this.#chosen.has(each) !== (each === range));
    if (chosen.length === 0) return;
    this.#choose(chosen);
    this.#change(false);
  }

  /** @param {string[]} ranges */
  #choose(ranges) {
    this.#chosen = new Set(ranges);
    for (const button of /** @type {HTMLButtonElement[]} */ ([...this.#groups.children])) {
      button.ariaPressed = String(this.#chosen.has(button.value));
    }
  }
}

/** @param {number} seed */
function isSeed(seed) {
  return Number.isInteger(seed) && seed >= 0 && seed <= MAX_SEED;
}

/** Groups of the styles of a network with K blocks, which has 2K + 1: not by size, as every block works at full size.
 * @param {number} styles */
function groupsOf(styles) {
  const blocks = Math.floor((styles - 1) / 2);
  return [
    { name: "Layout", range: "0", about: "where things are: style 0" },
    { name: "Form", range: `1-${blocks}`, about: `their form: styles 1 to ${blocks}` },
    { name: "Detail", range: `${blocks + 1}-${styles - 2}`, about: `fine detail: styles ${blocks + 1} to ${styles - 2}` },
    { name: "Tone", range: `${styles - 1}`, about: `light and colour: style ${styles - 1}` },
  ];
}
