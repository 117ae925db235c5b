// @ts-check
/**
 * The images of one picture that are loaded: each is a rectangle of pixels of a scale.
 *
 * @typedef {import("./grid.js").Rect} Rect
 * @typedef {import("./view.js").Region} Region
 * @typedef {import("./sources.js").Source} Source
 *
 * @typedef {object} Layer
 * @property {number} scale
 * @property {Rect} rect
 * @property {Region} region that the bitmap shows; of a stored picture slightly more than the rectangle
 * @property {ImageBitmap} bitmap
 */

import { rescale } from "./grid.js";

/** Most pixels that are kept, four bytes each, besides the widest image, which is shown after zooming out. */
const MAX_PIXELS = 24e6;

export class Layers {
  /** @type {Layer[]} oldest first */
  #layers = [];
  /** @type {Source | null} */
  #source = null;

  /** Key of the source. */
  get source() {
    return this.#source?.key ?? null;
  }

  /** @param {Source} source the images of another one are dropped @param {Layer} layer */
  add(source, layer) {
    if (source.key !== this.source) this.clear();
    this.#source = source;
    this.#layers.push(layer);
    this.#prune();
  }

  clear() {
    this.#layers.forEach(({ bitmap }) => bitmap.close());
    this.#layers = [];
    this.#source = null;
  }

  /** Degrees by which the images must be turned to show a source; null if they are of another picture.
   * @param {Source} source */
  turnTo({ upright, turn }) {
    return upright === this.#source?.upright ? turn - this.#source.turn : null;
  }

  /** From coarse to fine. */
  get all() {
    return [...this.#layers].sort((a, b) => a.scale - b.scale);
  }

  /** Rectangles of a scale that are loaded in it. @param {string} source @param {number} scale @returns {Rect[]} */
  at(source, scale) {
    if (source !== this.source) return [];
    return this.#layers.filter((layer) => layer.scale === scale).map(({ rect }) => rect);
  }

  /** Rectangles of a scale that are loaded in it or in a finer one. @param {string} source @param {number} scale
   * @returns {Rect[]} */
  asFineAs(source, scale) {
    if (source !== this.source) return [];
    return this.#layers.filter((layer) => layer.scale >= scale).map((layer) => rescale(layer.rect, layer.scale, scale));
  }

  #prune() {
    const width = (/** @type {Layer} */ { region }) => region[2] - region[0];
    const widest = this.#layers.reduce((best, layer) => (width(layer) > width(best) ? layer : best));
    let pixels = 0;
    const kept = [...this.#layers].reverse().filter((layer) => {
      pixels += layer.bitmap.width * layer.bitmap.height;
      return pixels <= MAX_PIXELS || layer === widest || layer === this.#layers.at(-1);
    });
    this.#layers.filter((layer) => !kept.includes(layer)).forEach(({ bitmap }) => bitmap.close());
    this.#layers = kept.reverse();
  }
}
