// @ts-check
/**
 * The state of the page in the query of its URL, so that a server can tell what a shared link shows.
 *
 * @typedef {import("./picture/view.js").View} View
 * @typedef {import("./api/client.js").Model} Model
 *
 * @typedef {object} Image an image of a network
 * @property {string} model
 * @property {number} seed
 * @property {number} psi truncation
 * @property {number | null} classIndex null for networks without classes
 * @property {Recipe} [recipe] what is changed in the latent of the seed
 * @property {string} [id] under which the service keeps the changed latent
 * @property {import("./shape.js").Shape} [shape]
 *
 * @typedef {object} Recipe
 * @property {string} [base] id of a stored latent in place of the seed
 * @property {Mix} [mix] another seed
 * @property {Record<string, number>} [edits] amounts of directions, by their names
 *
 * @typedef {object} Mix
 * @property {number} seed
 * @property {number} weight from 0 to 1
 * @property {string} [layers] styles that it changes, such as "0-3,8"; all of them if there are none
 *
 * @typedef {object} State
 * @property {Image} image
 * @property {import("./panels/job_card.js").Job | null} job whose output is shown; null: the image is rendered live
 * @property {View | null} view null for the whole picture
 * @property {Key[]} keys of the film
 *
 * @typedef {object} Key a picture of the film, and the way to the next one
 * @property {Image} image
 * @property {View | null} view
 * @property {number} seconds until the next
 * @property {string} easing how that time passes, one of EASINGS
 *
 * @typedef {object} Link
 * @property {Image} image the nearest there is
 * @property {View | null} view
 * @property {string | null} jobId
 * @property {Key[]} keys
 * @property {string[]} faults why the image is not the one that the link names
 */

import { grouped, minus } from "./numbers.js";
import { BOUNDS, MIN_EXTENT, clamp } from "./picture/view.js";
import { readShape, writeShape } from "./shape.js";

/** The service's largest seed. */
export const MAX_SEED = 2 ** 32 - 1;

/** The service's largest amount of an edit, in standard deviations. */
const AMOUNT = 5;

/** The service's range of the truncation, and what the page begins with. */
export const PSI = { low: -2, high: 2, initial: 0.7 };

/** Names of the service. */
export const EASINGS = ["ease-in-out", "linear", "ease-in", "ease-out"];

/** Of a key, and of a film. */
export const SECONDS = { low: 0.1, high: 60, initial: 2 };
export const MAX_KEYS = 16;

/** Which keys have in their encoded form only. */
const KEY_SEPARATOR = "~";

/** @param {State} state @returns {string} beginning with ? */
export function writeLink({ image, view, job, keys }) {
  const values = new URLSearchParams({ model: image.model });
  writeImage(image, values);
  if (job) values.set("job", job.id);
  writeView(view, values);
  if (keys.length) values.set("film", keys.map((key) => writeKey(key, image.model)).join(KEY_SEPARATOR));
  return `?${values}`;
}

/** @param {Key} key @param {string} usual model */
function writeKey({ image, view, seconds, easing }, usual) {
  const values = new URLSearchParams({ seconds: String(seconds), easing });
  if (image.model !== usual) values.set("model", image.model);
  writeImage(image, values);
  writeView(view, values);
  return String(values);
}

/** @param {Image} image @param {URLSearchParams} values */
function writeImage({ seed, psi, classIndex, recipe, shape }, values) {
  values.set("seed", String(seed));
  values.set("psi", String(psi));
  if (classIndex !== null) values.set("class", String(classIndex));
  const { base, mix, edits } = recipe ?? {};
  if (base) values.set("latent", base);
  if (mix) values.set("mix", [mix.seed, mix.weight, ...(mix.layers ? [mix.layers] : [])].join(","));
  if (edits) values.set("edits", Object.entries(edits).map((edit) => edit.join(",")).join(";"));
  writeShape(shape, values);
}

/** @param {View | null} view @param {URLSearchParams} values */
function writeView(view, values) {
  if (!view) return;
  // A millionth of the extent is less than a pixel of any screen.
  const digits = clamp(6 - Math.floor(Math.log10(view.extent)), 0, 20);
  values.set("x", String(Number(view.x.toFixed(digits))));
  values.set("y", String(Number(view.y.toFixed(digits))));
  values.set("extent", String(Number(view.extent.toPrecision(7))));
}

/** Parse the address of the page. Links of earlier versions have the values in the fragment.
 * @param {{ search: string, hash: string }} address @param {Model[]} models at least one @returns {Link} */
export function readLink({ search, hash }, models) {
  const values = new URLSearchParams(hash.includes("=") ? hash.slice(1) : search);
  /** @type {string[]} */
  const faults = [];
  const image = readImage(values, models, defaultModel(models), faults);
  return { image, view: readView(values), jobId: values.get("job"), keys: readKeys(values, models, image.model), faults };
}

/** @param {URLSearchParams} values @param {Model[]} models @param {Model} usual model @param {string[]} faults
 * @returns {Image} */
function readImage(values, models, usual, faults) {
  const name = values.get("model");
  const model = models.find((each) => each.name === name || each.digest === name) ?? usual;
  if (name && model.name !== name && model.digest !== name) faults.push(`the model “${name}” is not served here`);
  const whole = (/** @type {string} */ field, /** @type {number} */ high) =>
    within(values, field, 0, 0, high, faults, Math.round);
  return {
    model: model.name,
    seed: whole("seed", MAX_SEED),
    psi: within(values, "psi", PSI.initial, PSI.low, PSI.high, faults),
    classIndex: model.classes ? whole("class", model.classes - 1) : null,
    ...readRecipe(values),
    ...readShape(values),
  };
}

/** The film. @param {URLSearchParams} values @param {Model[]} models @param {string} name of the model of the picture
 * @returns {Key[]} */
function readKeys(values, models, name) {
  const usual = models.find((model) => model.name === name) ?? models[0];
  const texts = (values.get("film") ?? "").split(KEY_SEPARATOR).filter(Boolean);
  return texts.slice(0, MAX_KEYS).map((text) => {
    const own = new URLSearchParams(text);
    const easing = own.get("easing") ?? "";
    return {
      image: readImage(own, models, usual, []),
      view: readView(own),
      seconds: clamp(number(own, "seconds") ?? SECONDS.initial, SECONDS.low, SECONDS.high),
      easing: EASINGS.includes(easing) ? easing : EASINGS[0],
    };
  });
}

/** What the page begins with: the bundled demo, or where it is not served the first. @param {Model[]} models */
function defaultModel(models) {
  return models.find(({ name }) => name === "demo") ?? models[0];
}

/** What is no recipe is left out. @param {URLSearchParams} values @returns {{ recipe?: Recipe }} */
function readRecipe(values) {
  /** @type {Recipe} */
  const recipe = {};
  const base = values.get("latent") ?? "";
  if (/^lat_[0-9a-f]{32}$/.test(base)) recipe.base = base;
  const [, seed, weight, layers] = /^(\d{1,10}),([\d.]{1,8})(?:,([\d,-]{1,40}))?$/.exec(values.get("mix") ?? "") ?? [];
  if (weight && Number(seed) <= MAX_SEED && Number(weight) <= 1) {
    recipe.mix = { seed: Number(seed), weight: Number(weight), ...(layers ? { layers } : {}) };
  }
  const edits = [...(values.get("edits") ?? "").matchAll(/(?:^|;)((?:sefa|pca):\d{1,4}),(-?[\d.]{1,8})/g)];
  if (edits.length) {
    recipe.edits = Object.fromEntries(edits.map(([, name, amount]) => [name, clamp(Number(amount) || 0, -AMOUNT, AMOUNT)]));
  }
  return Object.keys(recipe).length ? { recipe } : {};
}

/** @param {URLSearchParams} values @returns {View | null} */
function readView(values) {
  const [x, y, extent] = ["x", "y", "extent"].map((name) => number(values, name));
  if (x === null && y === null && extent === null) return null;
  return {
    x: clamp(x ?? 0.5, BOUNDS.low, BOUNDS.high),
    y: clamp(y ?? 0.5, BOUNDS.low, BOUNDS.high),
    extent: clamp(extent ?? 1, MIN_EXTENT, BOUNDS.high - BOUNDS.low),
  };
}

/** The value that is nearest to that of a link, which `faults` gets to know of if it is another.
 * @param {URLSearchParams} values @param {string} name @param {number} fallback @param {number} low @param {number} high
 * @param {string[]} faults @param {(value: number) => number} [round] */
function within(values, name, fallback, low, high, faults, round = (value) => value) {
  const text = values.get(name)?.trim();
  if (!text) return fallback;
  const value = number(values, name);
  if (value !== null && value >= low && value <= high && round(value) === value) return value;
  faults.push(refusalOf(name, low, high, text));
  return fallback;
}

/** Why a number cannot be used. @param {string} name @param {number} low @param {number} high
 * @param {string} text what was given; empty if that is not known */
export function refusalOf(name, low, high, text) {
  const kind = name === "psi" ? "variety ψ must be" : `${name} must be a whole number`;
  const given = text && `, not “${text.length > 24 ? `${text.slice(0, 24)}…` : text}”`;
  return `the ${kind} from ${minus(String(low))} to ${grouped(high)}${given}`;
}

/** @param {URLSearchParams} values @param {string} name */
function number(values, name) {
  const text = values.get(name)?.trim();
  const value = text ? Number(text) : NaN;
  return Number.isFinite(value) ? value : null;
}
