// @ts-check
/**
 * The view over time: moved at once by a pointer, or gliding there after a key or a button.
 *
 * @typedef {import("./view.js").View} View
 */

import { WHOLE, between, clamp } from "./view.js";

const GLIDE_MILLISECONDS = 220;

export class Motion {
  /** @type {View} where a glide under way will end; else what is shown */
  goal = WHOLE;
  #frame = 0;

  /** @param {(view: View) => void} show */
  constructor(show) {
    this.show = show;
  }

  /** @param {View} view */
  jump(view) {
    cancelAnimationFrame(this.#frame);
    this.goal = view;
    this.show(view);
  }

  /** @param {View} from what is shown @param {View} to */
  glide(from, to) {
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.jump(to);
      return;
    }
    cancelAnimationFrame(this.#frame);
    this.goal = to;
    const started = performance.now();
    const step = (/** @type {number} */ now) => {
      const share = clamp((now - started) / GLIDE_MILLISECONDS, 0, 1);
      this.show(between(from, to, 1 - (1 - share) ** 3));
      if (share < 1) this.#frame = requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }
}
