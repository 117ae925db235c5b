// @ts-check
/**
 * What can be saved: which part, in which size and format. Formats of one answer go up to the service's limit for
 * images; larger ones and those of several levels are made by a job.
 *
 * @typedef {import("../picture/view.js").Size} Size
 * @typedef {import("../picture/view.js").Region} Region
 * @typedef {import("../api/client.js").Limits} Limits
 * @typedef {{ label: string, suffix: string, image: string, output: string | null, answer: boolean, levels: boolean,
 *     lossy: boolean }} Format image: format of the answer or of the job's tiles; output: of the job, if one can make it
 */

import { withLongSide } from "../picture/view.js";

/** @type {Record<string, Format>} */
export const FORMATS = {
  png: { label: "PNG, lossless", suffix: "png", image: "png", output: "png", answer: true, levels: false, lossy: false },
  jpeg: { label: "JPEG", suffix: "jpeg", image: "jpeg", output: null, answer: true, levels: false, lossy: true },
  webp: { label: "WebP", suffix: "webp", image: "webp", output: null, answer: true, levels: false, lossy: true },
  tiff: { label: "TIFF, lossless", suffix: "tiff", image: "png", output: "tiff", answer: false, levels: true, lossy: false },
  "tiff-jpeg": { label: "TIFF, JPEG inside", suffix: "tiff", image: "jpeg", output: "tiff", answer: false, levels: true, lossy: true },
  dzi: { label: "Deep Zoom, JPEG tiles", suffix: "zip", image: "jpeg", output: "dzi", answer: false, levels: true, lossy: true },
  "dzi-png": { label: "Deep Zoom, lossless tiles", suffix: "zip", image: "png", output: "dzi", answer: false, levels: true, lossy: false },
};

/** Width by height. @type {Record<string, number>} */
const ASPECTS = { "1:1": 1, "4:5": 4 / 5, "16:9": 16 / 9, "a-portrait": Math.SQRT1_2, "a-landscape": Math.SQRT2 };

const SIDES = [512, 1024, 2048, 4096, 8192, 16_384, 32_768, 65_536, 131_072, 262_144];

/** The part of the plane to save.
 * @param {string} what "picture", "view" or an aspect, then the largest window of what is seen
 * @param {Region} frame @param {Region | null} seen null for the whole picture @param {Size} canvas
 * @returns {{ region: Region, aspect: Size }} */
export function partToSave(what, frame, seen, canvas) {
  if (what === "view") return { region: seen ?? frame, aspect: canvas };
  const [x0, y0, x1, y1] = what === "picture" || seen === null ? frame : seen;
  const [width, height] = [x1 - x0, y1 - y0];
  const ratio = ASPECTS[what] ?? width / height;
  const inner = width / height > ratio ? { width: height * ratio, height } : { width, height: width / ratio };
  const [x, y] = [(x0 + x1) / 2, (y0 + y1) / 2];
  const [half, high] = [inner.width / 2, inner.height / 2];
  return { region: [x - half, y - high, x + half, y + high], aspect: { width: ratio, height: 1 } };
}

/** Whether one answer can hold the image. @param {Format} format @param {Size} size @param {Limits} limits */
export function fitsAnswer(format, { width, height }, limits) {
  return (
    format.answer &&
    width * height <= limits.max_image_pixels &&
    width + height <= limits.max_image_positions &&
    Math.max(width, height) <= limits.max_sides[format.image]
  );
}

/** Whether the service makes the image at all. @param {Format} format @param {Size} size @param {Limits} limits */
export function isPossible(format, size, limits) {
  if (fitsAnswer(format, size, limits)) return true;
  const { width, height } = size;
  return format.output !== null && width * height <= limits.max_job_pixels && Math.max(width, height) <= limits.max_side;
}

/** The longer sides to offer, and the longest that is possible.
 * @param {Format} format @param {Size} aspect @param {Limits} limits */
export function possibleSides(format, aspect, limits) {
  const possible = (/** @type {number} */ side) => isPossible(format, withLongSide(aspect, side), limits);
  let [low, high] = [1, limits.max_side + 1];
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (possible(middle)) low = middle;
    else high = middle;
  }
  return { sides: SIDES.filter(possible), longest: low };
}
