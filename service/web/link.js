// @ts-check
/**
 * The link that reopens a view: what is shown, written after the # of the address.
 *
 * @typedef {import("./view.js").View} View
 * @typedef {import("./api.js").Model} Model
 *
 * @typedef {object} Picture which picture of which network
 * @property {string} model
 * @property {number} seed
 * @property {number} psi truncation
 * @property {number | null} classIndex null for networks without classes
 *
 * @typedef {object} State
 * @property {Picture} picture drawn live unless
 * @property {import("./source.js").Stored | null} job shows what a job has made
 * @property {View} view
 */

import { BOUNDS, MIN_EXTENT, WHOLE, clamp } from "./view.js";

/** The service's largest seed. */
export const MAX_SEED = 2 ** 32 - 1;

/** The range of the truncation slider. */
export const PSI = { low: -1, high: 1.5, initial: 0.7 };

/** @param {State} state @returns {string} beginning with # */
export function writeLink({ picture, view, job }) {
  const values = new URLSearchParams({ model: picture.model, seed: String(picture.seed), psi: String(picture.psi) });
  if (picture.classIndex !== null) values.set("class", String(picture.classIndex));
  if (job) values.set("job", job.id);
  // A millionth of the extent is less than a pixel of any screen.
  const digits = clamp(6 - Math.floor(Math.log10(view.extent)), 0, 20);
  values.set("x", String(Number(view.x.toFixed(digits))));
  values.set("y", String(Number(view.y.toFixed(digits))));
  values.set("extent", String(Number(view.extent.toPrecision(7))));
  return `#${values}`;
}

/** What a link asks for; whatever is missing or makes no sense in it is left at its default.
 * @param {string} hash @param {Model[]} models at least one
 * @returns {{ picture: Picture, view: View, jobId: string | null }} */
export function readLink(hash, models) {
  const values = new URLSearchParams(hash.replace(/^#/, ""));
  const model = models.find(({ name }) => name === values.get("model")) ?? models[0];
  return {
    picture: {
      model: model.name,
      seed: Math.round(number(values, "seed", 0, 0, MAX_SEED)),
      psi: number(values, "psi", PSI.initial, PSI.low, PSI.high),
      classIndex: model.classes ? Math.round(number(values, "class", 0, 0, model.classes - 1)) : null,
    },
    view: {
      x: number(values, "x", WHOLE.x, BOUNDS.low, BOUNDS.high),
      y: number(values, "y", WHOLE.y, BOUNDS.low, BOUNDS.high),
      extent: number(values, "extent", WHOLE.extent, MIN_EXTENT, BOUNDS.high - BOUNDS.low),
    },
    jobId: /^[0-9a-f]{32}$/.exec(values.get("job") ?? "")?.[0] ?? null,
  };
}

/** @param {URLSearchParams} values @param {string} name @param {number} fallback @param {number} low @param {number} high */
function number(values, name, fallback, low, high) {
  const text = values.get(name)?.trim();
  const value = text ? Number(text) : NaN;
  return Number.isFinite(value) ? clamp(value, low, high) : fallback;
}
