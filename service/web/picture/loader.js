// @ts-check
/**
 * Loads what is missing of the view.
 *
 * Where the service is slow, a picture of a quarter of the size comes first, also while the view moves; the full one
 * follows when the view rests. Only missing pixels are asked for, and requests for a view that has gone are aborted,
 * which cancels them in the service.
 *
 * @typedef {import("./grid.js").Rect} Rect
 * @typedef {import("./sources.js").Source} Source
 * @typedef {import("../api/client.js").Reply} Reply
 *
 * @typedef {{ source: Source, scale: number, rect: Rect }} Target pixels to be loaded
 * @typedef {Target & { preview: boolean }} Part of a target
 * @typedef {{ part: Part, reply: Reply }} Loaded
 * @typedef {{ part: Part, controller: AbortController }} Running
 */

import { Problem } from "../api/client.js";
import { area, bounding, intersect, merge, uncovered } from "./coverage.js";
import { previewScale, rescale, roundOut } from "./grid.js";
import { Prefetcher } from "./prefetch.js";

/** Time without changes after which a view is at rest. */
const REST_MILLISECONDS = 120;

/** Expected time from which a smaller picture comes first. */
export const SLOW_MILLISECONDS = 150;

/** Missing parts are rounded out to multiples of it, so that further pixels are there before the view reaches them. */
const BLOCK = 32;
const PREVIEW_BLOCK = 32;

/** With more missing parts, or a larger share, the view is asked for as a whole. */
const MAX_PARTS = 3;
const WHOLE_SHARE = 0.7;

/** Smaller pictures take long for a pixel. */
const MIN_RATED_PIXELS = 100_000;

const PREVIEW_QUALITY = 80;
const FULL_QUALITY = 95;

export class Loader {
  /** @type {Target | null} */
  #target = null;
  /** @type {Running[]} */
  #running = [];
  #resting = false;
  #failed = false;
  #timer = 0;
  #clock = { started: 0, first: false, full: false };
  /** Milliseconds for a pixel, from the last large picture; null before the first. @type {number | null} */
  #rate = null;

  /**
   * @param {import("../api/client.js").Api} api
   * @param {import("./layers.js").Layers} layers
   * @param {object} events
   * @param {(loaded: Loaded) => void} events.onLoaded the layers have a new image
   * @param {() => void} events.onPrefetched the layers have a new image that is not asked for yet
   * @param {(error: Error) => void} events.onError
   * @param {(busy: boolean) => void} events.onBusy
   */
  constructor(api, layers, events) {
    this.api = api;
    this.layers = layers;
    this.events = events;
    this.prefetcher = new Prefetcher(api, layers, events.onPrefetched);
  }

  /** Load a target instead of the previous one. @param {Target} target */
  load(target) {
    if (this.#target && !this.#failed && isSame(target, this.#target)) return;
    this.#target = target;
    this.#clock = { started: performance.now(), first: false, full: false };
    this.#resting = false;
    this.#failed = false;
    this.prefetcher.stop();
    this.#abort(({ part }) => !part.preview && !isUseful(part, target));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#rest(), REST_MILLISECONDS);
    this.events.onBusy(true);
    this.#next();
  }

  /** Time that the full picture of a number of pixels is expected to take; null if nothing is known.
   * @param {number} pixels */
  expected(pixels) {
    return this.#rate === null ? null : this.#rate * pixels;
  }

  #rest() {
    const target = this.#target;
    this.#resting = true;
    if (target) this.#abort(({ part }) => !isUseful(part, target));
    this.#next();
  }

  /** @param {(running: Running) => boolean} isStale */
  #abort(isStale) {
    this.#running.filter(isStale).forEach(({ controller }) => controller.abort());
  }

  #next() {
    if (this.#running.length > 0 || !this.#target || this.#failed) return;
    const target = this.#target;
    if (!this.#preview(target)) this.#measure("first");
    const missing = this.#missing(target);
    if (missing === null) return;
    if (missing.length > 0) {
      missing.forEach((part) => this.#fetch(part));
    } else {
      this.#measure("full");
      this.events.onBusy(false);
      if (this.#resting) this.prefetcher.start(target, this.#isSlow([target.rect]));
    }
  }

  /** What to ask for next; null if that waits until the view rests. @param {Target} target @returns {Part[] | null} */
  #missing({ source, scale, rect }) {
    const missing = uncovered(rect, this.layers.at(source.key, scale));
    if (missing.length === 0) return [];
    if (this.#isSlow(missing)) {
      const preview = this.#preview({ source, scale, rect });
      if (preview) return [preview];
      if (!this.#resting) return null;
    }
    const parts = merge(missing);
    if (parts.length > MAX_PARTS || area(parts) > WHOLE_SHARE * area([rect])) {
      return [{ source, scale, rect, preview: false }];
    }
    return parts.map((part) => ({ source, scale, rect: roundOut(part, scale, BLOCK), preview: false }));
  }

  /** The picture of a quarter of the size, as far as nothing as good is there. @param {Target} target
   * @returns {Part | null} */
  #preview({ source, scale, rect }) {
    const coarse = previewScale(scale);
    const missing = uncovered(rescale(rect, scale, coarse), this.layers.asFineAs(source.key, coarse));
    if (missing.length === 0 || coarse >= scale) return null;
    return { source, scale: coarse, rect: roundOut(bounding(missing), coarse, PREVIEW_BLOCK), preview: true };
  }

  /** Tell the browser's performance tools since when the user waits. @param {"first" | "full"} picture */
  #measure(picture) {
    if (this.#clock[picture]) return;
    this.#clock[picture] = true;
    performance.measure(`creps-${picture}`, { start: this.#clock.started });
  }

  /** @param {Rect[]} rects */
  #isSlow(rects) {
    return (this.expected(area(rects)) ?? Infinity) > SLOW_MILLISECONDS;
  }

  /** @param {Part} part */
  async #fetch(part) {
    const running = { part, controller: new AbortController() };
    const { signal } = running.controller;
    this.#running.push(running);
    try {
      const reply = await this.#image(part, signal);
      this.events.onLoaded({ part, reply });
    } catch (error) {
      if (!signal.aborted && part.source.key === this.#target?.source.key) {
        this.#failed = true;
        this.events.onBusy(false);
        this.events.onError(/** @type {Error} */ (error));
      }
    } finally {
      this.#running = this.#running.filter((other) => other !== running);
      this.#next();
    }
  }

  /** @param {Part} part @param {AbortSignal} signal @returns {Promise<Reply>} */
  async #image(part, signal) {
    const { path, region } = part.source.request(part.rect, part.scale, part.preview ? PREVIEW_QUALITY : FULL_QUALITY);
    const reply = await this.api.image(path, signal);
    const bitmap = await createImageBitmap(reply.blob).catch(() => {
      throw new Problem(0, "The server's answer is no picture.");
    });
    signal.throwIfAborted();
    const { key } = part.source;
    if (key !== this.#target?.source.key && this.layers.source === this.#target?.source.key) return reply;
    this.layers.add(part.source, { scale: part.scale, rect: part.rect, region, bitmap });
    const pixels = area([part.rect]);
    if (!part.preview && !reply.cached && (this.#rate === null || pixels > MIN_RATED_PIXELS)) {
      this.#rate = reply.milliseconds / pixels;
    }
    return reply;
  }
}

/** @param {Target} a @param {Target} b */
function isSame(a, b) {
  const sides = /** @type {const} */ (["x", "y", "width", "height"]);
  return a.source.key === b.source.key && a.scale === b.scale && sides.every((name) => a.rect[name] === b.rect[name]);
}

/** Whether pixels that were asked for are still of use. @param {Part} part @param {Target} target */
function isUseful(part, target) {
  if (part.source.key !== target.source.key) return false;
  if (part.preview) return intersect(part.rect, rescale(target.rect, target.scale, part.scale));
  return part.scale === target.scale && intersect(part.rect, target.rect);
}
