// @ts-check
/**
 * Moves of the view: by pointers, keys and buttons.
 *
 * @typedef {import("./view.js").Point} Point
 */

import { element, onClick } from "../dom.js";
import { listenToPointers } from "./gestures.js";
import { OCTAVE, ZOOM_STEP } from "./grid.js";
import { fit, pan, zoom } from "./view.js";

const KEY_ZOOM = 2 ** (ZOOM_STEP / OCTAVE);
const KEY_PAN = 0.1; // of the canvas
const KEY_TURN = 15; // degrees

export class Navigation {
  /** @param {import("./motion.js").Motion} motion @param {() => import("./view.js").Region} frame of the picture
   * @param {(degrees: number, anchor: Point) => void} onTurn */
  constructor(motion, frame, onTurn) {
    this.motion = motion;
    this.frame = frame;
    this.onTurn = onTurn;
    onClick("zoom-in", this.zoomIn);
    onClick("zoom-out", this.zoomOut);
    onClick("whole", this.showWhole);
    onClick("full-screen", toggleFullScreen);
    element("screen", HTMLElement).hidden = !document.fullscreenEnabled;
  }

  /** By KeyboardEvent.key. @returns {Record<string, () => void>} */
  get keys() {
    return {
      "+": this.zoomIn,
      "=": this.zoomIn,
      "-": this.zoomOut,
      0: this.showWhole,
      Home: this.showWhole,
      ArrowLeft: () => this.#pan(-KEY_PAN, 0),
      ArrowRight: () => this.#pan(KEY_PAN, 0),
      ArrowUp: () => this.#pan(0, -KEY_PAN),
      ArrowDown: () => this.#pan(0, KEY_PAN),
      ",": () => this.onTurn(-KEY_TURN, this.#middle),
      ".": () => this.onTurn(KEY_TURN, this.#middle),
    };
  }

  showWhole = () => this.motion.glide(fit(this.frame(), this.motion.size()));

  zoomIn = () => this.#zoom(KEY_ZOOM);

  zoomOut = () => this.#zoom(1 / KEY_ZOOM);

  /** @param {HTMLCanvasElement} canvas that shows the view */
  listen(canvas) {
    const { motion } = this;
    listenToPointers(canvas, {
      hold: (held) => motion.hold(held),
      pan: (by) => motion.follow(pan(motion.view, motion.size(), by)),
      zoom: (anchor, factor) => motion.follow(zoom(motion.view, motion.size(), anchor, factor), anchor),
      glideZoom: (anchor, factor) => this.#zoom(factor, anchor),
      turn: (anchor, degrees) => this.onTurn(degrees, anchor),
    });
  }

  get #middle() {
    const { width, height } = this.motion.size();
    return { x: width / 2, y: height / 2 };
  }

  /** @param {number} factor @param {Point} [anchor] */
  #zoom(factor, anchor = this.#middle) {
    this.motion.glide(zoom(this.motion.goal, this.motion.size(), anchor, factor));
  }

  /** @param {number} right share of the canvas @param {number} down */
  #pan(right, down) {
    const { width, height } = this.motion.size();
    const by = { x: -Math.round(right * width), y: -Math.round(down * height) };
    this.motion.glide(pan(this.motion.goal, { width, height }, by));
  }
}

function toggleFullScreen() {
  if (document.fullscreenElement) document.exitFullscreen();
  else document.documentElement.requestFullscreen();
}
