// @ts-check
/**
 * How long a picture takes, from the pictures that the page has shown, and how many bytes it has, from a small piece of it
 * in the same format. Where all that was shown came from a cache, a larger piece is timed.
 */

import { cropPath } from "../api/addresses.js";

const DELAY_MILLISECONDS = 250; // while the user still chooses
const SIDE = 192;
const TIMED_SIDE = 448; // smaller pieces take longer for a pixel
const LEVELS = 4 / 3; // all smaller levels of a pyramid have a third of its pixels

/** @typedef {{ seconds: number | null, bytes: number | null, final: boolean }} Figures final: nothing more will come */

export class Estimate {
  #timer = 0;
  /** Milliseconds for a pixel of a model, as timed here. @type {Map<string, number>} */
  #timed = new Map();
  /** @type {AbortController | null} */
  #running = null;

  /** @param {import("../api/client.js").Api} api
   * @param {(pixels: number) => number | null} expected milliseconds for an image */
  constructor(api, expected) {
    this.api = api;
    this.expected = expected;
  }

  stop() {
    clearTimeout(this.#timer);
    this.#running?.abort();
  }

  /** Expected time; null if nothing is known. @param {string} model @param {import("./save.js").Choice} choice */
  seconds(model, { size, format }) {
    const pixels = pixelsOf(size, format);
    const timed = this.#timed.get(model);
    const milliseconds = this.expected(pixels) ?? (timed === undefined ? null : timed * pixels);
    return milliseconds === null ? null : milliseconds / 1000;
  }

  /** @param {import("../link.js").Image} image @param {import("./save.js").Choice} choice
   * @param {(figures: Figures) => void} onFigures first what is known already */
  start(image, choice, onFigures) {
    this.stop();
    const pixels = pixelsOf(choice.size, choice.format);
    const seconds = () => this.seconds(image.model, choice);
    onFigures({ seconds: seconds(), bytes: null, final: false });
    const { signal } = (this.#running = new AbortController());
    this.#timer = setTimeout(async () => {
      const bytesOfPixel = await this.#measure(image, choice, signal).catch(() => null);
      if (seconds() === null) await this.#time(image, choice, signal).catch(() => null);
      const bytes = bytesOfPixel === null ? null : bytesOfPixel * pixels;
      if (!signal.aborted) onFigures({ seconds: seconds(), bytes, final: true });
    }, DELAY_MILLISECONDS);
  }

  /** Bytes for a pixel, of the middle. @param {import("../link.js").Image} image
   * @param {import("./save.js").Choice} choice @param {AbortSignal} signal */
  async #measure(image, choice, signal) {
    const { reply, pixels } = await this.#piece(image, choice, SIDE, 0.5, signal);
    return reply.blob.size / pixels;
  }

  /** Time for a pixel, of a piece that is in no cache. @param {import("../link.js").Image} image
   * @param {import("./save.js").Choice} choice @param {AbortSignal} signal */
  async #time(image, choice, signal) {
    const { reply, pixels } = await this.#piece(image, choice, TIMED_SIDE, Math.random(), signal);
    const spent = reply.timings.filter(({ name }) => name !== "queue").reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    if (!reply.cached) this.#timed.set(image.model, spent / pixels);
  }

  /** @param {import("../link.js").Image} image @param {import("./save.js").Choice} choice @param {number} side at most
   * @param {number} place from 0 for the first corner to 1 for the last @param {AbortSignal} signal */
  async #piece(image, { region, size, format, quality }, side, place, signal) {
    const [width, height] = [size.width, size.height].map((full) => Math.min(full, side));
    const [x, y] = [Math.floor((size.width - width) * place), Math.floor((size.height - height) * place)];
    const path = cropPath(image, { size, region, crop: { x, y, width, height } }, format.image, quality);
    return { reply: await this.api.prefetch(path, signal), pixels: width * height };
  }
}

/** @param {import("./save.js").Choice["size"]} size @param {import("./save.js").Choice["format"]} format */
function pixelsOf(size, format) {
  return size.width * size.height * (format.levels ? LEVELS : 1);
}
