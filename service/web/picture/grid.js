// @ts-check
/**
 * Scales. Each is one large picture of the whole plane, and views lie on its pixels: so whoever comes back to a place,
 * here or in another browser, asks for the same pixels at the same address.
 *
 * @typedef {import("./view.js").Region} Region
 * @typedef {import("./view.js").Size} Size
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Point} Point
 *
 * @typedef {{ x: number, y: number, width: number, height: number }} Rect pixels of the large picture of a scale
 */

import { BOUNDS, MIN_EXTENT, clamp, clampView, pixelSize, zoom } from "./view.js";

/** Scales for each doubling, an eighth of an octave apart, so that a view moves by at most 4 % to the nearest. */
export const OCTAVE = 8;

/** A step of the zoom by keys and buttons, in scales. */
export const ZOOM_STEP = OCTAVE / 2;

/** Pixels of the plane's side, 256 · 2^(i/8) in whole numbers: a scale has exactly twice those of the one an octave before. */
const SIDES = [256, 279, 304, 332, 362, 395, 431, 470];

const SPAN = BOUNDS.high - BOUNDS.low;

/** Longest side of a picture that the service takes, and the distance of those that replace a longer one. */
const MAX_SIDE = 2 ** 18;
const CELL = 2 ** 16;

/** Pixels of the plane's side. @param {number} scale whole, from 0 */
export function sideOf(scale) {
  return SIDES[scale % OCTAVE] * 2 ** Math.floor(scale / OCTAVE);
}

/** Side of a pixel in plane units. @param {number} scale */
export function pixelOf(scale) {
  return SPAN / sideOf(scale);
}

/** The scale with pixels nearest to this side. @param {number} pixel in plane units */
export function nearestScale(pixel) {
  const near = Math.floor(OCTAVE * Math.log2(SPAN / (pixel * SIDES[0])));
  const distance = (/** @type {number} */ scale) => Math.abs(Math.log(pixelOf(Math.max(0, scale)) / pixel));
  return Math.max(0, distance(near + 1) < distance(near) ? near + 1 : near);
}

/** The coarsest scale whose pixels are at most this large. @param {number} pixel in plane units */
export function finerScale(pixel) {
  const near = nearestScale(pixel);
  return pixelOf(near) > pixel * (1 + 1e-9) ? near + 1 : near;
}

/** Distance of the scales that previews use: few, to be found again by other views. */
const PREVIEW_STEP = OCTAVE / 2;

/** The scale of the picture that comes first, with about a quarter of the pixels a side. @param {number} scale */
export function previewScale(scale) {
  return Math.max(0, Math.round((scale - 2 * OCTAVE) / PREVIEW_STEP) * PREVIEW_STEP);
}

/** The nearest view on the pixels of a scale, in which the point under `anchor` stays within a pixel.
 * @param {View} view @param {Size} size of the canvas @param {Point} [anchor] in canvas pixels; default: the middle
 * @returns {View} */
export function snap(view, size, anchor = { x: size.width / 2, y: size.height / 2 }) {
  const shorter = Math.min(size.width, size.height);
  const longer = Math.max(size.width, size.height);
  let scale = nearestScale(pixelSize(view, size));
  while (sideOf(scale) < longer) scale++;
  while (pixelOf(scale) * shorter < MIN_EXTENT) scale--;
  const near = zoom(view, size, anchor, view.extent / (pixelOf(scale) * shorter));
  return viewOf(rectOf(near, size, scale), size, scale);
}

/** The scale of a view that lies on one. @param {View} view @param {Size} size */
export function scaleOf(view, size) {
  return nearestScale(pixelSize(view, size));
}

/** The pixels that a canvas shows, as many as it has. @param {View} view @param {Size} size @param {number} scale
 * @returns {Rect} */
export function rectOf(view, { width, height }, scale) {
  const pixel = pixelOf(scale);
  const start = (/** @type {number} */ centre, /** @type {number} */ length) =>
    clamp(Math.round((centre - BOUNDS.low) / pixel - length / 2), 0, Math.max(0, sideOf(scale) - length));
  return { x: start(view.x, width), y: start(view.y, height), width, height };
}

/** @param {Rect} rect @param {Size} size @param {number} scale @returns {View} */
function viewOf(rect, size, scale) {
  const pixel = pixelOf(scale);
  const x = BOUNDS.low + (rect.x + rect.width / 2) * pixel;
  const y = BOUNDS.low + (rect.y + rect.height / 2) * pixel;
  return clampView({ x, y, extent: pixel * Math.min(size.width, size.height) }, size);
}

/** The same place in pixels of another scale, not rounded. @param {Rect} rect @param {number} from @param {number} to
 * @returns {Rect} */
export function rescale({ x, y, width, height }, from, to) {
  const factor = sideOf(to) / sideOf(from);
  return { x: x * factor, y: y * factor, width: width * factor, height: height * factor };
}

/** The smallest rectangle of whole blocks of pixels around this one, within the plane.
 * @param {Rect} rect @param {number} scale @param {number} block @returns {Rect} */
export function roundOut(rect, scale, block) {
  const along = (/** @type {number} */ start, /** @type {number} */ length) => {
    const first = Math.max(0, Math.floor(start / block + 1e-6) * block);
    return { first, count: Math.min(sideOf(scale), Math.ceil((start + length) / block - 1e-6) * block) - first };
  };
  const [across, down] = [along(rect.x, rect.width), along(rect.y, rect.height)];
  return { x: across.first, y: down.first, width: across.count, height: down.count };
}

/** The pixels of a scale that a region touches. @param {Region} region @param {number} scale @returns {Rect} */
export function rectOfRegion([x0, y0, x1, y1], scale) {
  const pixel = pixelOf(scale);
  const [x, y] = [(x0 - BOUNDS.low) / pixel, (y0 - BOUNDS.low) / pixel];
  return roundOut({ x, y, width: (x1 - x0) / pixel, height: (y1 - y0) / pixel }, scale, 1);
}

/** @param {Rect} rect @param {number} scale @returns {Region} */
export function regionOfRect({ x, y, width, height }, scale) {
  const side = sideOf(scale);
  const at = (/** @type {number} */ pixels) => BOUNDS.low + (SPAN * pixels) / side;
  return [at(x), at(y), at(x + width), at(y + height)];
}

/** The large picture that contains these pixels, and their place in it. Where the picture of the whole plane has more
 * pixels a side than the service takes, it is one of a grid of smaller ones that overlap by half.
 * @param {Rect} rect @param {number} scale @returns {{ size: Size, region: Region, crop: Rect }} */
export function largePicture(rect, scale) {
  const side = sideOf(scale);
  if (side <= MAX_SIDE) {
    return { size: { width: side, height: side }, region: regionOfRect({ x: 0, y: 0, width: side, height: side }, scale), crop: rect };
  }
  const [x, y] = [rect.x, rect.y].map((start) => Math.floor(start / CELL) * CELL);
  const [width, height] = [x, y].map((start) => Math.min(2 * CELL, side - start));
  const crop = { ...rect, x: rect.x - x, y: rect.y - y };
  return { size: { width, height }, region: regionOfRect({ x, y, width, height }, scale), crop };
}
