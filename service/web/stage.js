// @ts-check
/**
 * The canvas: shows the pictures that have arrived at their places of the plane, until the right one is there.
 *
 * @typedef {import("./view.js").Region} Region
 * @typedef {import("./view.js").Size} Size
 * @typedef {import("./view.js").View} View
 * @typedef {import("./loader.js").Loaded} Loaded
 *
 * @typedef {{ bitmap: ImageBitmap, picture: string, region: Region, pixel: number }} Layer
 *     a picture on the plane; `pixel` is the side of its pixels in plane units
 */

import { placement, regionOf } from "./view.js";

/** How many pictures are kept: the widest, shown when the view is zoomed out, and the newest. */
const LAYERS = 4;

/** Where nothing has been drawn yet; as --ground of style.css. */
const GROUND = "#0f1013";

export class Stage {
  /** @type {Layer[]} oldest first */
  #layers = [];
  /** @type {View | null} */
  #view = null;
  #frame = 0;

  /** @param {HTMLCanvasElement} canvas */
  constructor(canvas) {
    this.canvas = canvas;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { alpha: false }));
  }

  /** @returns {Size} */
  get size() {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  /** Sets the size of the canvas in pixels; what it shows is kept. @param {Size} size */
  resize({ width, height }) {
    this.canvas.width = width;
    this.canvas.height = height;
    this.#draw(); // at once: the new size has cleared the canvas
  }

  /** @param {View} view */
  look(view) {
    this.#view = view;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  /** Adds a picture. Those of another seed, model, job and so on disappear. @param {Loaded} loaded */
  add({ target, region, bitmap }) {
    const picture = target.job?.id ?? JSON.stringify(target.picture);
    const layer = { bitmap, picture, region, pixel: (region[2] - region[0]) / bitmap.width };
    const same = this.#layers.filter((other) => other.picture === picture);
    const kept = [...prune(same, LAYERS - 1), layer];
    this.#layers.filter((other) => !kept.includes(other)).forEach((other) => other.bitmap.close());
    this.#layers = kept;
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    this.context.fillStyle = GROUND;
    this.context.fillRect(0, 0, this.canvas.width, this.canvas.height);
    if (!this.#view) return;
    const newest = this.#layers.at(-1);
    const layers = newest && this.#isExact(newest, this.#view) ? [newest] : this.#layers;
    const coarseToFine = [...layers].sort((a, b) => b.pixel - a.pixel);
    for (const layer of coarseToFine) this.#drawLayer(layer, this.#view);
  }

  /** @param {Layer} layer @param {View} view */
  #isExact({ bitmap, region }, view) {
    const { width, height } = this.size;
    const shown = regionOf(view, this.size);
    return bitmap.width === width && bitmap.height === height && region.every((value, i) => value === shown[i]);
  }

  /** Draws the pixels that are in view alone: a canvas does not place rectangles of 10⁹ pixels well.
   * @param {Layer} layer @param {View} view */
  #drawLayer({ bitmap, region }, view) {
    const { left, top, width, height } = placement(region, view, this.size);
    const across = visiblePixels(left, width, bitmap.width, this.canvas.width);
    const down = visiblePixels(top, height, bitmap.height, this.canvas.height);
    if (!across || !down) return;
    this.context.imageSmoothingEnabled = true;
    this.context.imageSmoothingQuality = "high";
    this.context.drawImage(
      bitmap,
      across.first,
      down.first,
      across.count,
      down.count,
      across.start,
      down.start,
      across.length,
      down.length,
    );
  }
}

/** Drops all but the widest and the newest. @param {Layer[]} layers oldest first @param {number} count */
function prune(layers, count) {
  const width = (/** @type {Layer} */ { region }) => region[2] - region[0];
  const widest = layers.reduce((best, layer) => (width(layer) > width(best) ? layer : best), layers[0]);
  const newest = layers.filter((layer) => layer !== widest).slice(1 - count);
  return layers.filter((layer) => layer === widest || newest.includes(layer));
}

/** Along one axis: which pixels of a picture are on the canvas, and where; null if none are.
 * @param {number} start where the picture begins on the canvas @param {number} length of the picture on the canvas
 * @param {number} pixels of the picture @param {number} canvas its length */
function visiblePixels(start, length, pixels, canvas) {
  const side = length / pixels;
  const first = Math.max(0, Math.floor(-start / side) - 1); // one more on each side, for smoothing
  const last = Math.min(pixels, Math.ceil((canvas - start) / side) + 1);
  if (first >= last) return null;
  return { first, count: last - first, start: start + first * side, length: (last - first) * side };
}
