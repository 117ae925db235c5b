// @ts-check
/**
 * What a film shows between its keys, as the service's videos: latents follow a spline, views zoom at constant speed.
 *
 * @typedef {import("../link.js").Key} Key
 * @typedef {import("../picture/view.js").View} View
 * @typedef {import("../shape.js").Shape} Shape
 */

import { between } from "../picture/view.js";
import { NUMBERS } from "../shape.js";
import { splineWeights } from "./spline.js";

/** @type {Record<string, (share: number) => number>} */
const EASE = {
  linear: (t) => t,
  "ease-in": (t) => t * t,
  "ease-out": (t) => t * (2 - t),
  "ease-in-out": (t) => t * t * (3 - 2 * t),
};

/** When each key is shown. @param {Key[]} keys @returns {number[]} seconds */
export function timesOf(keys) {
  let time = 0;
  return keys.map(({ seconds }) => {
    const own = time;
    time += seconds;
    return own;
  });
}

/** The state of a film at a time.
 * @param {Key[]} keys at least two @param {string[]} ids of their latents @param {View[]} views of them
 * @param {number} time @returns {{ key: number, latent: object, view: View, shape: Shape }} key: the last one before */
export function stateAt(keys, ids, views, time) {
  const times = timesOf(keys);
  const key = Math.max(0, times.slice(0, -1).findLastIndex((each) => each <= time));
  const step = times[key + 1] - times[key];
  const share = EASE[keys[key].easing](Math.min(1, (time - times[key]) / step));
  const [from, to] = shapesOf(keys).slice(key, key + 2);
  return {
    key,
    latent: latentAt(ids, times, key, times[key] + share * step),
    view: between(views[key], views[key + 1], share),
    shape: shapeBetween(from, to, share),
  };
}

/** Shapes of keys that turn the shorter way from one to the next, beyond 180° if need be. @param {Key[]} keys
 * @returns {Shape[]} */
export function shapesOf(keys) {
  let angle = 0;
  return keys.map(({ image }, index) => {
    const rotate = image.shape?.rotate ?? 0;
    angle = index === 0 ? rotate : angle + ((((rotate - angle + 180) % 360) + 360) % 360) - 180;
    return { ...image.shape, rotate: angle };
  });
}

/** A curve through the latents, which stands still between equal ones.
 * @param {string[]} ids @param {number[]} times @param {number} key the last one before @param {number} time */
function latentAt(ids, times, key, time) {
  const moves = (/** @type {number} */ k) => k >= 0 && k < ids.length - 1 && ids[k] !== ids[k + 1];
  if (!moves(key)) return { id: ids[key] };
  let [first, last] = [key, key + 1];
  while (moves(first - 1)) first--;
  while (moves(last)) last++;
  const weights = splineWeights(times.slice(first, last + 1), time);
  const mix = weights.map((weight, index) => ({ latent: { id: ids[first + index] }, weight }));
  return { mix: mix.filter(({ weight }) => Math.abs(weight) > 1e-6) };
}

/** @param {Shape} from @param {Shape} to @param {number} share @returns {Shape} */
function shapeBetween(from, to, share) {
  const numbers = Object.entries(NUMBERS).map(([name, { usual }]) => {
    const [start, end] = [from, to].map((shape) => Number(Reflect.get(shape, name) ?? usual));
    return [name, start + (end - start) * share];
  });
  return { ...from, ...Object.fromEntries(numbers) };
}
