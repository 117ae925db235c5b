// @ts-check
/** The way from a picture to another seed and back, in small pictures of the view. */

import { sourceOf } from "../api/latents.js";
import { UNIT_SQUARE, fit, regionOf, withLongSide } from "../picture/view.js";
import { SMALL, SMALL_SIDE } from "./player.js";

/** @typedef {import("../link.js").Image} Image */

const STEPS = 24; // from one end to the other

/** Frames in the order in which they are played, and the weight of the other seed in each.
 * @param {Image} image with a seed to mix in @param {import("../picture/view.js").View} view
 * @param {import("../picture/view.js").Size} canvas @returns {{ weight: number, body: object }[]} */
export function walk(image, view, canvas) {
  const there = Array.from({ length: STEPS + 1 }, (_, step) => step / STEPS);
  const weights = [...there, ...there.slice(1, -1).reverse()];
  return weights.map((weight) => ({ weight, body: smallPicture(atWeight(image, weight), view, canvas) }));
}

/** The body of POST /v1/images for a small picture of a view. @param {Image} image
 * @param {import("../picture/view.js").View | null} view null for the whole picture
 * @param {import("../picture/view.js").Size} canvas @param {number} [side] the longer one */
export function smallPicture(image, view, canvas, side = SMALL_SIDE) {
  const region = regionOf(view ?? fit(UNIT_SQUARE, canvas), canvas);
  return { ...sourceOf(image), ...withLongSide(canvas, side), region, ...SMALL };
}

/** @param {Image} image @param {number} weight */
function atWeight(image, weight) {
  const mix = image.recipe?.mix;
  return mix ? { ...image, recipe: { ...image.recipe, mix: { ...mix, weight } } } : image;
}
