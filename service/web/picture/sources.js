// @ts-check
/**
 * Where the pictures of a view come from: drawn for it, or cut out of the Deep Zoom that a job has made.
 *
 * A job's picture lies in the middle of the unit square, and its longer side fills it.
 *
 * @typedef {import("./view.js").Size} Size
 * @typedef {import("./view.js").Region} Region
 *
 * @typedef {{ id: string, width: number, height: number, seed: number }} Stored the picture of a finished job
 *
 * @typedef {{ x: number, y: number, width: number, height: number }} Part in pixels of a stored picture
 */

import { imagePath } from "./api.js";
import { UNIT_SQUARE, clamp, pixelSize, regionOf } from "./view.js";

/** What the canvas can show, at most so many pixels of it, and where that lies on the plane.
 * @param {import("./link.js").State} state @param {Size} canvas @param {Size} size wanted for the whole canvas
 * @param {"png" | "jpeg"} format @param {number} [quality] of what is drawn; a stored picture has its own
 * @returns {{ path: string, region: Region }} */
export function source(state, canvas, size, format, quality) {
  if (state.job === null) {
    return { path: imagePath(state, canvas, size, format, quality), region: regionOf(state.view, canvas) };
  }
  const part = partInView(state.job, state.view, canvas);
  const scale = (pixelScale(state.job, state.view, canvas) * canvas.width) / size.width; // its pixels to one of `size`
  const [width, height] = [part.width, part.height].map((side) => clamp(Math.round(side / scale), 1, side));
  const box = `${part.x},${part.y},${part.width},${part.height}`;
  const file = `default.${format === "jpeg" ? "jpg" : format}`;
  return { path: `iiif/3/job:${state.job.id}/${box}/${width},${height}/0/${file}`, region: regionOfPart(state.job, part) };
}

/** Where on the plane the picture lies. @param {Stored | null} job @returns {Region} */
export function frameOf(job) {
  return job ? regionOfPart(job, { x: 0, y: 0, ...job }) : UNIT_SQUARE;
}

/** The whole pixels of a stored picture that the canvas touches; at least one, the nearest.
 * @param {Stored} job @param {import("./view.js").View} view @param {Size} canvas @returns {Part} */
export function partInView(job, view, canvas) {
  const [x0, y0, x1, y1] = regionOf(view, canvas);
  const [left, top] = corner(job);
  const longer = Math.max(job.width, job.height);
  const across = pixels((x0 - left) * longer, (x1 - left) * longer, job.width);
  const down = pixels((y0 - top) * longer, (y1 - top) * longer, job.height);
  return { x: across.first, y: down.first, width: across.count, height: down.count };
}

/** How many pixels of a stored picture lie in the width of one of the canvas.
 * @param {Stored} job @param {import("./view.js").View} view @param {Size} canvas */
export function pixelScale(job, view, canvas) {
  return pixelSize(view, canvas) * Math.max(job.width, job.height);
}

/** @param {Stored} job @param {Part} part @returns {Region} */
function regionOfPart(job, { x, y, width, height }) {
  const [left, top] = corner(job);
  const longer = Math.max(job.width, job.height);
  return [left + x / longer, top + y / longer, left + (x + width) / longer, top + (y + height) / longer];
}

/** The upper left corner on the plane. @param {Size} picture */
function corner({ width, height }) {
  const longer = Math.max(width, height);
  return [(1 - width / longer) / 2, (1 - height / longer) / 2];
}

/** @param {number} start @param {number} end @param {number} length of the picture */
function pixels(start, end, length) {
  const slack = 1e-6; // of a pixel: rounding must not add a row
  const first = clamp(Math.floor(start + slack), 0, length - 1);
  const last = clamp(Math.ceil(end - slack), first + 1, length);
  return { first, count: last - first };
}
