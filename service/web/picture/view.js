// @ts-check
/**
 * Geometry of the view: the part of the plane that the canvas shows.
 *
 * Plane coordinates are those of the service: the trained image is the unit square, x to the right, y downwards.
 * Canvas coordinates are device pixels of the canvas, from its upper left corner. Pixels are square.
 *
 * @typedef {{ x: number, y: number }} Point
 * @typedef {{ width: number, height: number }} Size in canvas pixels
 * @typedef {[x0: number, y0: number, x1: number, y1: number]} Region in plane coordinates
 * @typedef {{ left: number, top: number, width: number, height: number }} Rectangle in canvas pixels
 *
 * @typedef {object} View
 * @property {number} x centre of the canvas, in plane coordinates
 * @property {number} y
 * @property {number} extent of the plane along the shorter side of the canvas, so that a link shows the same square
 *     on a phone and on a wide screen
 */

/** The service's limits for a region. Outside the unit square the network extrapolates. */
export const BOUNDS = { low: -1, high: 2 };

/** Smallest extent that the service accepts, with a margin for the rounding of x1 − x0. */
export const MIN_EXTENT = 1e-9 * (1 + 1e-6);

/** Margin around the picture in the view of all of it, as a share of the canvas. */
const MARGIN = 0.03;

/** @type {Region} */
export const UNIT_SQUARE = [0, 0, 1, 1];

/** @param {number} value @param {number} low @param {number} high */
export function clamp(value, low, high) {
  return Math.min(Math.max(value, low), high);
}

/** Side of a canvas pixel in plane units. @param {View} view @param {Size} size */
export function pixelSize(view, size) {
  return view.extent / Math.min(size.width, size.height);
}

/** The view of a whole picture, with a margin. @param {Region} frame of the picture @param {Size} size @returns {View} */
export function fit([x0, y0, x1, y1], size) {
  const shorter = Math.min(size.width, size.height);
  const pixel = Math.max((x1 - x0) / size.width, (y1 - y0) / size.height) / (1 - 2 * MARGIN);
  return clampView({ x: (x0 + x1) / 2, y: (y0 + y1) / 2, extent: pixel * shorter }, size);
}

/** The plane point at a canvas point. @param {View} view @param {Size} size @param {Point} point @returns {Point} */
export function planePoint(view, size, point) {
  const pixel = pixelSize(view, size);
  return {
    x: view.x + (point.x - size.width / 2) * pixel,
    y: view.y + (point.y - size.height / 2) * pixel,
  };
}

/** The region that the canvas shows, within the bounds. @param {View} view @param {Size} size @returns {Region} */
export function regionOf(view, size) {
  const { low, high } = BOUNDS;
  const topLeft = planePoint(view, size, { x: 0, y: 0 });
  const bottomRight = planePoint(view, size, { x: size.width, y: size.height });
  return [
    clamp(topLeft.x, low, high),
    clamp(topLeft.y, low, high),
    clamp(bottomRight.x, low, high),
    clamp(bottomRight.y, low, high),
  ];
}

/** The position of a region of the plane on the canvas.
 * @param {Region} region @param {View} view @param {Size} size @returns {Rectangle} */
export function placement([x0, y0, x1, y1], view, size) {
  const pixel = pixelSize(view, size);
  return {
    left: (x0 - view.x) / pixel + size.width / 2,
    top: (y0 - view.y) / pixel + size.height / 2,
    width: (x1 - x0) / pixel,
    height: (y1 - y0) / pixel,
  };
}

/** The nearest view whose region lies within the bounds. @param {View} view @param {Size} size @returns {View} */
export function clampView(view, size) {
  const { low, high } = BOUNDS;
  const shorter = Math.min(size.width, size.height);
  const longer = Math.max(size.width, size.height);
  const extent = clamp(view.extent, MIN_EXTENT, ((high - low) * shorter) / longer);
  const halfWidth = ((extent / shorter) * size.width) / 2;
  const halfHeight = ((extent / shorter) * size.height) / 2;
  return {
    x: clamp(view.x, low + halfWidth, high - halfWidth),
    y: clamp(view.y, low + halfHeight, high - halfHeight),
    extent,
  };
}

/** Moves the image by canvas pixels: to the right and down.
 * @param {View} view @param {Size} size @param {Point} by @returns {View} */
export function pan(view, size, by) {
  const pixel = pixelSize(view, size);
  return clampView({ ...view, x: view.x - by.x * pixel, y: view.y - by.y * pixel }, size);
}

/** Magnify by `factor` around `anchor` (canvas pixels), as far as the bounds allow.
 * @param {View} view @param {Size} size @param {Point} anchor @param {number} factor @returns {View} */
export function zoom(view, size, anchor, factor) {
  const fixed = planePoint(view, size, anchor);
  const { extent } = clampView({ ...view, extent: view.extent / factor }, size);
  const ratio = extent / view.extent;
  return clampView({ x: fixed.x + (view.x - fixed.x) * ratio, y: fixed.y + (view.y - fixed.y) * ratio, extent }, size);
}

/** A point turned about the middle of the unit square. @param {Point} point @param {number} degrees clockwise
 * @returns {Point} */
export function turnPoint({ x, y }, degrees) {
  const [cos, sin] = [Math.cos((degrees * Math.PI) / 180), Math.sin((degrees * Math.PI) / 180)];
  return { x: 0.5 + (x - 0.5) * cos - (y - 0.5) * sin, y: 0.5 + (x - 0.5) * sin + (y - 0.5) * cos };
}

/** The view in which a picture that is turned about the middle of the unit square turns about `anchor` instead.
 * @param {View} view @param {Size} size @param {Point} anchor in canvas pixels @param {number} degrees clockwise */
export function turnAbout(view, size, anchor, degrees) {
  const before = planePoint(view, size, anchor);
  const after = turnPoint(before, degrees);
  return clampView({ ...view, x: view.x + after.x - before.x, y: view.y + after.y - before.y }, size);
}

/** The view a share 0 … 1 of the way from one to the other: the magnification grows evenly, and the plane point that
 * both show at the same place of the canvas stays there.
 * @param {View} from @param {View} to @param {number} share @returns {View} */
export function between(from, to, share) {
  if (share >= 1) return to;
  const extent = from.extent * (to.extent / from.extent) ** share;
  const change = to.extent - from.extent;
  const moved = Math.abs(change) > 1e-9 * from.extent ? (extent - from.extent) / change : share;
  return { x: from.x + (to.x - from.x) * moved, y: from.y + (to.y - from.y) * moved, extent };
}

/** A size of the same aspect whose longer side is `longSide`. @param {Size} size @param {number} longSide */
export function withLongSide(size, longSide) {
  return scaled(size, longSide / Math.max(size.width, size.height));
}

/** @param {Size} size @param {number} factor @returns {Size} whole pixels, at least 1×1 */
export function scaled(size, factor) {
  return {
    width: Math.max(1, Math.round(size.width * factor)),
    height: Math.max(1, Math.round(size.height * factor)),
  };
}
