// @ts-check
/**
 * How a picture is turned, bent and repeated. What a shape does not have is as usual.
 *
 * @typedef {"x" | "y" | "xy"} Axes
 *
 * @typedef {object} Shape
 * @property {"polar" | "cylinder" | "equirect"} [bend]
 * @property {number} [fov] of a cylinder or equirect, in degrees
 * @property {number} [yaw]
 * @property {number} [lens] k1
 * @property {number} [swirl] degrees
 * @property {Axes} [mirror]
 * @property {number} [rotate] degrees clockwise
 * @property {"clamp" | "mirror" | "wrap" | "fill"} [outside] in place of what the network makes there
 * @property {Axes} [wrap] axes along which the picture repeats without a seam
 */

import { minus } from "./numbers.js";
import { clamp } from "./picture/view.js";

/** Ranges of the numbers; a lens below −1/3 would fold the picture.
 * @type {Record<string, { low: number, high: number, usual: number }>} */
export const NUMBERS = {
  fov: { low: 30, high: 150, usual: 90 },
  yaw: { low: -180, high: 180, usual: 0 },
  lens: { low: -0.3, high: 0.6, usual: 0 },
  swirl: { low: -360, high: 360, usual: 0 },
  rotate: { low: -180, high: 180, usual: 0 },
};

/** @type {Record<string, string[]>} */
const CHOICES = {
  bend: ["polar", "cylinder", "equirect"],
  mirror: ["x", "y", "xy"],
  outside: ["clamp", "mirror", "wrap", "fill"],
  wrap: ["x", "y", "xy"],
};

const NAMES = /** @type {const} */ (["bend", "fov", "yaw", "lens", "swirl", "mirror", "rotate", "outside", "wrap"]);

/** Without what is as usual, in one order, so that equal shapes are equal texts; undefined if nothing is left.
 * @param {Record<string, unknown>} values @returns {Shape | undefined} */
export function tidyShape(values) {
  const kept = NAMES.filter((name) => {
    const value = values[name];
    if (name in CHOICES) return CHOICES[name].includes(String(value));
    if ((name === "fov" || name === "yaw") && !looksAround(values)) return false;
    return typeof value === "number" && Number.isFinite(value) && value !== NUMBERS[name].usual;
  });
  return kept.length ? Object.fromEntries(kept.map((name) => [name, values[name]])) : undefined;
}

/** Whether the picture is seen from within. @param {Record<string, unknown>} shape */
export function looksAround({ bend }) {
  return bend === "cylinder" || bend === "equirect";
}

/** What is no shape is left out. @param {URLSearchParams} values @returns {{ shape?: Shape }} */
export function readShape(values) {
  const given = NAMES.filter((name) => values.has(name)).map((name) => {
    const text = values.get(name) ?? "";
    const range = NUMBERS[name];
    return [name, range ? clamp(Number(text || NaN), range.low, range.high) : text];
  });
  const shape = tidyShape(Object.fromEntries(given));
  return shape ? { shape } : {};
}

/** @param {Shape | undefined} shape @param {URLSearchParams} values */
export function writeShape(shape, values) {
  for (const [name, value] of Object.entries(shape ?? {})) values.set(name, String(value));
}

/** What moves the picture, as the service's list. @param {Shape | undefined} shape
 * @param {string[]} kept of lens, swirl and rotate, which are listed even if they move nothing @returns {object[]} */
export function transformOf({ bend, fov, yaw, lens = 0, swirl = 0, mirror, rotate = 0 } = {}, kept = []) {
  const has = (/** @type {string} */ name, /** @type {number} */ value) => value !== 0 || kept.includes(name);
  return [
    ...(bend ? [{ [bend]: { ...(fov === undefined ? {} : { fov }), ...(yaw === undefined ? {} : { yaw }) } }] : []),
    ...(has("lens", lens) ? [{ lens: { k1: lens } }] : []),
    ...(has("swirl", swirl) ? [{ swirl: { degrees: swirl } }] : []),
    ...(mirror ? [{ scale: [mirror.includes("x") ? -1 : 1, mirror.includes("y") ? -1 : 1] }] : []),
    ...(has("rotate", rotate) ? [{ rotate }] : []),
  ];
}

/** Fields of POST /v1/images and jobs. @param {Shape | undefined} shape
 * @returns {{ transform?: object[], outside?: string, wrap?: string }} */
export function shapeFields(shape) {
  const transform = transformOf(shape);
  return { ...(transform.length ? { transform } : {}), ...surroundings(shape) };
}

/** The shape of a job, as far as it is one of the page's.
 * @param {{ transform?: Record<string, any>[], outside?: string, wrap?: string | null }} job */
export function shapeOf({ transform = [], outside, wrap }) {
  const { rotate, lens, swirl, scale = [1, 1], ...others } = Object.assign({}, ...transform);
  const bend = CHOICES.bend.find((name) => name in others);
  const mirror = `${scale[0] < 0 ? "x" : ""}${scale[1] < 0 ? "y" : ""}`;
  return tidyShape({ rotate, lens: lens?.k1, swirl: swirl?.degrees, mirror, bend, ...others[bend ?? ""], outside, wrap });
}

/** What is shown beside the picture. @param {Shape | undefined} shape @returns {{ outside?: string, wrap?: string }} */
export function surroundings({ outside, wrap } = {}) {
  return { ...(outside ? { outside } : {}), ...(wrap ? { wrap } : {}) };
}

/** The same in the query of an image's address. @param {Shape | undefined} shape @returns {Record<string, string>} */
export function shapeQuery(shape) {
  const { transform, ...texts } = shapeFields(shape);
  return { ...(transform ? { transform: JSON.stringify(transform) } : {}), ...texts };
}

/** A shape turned further. @param {Shape | undefined} shape @param {number} degrees clockwise */
export function turned(shape, degrees) {
  const angle = (((shape?.rotate ?? 0) + degrees + 540) % 360) - 180;
  return tidyShape({ ...shape, rotate: Number(angle.toFixed(1)) });
}

/** In words, such as " · turned 30°". @param {Shape | undefined} shape */
export function shapeName({ bend, lens, swirl, mirror, rotate, wrap } = {}) {
  const words = [
    rotate && `turned ${minus(String(rotate))}°`,
    mirror && "mirrored",
    (bend || lens || swirl) && "bent",
    wrap && "seamless",
  ];
  return words.filter(Boolean).map((word) => ` · ${word}`).join("");
}
