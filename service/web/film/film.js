// @ts-check
/**
 * A film of keys: its frames in small pictures, and the order of the video.
 *
 * @typedef {import("../link.js").Key} Key
 * @typedef {import("../picture/view.js").Size} Size
 */

import { UNIT_SQUARE, fit, regionOf, withLongSide } from "../picture/view.js";
import { shapeFields, surroundings, transformOf } from "../shape.js";
import { MAX_FRAMES, SMALL, SMALL_SIDE } from "./player.js";
import { shapesOf, stateAt, timesOf } from "./timeline.js";

const SMALL_FPS = 12;

/** Why a picture cannot be another key of a film; empty if it can. @param {Key[]} keys
 * @param {import("../link.js").Image} image */
export function refusalOf(keys, { model, classIndex, shape }) {
  if (keys.length === 0) return "";
  const first = keys[0].image;
  if (first.model !== model || first.classIndex !== classIndex) return "All keys of a film are of one model and class.";
  const choices = /** @type {const} */ (["bend", "mirror", "outside", "wrap"]);
  const isSame = choices.every((name) => first.shape?.[name] === shape?.[name]);
  return isSame ? "" : "All keys of a film are bent, mirrored and repeated in the same way.";
}

/** Frames for the player. @param {Key[]} keys at least two @param {string[]} ids of their latents @param {Size} canvas
 * @returns {{ fps: number, frames: { key: number, body: object }[] }} */
export function framesOf(keys, ids, canvas) {
  const total = /** @type {number} */ (timesOf(keys).at(-1));
  const fps = Math.min(SMALL_FPS, (MAX_FRAMES - 1) / total);
  const last = Math.max(1, Math.round(total * fps));
  const views = viewsOf(keys, canvas);
  const frames = Array.from({ length: last + 1 }, (_, index) => {
    const { key, latent, view, shape } = stateAt(keys, ids, views, (total * index) / last);
    const body = {
      model: keys[0].image.model,
      latent,
      ...shapeFields(shape),
      ...withLongSide(canvas, SMALL_SIDE),
      region: regionOf(view, canvas),
      ...SMALL,
    };
    return { key: index === last ? keys.length - 1 : key, body };
  });
  return { fps, frames };
}

/** The body of POST /v1/jobs. @param {Key[]} keys at least two @param {string[]} ids of their latents
 * @param {Size} canvas whose aspect the video has @param {{ output: string, side: number, fps: number }} choice */
export function videoOrder(keys, ids, canvas, { output, side, fps }) {
  const [times, shapes, views] = [timesOf(keys), shapesOf(keys), viewsOf(keys, canvas)];
  const kept = ["lens", "swirl", "rotate"].filter((name) => shapes.some((shape) => Reflect.get(shape, name)));
  const { width, height } = withLongSide(canvas, side);
  return {
    model: keys[0].image.model,
    output,
    width: even(width),
    height: even(height),
    fps,
    ...surroundings(shapes[0]),
    keyframes: keys.map(({ easing }, index) => ({
      time: times[index],
      easing,
      latent: { id: ids[index] },
      region: regionOf(views[index], canvas),
      transform: transformOf(shapes[index], kept),
    })),
  };
}

/** @param {Key[]} keys @param {Size} canvas */
function viewsOf(keys, canvas) {
  return keys.map(({ view }) => view ?? fit(UNIT_SQUARE, canvas));
}

/** Most players need sides of two pixels each. @param {number} side */
function even(side) {
  return Math.max(2, 2 * Math.round(side / 2));
}
