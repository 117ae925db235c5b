// @ts-check
/**
 * Fetches what is in view, one request at a time.
 *
 * While the view moves, pictures follow it one after the other: small ones, unless the service is quick. Once it rests,
 * what is stale is aborted, so that the service drops the work, and larger ones follow until every pixel is there.
 *
 * @typedef {import("./view.js").Size} Size
 * @typedef {import("./api.js").Reply} Reply
 *
 * @typedef {import("./link.js").State & { size: Size }} Target what the canvas of this size should show
 *
 * @typedef {object} Loaded
 * @property {Target} target
 * @property {import("./view.js").Region} region where it lies on the plane
 * @property {ImageBitmap} bitmap
 * @property {boolean} full whether it is as large as the canvas can show it
 * @property {Reply} reply
 */

import { Problem } from "./api.js";
import { source } from "./source.js";
import { scaled } from "./view.js";

/** A view that has not changed for so long is at rest. */
const REST_MILLISECONDS = 120;

/** Which scales of the canvas are fetched one after the other, by how long the last full picture took. */
const PLANS = [
  { below: 200, scales: [1] },
  { below: 1000, scales: [1 / 4, 1] },
  { below: Infinity, scales: [1 / 4, 1 / 2, 1] },
];

const PREVIEW_QUALITY = 80;
const FULL_QUALITY = 95;

export class Loader {
  /** @type {Target | null} */
  #target = null;
  /** @type {number[]} the scales that the target still lacks */
  #scales = [];
  /** Whether the first of them is fetched at once, as it is while the view moves; the others wait until it rests. */
  #atOnce = false;
  #resting = false;
  /** @type {{ target: Target, atOnce: boolean, controller: AbortController } | null} the request in flight */
  #job = null;
  #timer = 0;
  #fullMilliseconds = 500; // a guess

  /**
   * @param {import("./api.js").Api} api
   * @param {object} events
   * @param {(loaded: Loaded) => void} events.onLoaded
   * @param {(error: Error) => void} events.onError
   * @param {(busy: boolean) => void} events.onBusy
   */
  constructor(api, { onLoaded, onError, onBusy }) {
    this.api = api;
    this.onLoaded = onLoaded;
    this.onError = onError;
    this.onBusy = onBusy;
  }

  /** Asks for a target, in place of the one before. @param {Target} target */
  load(target) {
    const plan = PLANS.find(({ below }) => this.#fullMilliseconds < below) ?? PLANS[0];
    this.#target = target;
    this.#scales = [...plan.scales];
    this.#atOnce = true;
    this.#resting = false;
    if (this.#job && !this.#job.atOnce) this.#job.controller.abort();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#rest(), REST_MILLISECONDS);
    this.onBusy(true);
    this.#next();
  }

  #rest() {
    this.#resting = true;
    if (this.#job && this.#job.target !== this.#target) this.#job.controller.abort();
    this.#next();
  }

  #next() {
    if (this.#job || !this.#target) return;
    if (this.#scales.length === 0) this.onBusy(false);
    else if (this.#atOnce || this.#resting) this.#fetch(this.#target, this.#scales[0]);
  }

  /** @param {Target} target @param {number} scale */
  async #fetch(target, scale) {
    const controller = new AbortController();
    this.#job = { target, atOnce: this.#atOnce, controller };
    try {
      const loaded = await this.#picture(target, scale, controller.signal);
      if (loaded.full) this.#fullMilliseconds = loaded.reply.milliseconds;
      if (target === this.#target) {
        this.#scales.shift();
        this.#atOnce = false;
      }
      this.onLoaded(loaded);
    } catch (error) {
      if (!controller.signal.aborted && target === this.#target) {
        this.#scales = [];
        this.onError(/** @type {Error} */ (error));
      }
    } finally {
      this.#job = null;
      this.#next();
    }
  }

  /** @param {Target} target @param {number} scale @param {AbortSignal} signal @returns {Promise<Loaded>} */
  async #picture(target, scale, signal) {
    const full = scale === 1;
    const size = scaled(target.size, scale);
    const { path, region } = source(target, target.size, size, "jpeg", full ? FULL_QUALITY : PREVIEW_QUALITY);
    const reply = await this.api.image(path, signal);
    const bitmap = await createImageBitmap(reply.blob).catch(() => {
      throw new Problem(0, "The server's answer is no picture.");
    });
    signal.throwIfAborted();
    return { target, region, bitmap, full, reply };
  }
}
