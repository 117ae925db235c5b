// @ts-check
/**
 * What is known of the picture that is shown: magnification, where its detail ends, and on demand the numbers.
 *
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Size} Size
 */

import { element } from "../dom.js";
import { duration, grouped, minus, readable } from "../numbers.js";
import { partOf } from "./sources.js";
import { clamp, fit, pixelSize, regionOf } from "./view.js";

/** With fewer trained pixels across the view there is nothing but smooth colour and edges that stay sharp. */
const TRAINED_PIXELS = 8;

/** @param {View} view @param {Size} size @param {import("./view.js").Region} frame */
export function describeMagnification(view, size, frame) {
  const magnification = fit(frame, size).extent / view.extent;
  element("magnification", HTMLElement).textContent = `×${Math.abs(magnification - 1) < 0.06 ? 1 : readable(magnification)}`;
}

/** @param {View} view @param {number | null} resolution of the network; null for a stored picture */
export function describeDetail(view, resolution) {
  const across = resolution === null ? Infinity : resolution * view.extent;
  const told = element("detail", HTMLElement);
  told.hidden = across >= TRAINED_PIXELS;
  told.title = `${readable(across)} of the network's ${resolution} pixels are in view`;
}

/** Position and size of the view in numbers.
 * @param {View} view @param {Size} size @param {import("./sources.js").Stored | null} job */
export function describeView(view, size, job) {
  if (job) describePart(view, size, job);
  else describeRegion(view, size);
}

/** @param {View} view @param {Size} size */
function describeRegion(view, size) {
  const [x0, y0, x1, y1] = regionOf(view, size);
  const digits = clamp(3 - Math.floor(Math.log10(view.extent)), 2, 12);
  const span = (/** @type {number} */ a, /** @type {number} */ b) =>
    `${minus(a.toFixed(digits))} … ${minus(b.toFixed(digits))}`;
  element("region", HTMLElement).textContent = `x ${span(x0, x1)}   y ${span(y0, y1)}`;
  element("pixel", HTMLElement).textContent = `1 px = ${readable(pixelSize(view, size))}`;
}

/** In pixels of a stored image. @param {View} view @param {Size} size @param {import("./sources.js").Stored} job */
function describePart(view, size, job) {
  const { x, y, width, height } = partOf(job, regionOf(view, size));
  const scale = pixelSize(view, size) * Math.max(job.width, job.height);
  element("region", HTMLElement).textContent =
    `pixels ${grouped(x)} … ${grouped(x + width)}   ${grouped(y)} … ${grouped(y + height)}`;
  element("pixel", HTMLElement).textContent = `at ${readable(100 / scale)} %`;
}

/** Size and latency of a picture. @param {import("./loader.js").Loaded} loaded */
export function describeReply({ part, reply }) {
  const time = element("time", HTMLElement);
  const render = reply.timings.find(({ name }) => name === "render")?.milliseconds;
  time.textContent = `${part.rect.width} × ${part.rect.height} in ${duration(render || reply.milliseconds)}`;
  const parts = [...reply.timings, { name: "in all", milliseconds: reply.milliseconds }];
  time.title = parts.map(({ name, milliseconds }) => `${name} ${duration(milliseconds)}`).join(", ");
}

/** The figures of a picture that is no longer shown go. */
export function forgetReply() {
  const time = element("time", HTMLElement);
  time.textContent = time.title = "";
}
