// @ts-check
/**
 * Where the pixels of a picture come from: rendered live, or cut from the Deep Zoom output of a job.
 *
 * A job's image lies in the middle of the unit square, and its longer side fills it.
 *
 * @typedef {import("./view.js").Size} Size
 * @typedef {import("./view.js").Region} Region
 * @typedef {import("./grid.js").Rect} Rect
 *
 * @typedef {{ id: string, width: number, height: number }} Stored the image of a finished job
 *
 * @typedef {object} Source
 * @property {string} key equal for the same picture
 * @property {string} upright equal for the same picture, however it is turned
 * @property {number} turn degrees clockwise about the middle of the unit square
 * @property {Region} frame the picture as it is meant; a live one goes on around it
 * @property {"dimmed" | "plain" | "none"} outside what is beside it: dimmed, meant as it is, or no longer bounded by the frame
 * @property {boolean} bounded whether there is nothing outside the frame
 * @property {number} finestScale beyond which there are no more pixels
 * @property {(rect: Rect, scale: number, quality: number) => { path: string, region: Region }} request the address of
 *     these pixels, and the region that the answer shows
 */

import { partPath, cropPath } from "../api/addresses.js";
import { intersection } from "./coverage.js";
import { finerScale, largePicture, rectOfRegion, regionOfRect } from "./grid.js";
import { UNIT_SQUARE, clamp } from "./view.js";

/** @param {import("../link.js").Image} image @returns {Source} */
export function liveSource(image) {
  const { model, seed, psi, classIndex, id, shape = {} } = image;
  const { rotate = 0, ...others } = shape;
  const latent = id ? [model, id] : [model, seed, psi, classIndex];
  return {
    key: JSON.stringify([...latent, shape]),
    upright: JSON.stringify([...latent, others]),
    turn: rotate,
    outside: shape.bend || shape.lens ? "none" : shape.outside || shape.wrap ? "plain" : "dimmed",
    frame: UNIT_SQUARE,
    bounded: false,
    finestScale: Infinity,
    request: (rect, scale, quality) => ({
      path: cropPath(image, largePicture(rect, scale), "jpeg", quality),
      region: regionOfRect(rect, scale),
    }),
  };
}

/** @param {Stored} job @returns {Source} */
export function storedSource(job) {
  const frame = frameOf(job);
  return {
    key: job.id,
    upright: job.id,
    turn: 0,
    outside: "dimmed",
    frame,
    bounded: true,
    finestScale: finerScale(1 / Math.max(job.width, job.height)),
    request: (rect, scale) => {
      const region = regionOfRect(rect, scale);
      const part = partOf(job, region);
      // Never enlarged: the canvas does that itself.
      const [width, height] = [rect.width, rect.height].map((side, axis) => {
        const length = axis ? part.height : part.width;
        const shown = (region[axis + 2] - region[axis]) * Math.max(job.width, job.height);
        return clamp(Math.round((side * length) / shown), 1, length);
      });
      return { path: partPath(job.id, part, { width, height }, "jpg"), region: regionOfPart(job, part) };
    },
  };
}

/** The pixels of a rectangle that there are. @param {Source} source @param {Rect} rect @param {number} scale */
export function within({ bounded, frame }, rect, scale) {
  return bounded ? intersection(rect, rectOfRegion(frame, scale)) : rect;
}

/** The region of the whole image on the plane. @param {Stored} job @returns {Region} */
export function frameOf(job) {
  return regionOfPart(job, { x: 0, y: 0, ...job });
}

/** The pixels of a stored image that lie in a region; at least the nearest one.
 * @param {Stored} job @param {Region} region @returns {Rect} */
export function partOf(job, [x0, y0, x1, y1]) {
  const [left, top] = corner(job);
  const longer = Math.max(job.width, job.height);
  const across = pixels((x0 - left) * longer, (x1 - left) * longer, job.width);
  const down = pixels((y0 - top) * longer, (y1 - top) * longer, job.height);
  return { x: across.first, y: down.first, width: across.count, height: down.count };
}

/** @param {Stored} job @param {Rect} part @returns {Region} */
function regionOfPart(job, { x, y, width, height }) {
  const [left, top] = corner(job);
  const longer = Math.max(job.width, job.height);
  return [left + x / longer, top + y / longer, left + (x + width) / longer, top + (y + height) / longer];
}

/** The upper left corner on the plane. @param {Size} image */
function corner({ width, height }) {
  const longer = Math.max(width, height);
  return [(1 - width / longer) / 2, (1 - height / longer) / 2];
}

/** @param {number} start @param {number} end @param {number} length of the image */
function pixels(start, end, length) {
  const slack = 1e-6; // of a pixel: rounding must not add a row
  const first = clamp(Math.floor(start + slack), 0, length - 1);
  const last = clamp(Math.ceil(end - slack), first + 1, length);
  return { first, count: last - first };
}
