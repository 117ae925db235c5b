// @ts-check
/**
 * A canvas that shows one picture, with its frame.
 *
 * @typedef {import("./view.js").View} View
 * @typedef {import("./view.js").Size} Size
 * @typedef {import("./sources.js").Source} Source
 *
 * @typedef {object} Reactions
 * @property {(loaded: import("./loader.js").Loaded) => void} onLoaded
 * @property {() => void} onPrefetched
 * @property {(error: Error) => void} onError
 * @property {(busy: boolean) => void} onBusy
 */

import { rectOf, rescale, roundOut, scaleOf } from "./grid.js";
import { Layers } from "./layers.js";
import { Loader } from "./loader.js";
import { within } from "./sources.js";
import { Stage } from "./stage.js";
import { clamp, placement } from "./view.js";

/** Longest side of a frame that is turned, in CSS pixels. */
const MAX_TURNED = 1e6;

export class Viewer {
  layers = new Layers();
  /** @type {Source | null} */
  #source = null;

  /** @param {HTMLElement} element with a canvas and a .frame @param {import("../api/client.js").Api} api
   * @param {Reactions} reactions */
  constructor(element, api, reactions) {
    this.element = element;
    this.canvas = /** @type {HTMLCanvasElement} */ (element.querySelector("canvas"));
    this.frame = /** @type {HTMLElement} */ (element.querySelector(".frame"));
    this.stage = new Stage(this.canvas, this.layers);
    this.loader = new Loader(api, this.layers, {
      ...reactions,
      onLoaded: (loaded) => {
        this.stage.redraw();
        this.#mark();
        reactions.onLoaded(loaded);
      },
      onPrefetched: () => {
        this.stage.redraw();
        reactions.onPrefetched();
      },
      onBusy: (busy) => {
        this.canvas.ariaBusy = String(busy);
        reactions.onBusy(busy);
      },
    });
  }

  /** @returns {Size} of the canvas in pixels */
  get size() {
    return this.stage.size;
  }

  /** Show a view of a picture. @param {Source} source @param {View} view @param {View} goal which it moves to */
  show(source, view, goal) {
    this.#source = source;
    this.stage.look(view, source);
    this.#placeFrame(view);
    this.#mark();
    this.loader.load(this.#target(source, goal));
  }

  /** Fit the canvas to its box. @param {number} maxPixels beyond which a canvas pixel covers several screen pixels
   * @returns {boolean} whether the canvas has a size */
  resize(maxPixels) {
    const { width, height } = this.element.getBoundingClientRect();
    if (width === 0 || height === 0) return false;
    const ratio = Math.min(devicePixelRatio, Math.sqrt(maxPixels / (width * height)));
    this.stage.resize({ width: Math.max(1, Math.floor(width * ratio)), height: Math.max(1, Math.floor(height * ratio)) });
    return true;
  }

  /** @param {Source} source @param {View} goal at rest @returns {import("./loader.js").Target} */
  #target(source, goal) {
    const own = scaleOf(goal, this.size);
    const scale = Math.min(own, source.finestScale);
    const rect = roundOut(rescale(rectOf(goal, this.size, own), own, scale), scale, 1);
    return { source, scale, rect: within(source, rect, scale) };
  }

  /** Tell what is not there yet: nothing at all, or only a picture of an older state. */
  #mark() {
    this.element.classList.toggle("empty", this.layers.source === null);
    const isOther = this.layers.source !== null && this.#source !== null && this.layers.turnTo(this.#source) === null;
    this.element.classList.toggle("stale", isOther);
  }

  /** @param {View} view */
  #placeFrame(view) {
    if (!this.#source) return;
    const { frame, turn, outside } = this.#source;
    const box = this.element.getBoundingClientRect();
    const { left, top, width, height } = placement(frame, view, box);
    // Browsers cannot lay out boxes of 10⁹ pixels: edges far outside are moved to just outside, if they are upright.
    const margin = turn ? Infinity : 8;
    const [x0, x1] = [left, left + width].map((x) => clamp(x, -margin, box.width + margin));
    const [y0, y1] = [top, top + height].map((y) => clamp(y, -margin, box.height + margin));
    this.frame.hidden = outside === "none" || (turn !== 0 && width > MAX_TURNED);
    this.frame.classList.toggle("plain", outside === "plain");
    Object.assign(this.frame.style, {
      left: `${x0}px`,
      top: `${y0}px`,
      width: `${x1 - x0}px`,
      height: `${y1 - y0}px`,
      rotate: `${turn}deg`,
    });
  }
}
