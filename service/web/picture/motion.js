// @ts-check
/**
 * Motion of the view: immediate for pointers, animated for keys and buttons. At rest the view lies on the pixels of a
 * scale.
 *
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Point} Point
 */

import { snap } from "./grid.js";
import { between, clamp } from "./view.js";

const GLIDE_MILLISECONDS = 220;
const REST_MILLISECONDS = 100; // without a movement of the pointer

export class Motion {
  #frame = 0;
  #timer = 0;
  #held = false;

  /** @param {View} view @param {() => import("./view.js").Size} size of the canvas
   * @param {(view: View) => void} show is called for each change of `view` or `goal` */
  constructor(view, size, show) {
    this.view = view; // what is shown
    this.goal = view; // where it comes to rest
    this.size = size;
    this.show = show;
  }

  /** @param {View} view */
  jump(view) {
    this.#stop();
    this.#set(view, view);
  }

  /** Follow a pointer. @param {View} view @param {Point} [anchor] that stays in place when the view comes to rest */
  follow(view, anchor) {
    this.#stop();
    this.#set(view, snap(view, this.size(), anchor));
    if (!this.#held) this.#timer = setTimeout(() => this.#glide(), REST_MILLISECONDS);
  }

  /** Whether a pointer holds the view: then it does not come to rest. @param {boolean} held */
  hold(held) {
    this.#held = held;
    this.#stop();
    if (!held) this.#timer = setTimeout(() => this.#glide(), REST_MILLISECONDS);
  }

  /** Move to the nearest view at rest. @param {View} view */
  glide(view) {
    this.#stop();
    this.#set(this.view, snap(view, this.size()));
    this.#glide();
  }

  #glide() {
    const [from, to] = [this.view, this.goal];
    if (matchMedia("(prefers-reduced-motion: reduce)").matches) {
      this.jump(to);
      return;
    }
    const started = performance.now();
    const step = (/** @type {number} */ now) => {
      const share = clamp((now - started) / GLIDE_MILLISECONDS, 0, 1);
      this.#set(between(from, to, 1 - (1 - share) ** 3), to);
      if (share < 1) this.#frame = requestAnimationFrame(step);
    };
    this.#frame = requestAnimationFrame(step);
  }

  /** @param {View} view @param {View} goal */
  #set(view, goal) {
    this.view = view;
    this.goal = goal;
    this.show(view);
  }

  #stop() {
    cancelAnimationFrame(this.#frame);
    clearTimeout(this.#timer);
  }
}
