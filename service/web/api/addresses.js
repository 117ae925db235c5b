// @ts-check
/**
 * Addresses of the service, relative to the page so that it also works behind a path prefix.
 *
 * @typedef {import("../link.js").Image} Image
 * @typedef {import("../picture/view.js").Region} Region
 * @typedef {import("../picture/view.js").Size} Size
 * @typedef {import("../picture/grid.js").Rect} Rect
 */

import { shapeQuery } from "../shape.js";

/** An image file. @param {Image} image @param {Region | null} region to show; null for the whole picture
 * @param {Size} size in pixels
 * @param {string} format @param {number | null} [quality] 1 … 100, for formats with loss */
export function imagePath(image, region, size, format, quality) {
  return path(image, format, { ...measures(size), ...lossy(quality), ...(region ? { region: region.join(",") } : {}) });
}

/** Some pixels of a large picture.
 * @param {Image} image @param {{ size: Size, region: Region, crop: Rect }} large @param {string} format
 * @param {number | null} [quality] */
export function cropPath(image, { size, region, crop }, format, quality) {
  const { x, y, width, height } = crop;
  const part = { region: region.join(","), crop: [x, y, width, height].join(",") };
  return path(image, format, { ...measures(size), ...part, ...lossy(quality) });
}

/** Pixels of the stored image of a job. @param {string} id @param {Rect} part @param {Size} size @param {string} suffix */
export function partPath(id, { x, y, width, height }, size, suffix) {
  return `iiif/3/job:${id}/${x},${y},${width},${height}/${size.width},${size.height}/0/default.${suffix}`;
}

/** The info.json of a live image, or with an id of a job's, for IIIF viewers. Of the shape it has only what repeats.
 * @param {Image} image @param {string | null} jobId */
export function iiifAddress({ model, seed, psi, classIndex, id, shape }, jobId) {
  const ofClass = classIndex === null ? "" : `:class=${classIndex}`;
  const wrap = shape?.wrap ? `:wrap=${shape.wrap}` : "";
  const live = `${encodeURIComponent(model)}:${id ?? `${seed}:psi=${psi}${ofClass}`}${wrap}`;
  return absolute(`iiif/3/${jobId === null ? live : `job:${jobId}`}/info.json`);
}

/** @param {string} address relative to the page */
export function absolute(address) {
  return new URL(address, document.baseURI).href;
}

/** @param {Image} image @param {string} format @param {Record<string, string>} query */
function path({ model, seed, psi, classIndex, id, shape }, format, query) {
  const values = new URLSearchParams({ ...(id ? {} : { psi: String(psi) }), ...query, ...shapeQuery(shape) });
  if (classIndex !== null && !id) values.set("class", String(classIndex));
  return `v1/images/${encodeURIComponent(model)}/${id ?? seed}.${format}?${String(values).replaceAll("%2C", ",")}`;
}

/** @param {Size} size */
function measures({ width, height }) {
  return { width: String(width), height: String(height) };
}

/** @param {number | null | undefined} quality @returns {Record<string, string>} */
function lossy(quality) {
  return quality ? { quality: String(quality) } : {};
}
