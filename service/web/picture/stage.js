// @ts-check
/**
 * Draws the loaded images at their places on the plane.
 *
 * @typedef {import("./view.js").Size} Size
 * @typedef {import("./view.js").View} View
 * @typedef {import("./layers.js").Layer} Layer
 */

import { uncovered } from "./coverage.js";
import { rectOf, scaleOf } from "./grid.js";
import { pixelSize, placement, turnPoint } from "./view.js";

export class Stage {
  /** @type {View | null} */
  #view = null;
  /** @type {import("./sources.js").Source | null} */
  #source = null;
  #frame = 0;

  /** @param {HTMLCanvasElement} canvas @param {import("./layers.js").Layers} layers */
  constructor(canvas, layers) {
    this.canvas = canvas;
    this.layers = layers;
    this.context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  }

  /** @returns {Size} */
  get size() {
    return { width: this.canvas.width, height: this.canvas.height };
  }

  /** Set the size of the canvas in pixels, keeping its content. @param {Size} size */
  resize({ width, height }) {
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.canvas.width = width;
    this.canvas.height = height;
    this.#draw(); // immediately: resizing has cleared the canvas
  }

  /** @param {View} view @param {import("./sources.js").Source} source of which the layers may be an older state */
  look(view, source) {
    this.#view = view;
    this.#source = source;
    this.redraw();
  }

  /** Draw again, because the layers are others. */
  redraw() {
    this.#frame ||= requestAnimationFrame(() => this.#draw());
  }

  #draw() {
    cancelAnimationFrame(this.#frame);
    this.#frame = 0;
    if (!this.#view || !this.#source) return;
    const turn = this.layers.turnTo(this.#source) ?? 0;
    if (turn) paintTurned(this.context, this.layers, this.#view, this.size, turn);
    else paint(this.context, this.layers, this.#view, this.size);
  }
}

/** Draw a view from coarse to fine, only the finest if that is all of it.
 * @param {CanvasRenderingContext2D} context @param {import("./layers.js").Layers} layers @param {View} view
 * @param {Size} size */
export function paint(context, layers, view, size) {
  context.clearRect(0, 0, size.width, size.height);
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  const scale = scaleOf(view, size);
  const all = layers.all;
  const exact = all.filter((layer) => layer.scale === scale);
  const complete = uncovered(rectOf(view, size, scale), exact.map(({ rect }) => rect)).length === 0;
  for (const layer of complete ? exact : all) drawLayer(context, layer, view, size);
}

/** Draw a view of the layers turned about the middle of the unit square.
 * @param {CanvasRenderingContext2D} context @param {import("./layers.js").Layers} layers @param {View} view
 * @param {Size} size @param {number} degrees clockwise */
function paintTurned(context, layers, view, size, degrees) {
  const side = Math.ceil(Math.hypot(size.width, size.height)); // of a square that covers the canvas at any angle
  const centre = turnPoint(view, -degrees);
  context.clearRect(0, 0, size.width, size.height);
  context.save();
  context.translate(size.width / 2, size.height / 2);
  context.rotate((degrees * Math.PI) / 180);
  context.translate(-side / 2, -side / 2);
  paint(context, layers, { ...centre, extent: pixelSize(view, size) * side }, { width: side, height: side });
  context.restore();
}

/** Draw only the visible pixels: canvases are inaccurate for rectangles of 10⁹ pixels.
 * @param {CanvasRenderingContext2D} context @param {Layer} layer @param {View} view @param {Size} size */
function drawLayer(context, { bitmap, region }, view, size) {
  const { left, top, width, height } = placement(region, view, size);
  const across = visiblePixels(left, width, bitmap.width, size.width);
  const down = visiblePixels(top, height, bitmap.height, size.height);
  if (!across || !down) return;
  context.drawImage(
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

/** The visible pixels of an image along one axis, and their position on the canvas; null if there are none.
 * @param {number} start where the image begins on the canvas @param {number} length of the image on the canvas
 * @param {number} pixels of the image @param {number} canvas its length */
function visiblePixels(start, length, pixels, canvas) {
  const side = length / pixels;
  const first = Math.max(0, Math.floor(-start / side) - 1); // one more on each side, for smoothing
  const last = Math.min(pixels, Math.ceil((canvas - start) / side) + 1);
  if (first >= last) return null;
  const [from, to] = [start + first * side, start + last * side].map((place) => whole(place));
  return { first, count: last - first, start: from, length: to - from };
}

/** Views lie on pixels up to rounding, which must not blur them. @param {number} place */
function whole(place) {
  const nearest = Math.round(place);
  return Math.abs(place - nearest) < 1e-3 ? nearest : place;
}
