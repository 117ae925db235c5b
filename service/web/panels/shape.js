// @ts-check
/**
 * The shape of the picture: turned, mirrored, bent, what lies outside, and whether it repeats without a seam.
 *
 * @typedef {import("../shape.js").Shape} Shape
 * @typedef {import("../history.js").How} How
 */

import { element, onClick } from "../dom.js";
import { minus } from "../numbers.js";
import { NUMBERS, looksAround, tidyShape, turned } from "../shape.js";

const SLIDERS = ["fov", "yaw", "lens", "swirl"];
const SELECTS = ["bend", "outside"];

/** Buttons that mirror the picture, or let it repeat, along an axis. */
const AXES = [
  { name: "mirror", axis: "x", id: "mirror-x" },
  { name: "mirror", axis: "y", id: "mirror-y" },
  { name: "wrap", axis: "x", id: "wrap-x" },
  { name: "wrap", axis: "y", id: "wrap-y" },
];

export class ShapePanel {
  #rotate = element("rotate", HTMLInputElement);
  #slider = element("rotate-slider", HTMLInputElement);
  /** @type {Shape | undefined} */
  #shape;

  /** @param {(shape: Shape | undefined, how: How) => void} onChange @param {() => void} onShowTiles */
  constructor(onChange, onShowTiles) {
    this.onChange = onChange;
    for (const name of SLIDERS) this.#listen(element(name, HTMLInputElement), name);
    this.#listen(this.#slider, "rotate");
    this.#rotate.addEventListener("input", () => this.#read());
    this.#rotate.addEventListener("change", () => this.show(this.#shape));
    for (const name of SELECTS) {
      const field = element(name, HTMLSelectElement);
      field.addEventListener("input", () => this.#change({ [name]: field.value }, "step"));
    }
    for (const { name, axis, id } of AXES) onClick(id, () => this.#toggle(name, axis));
    onClick("turn-left", () => this.#set(turned(this.#shape, -90), "step"));
    onClick("turn-right", () => this.#set(turned(this.#shape, 90), "step"));
    onClick("shape-reset", () => this.#set(undefined, "step"));
    onClick("show-tiles", onShowTiles);
  }

  /** @param {Shape | undefined} shape of the image that the page shows */
  show(shape) {
    this.#shape = shape;
    const values = /** @type {Record<string, string | number | undefined>} */ (shape ?? {});
    for (const name of [...SLIDERS, "rotate"]) {
      const slider = name === "rotate" ? this.#slider : element(name, HTMLInputElement);
      slider.value = String(values[name] ?? NUMBERS[name].usual);
    }
    for (const name of SLIDERS) {
      const value = Number(values[name] ?? NUMBERS[name].usual);
      const isUsual = values[name] === undefined && NUMBERS[name].usual === 0;
      element(`${name}-value`, HTMLOutputElement).value = isUsual ? "" : minus(String(value)) + (name === "lens" ? "" : "°");
    }
    if (this.#rotate !== document.activeElement || this.#rotate.valueAsNumber !== (shape?.rotate ?? 0)) {
      this.#rotate.value = String(shape?.rotate ?? 0);
    }
    this.#rotate.ariaInvalid = "false";
    for (const name of SELECTS) element(name, HTMLSelectElement).value = String(values[name] ?? "");
    for (const { name, axis, id } of AXES) {
      element(id, HTMLButtonElement).ariaPressed = String(String(values[name] ?? "").includes(axis));
    }
    element("look-around", HTMLElement).hidden = !looksAround(values);
    element("outside", HTMLSelectElement).disabled = shape?.wrap === "xy"; // there is no outside
    element("show-tiles", HTMLButtonElement).disabled = !shape?.wrap;
    element("shape-reset", HTMLButtonElement).disabled = !shape;
  }

  /** @param {HTMLInputElement} slider @param {string} name */
  #listen(slider, name) {
    const { low, high, usual } = NUMBERS[name];
    Object.assign(slider, { min: String(low), max: String(high), title: `Double click for ${usual}` });
    slider.addEventListener("input", () => this.#change({ [name]: slider.valueAsNumber }, "moving"));
    slider.addEventListener("dblclick", () => this.#change({ [name]: usual }, "moving"));
  }

  #read() {
    const { low, high } = NUMBERS.rotate;
    const degrees = this.#rotate.valueAsNumber;
    const isValid = degrees >= low && degrees <= high;
    this.#rotate.ariaInvalid = String(!isValid);
    if (isValid) this.#change({ rotate: degrees }, "moving");
  }

  /** @param {string} name @param {string} axis */
  #toggle(name, axis) {
    const axes = String(/** @type {Record<string, unknown>} */ (this.#shape ?? {})[name] ?? "");
    this.#change({ [name]: ["x", "y"].filter((each) => axes.includes(each) !== (each === axis)).join("") }, "step");
  }

  /** @param {Record<string, unknown>} values @param {How} how */
  #change(values, how) {
    this.#set(tidyShape({ ...this.#shape, ...values }), how);
  }

  /** @param {Shape | undefined} shape @param {How} how */
  #set(shape, how) {
    this.show(shape);
    this.onChange(shape, how);
  }
}
