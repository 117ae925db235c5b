// @ts-check
/** How long a picture takes and how many bytes it has, from a small piece of it in the same format. */

import { cropPath } from "../api/addresses.js";

const DELAY_MILLISECONDS = 250; // while the user still chooses
const SIDE = 192;
const LEVELS = 4 / 3; // all smaller levels of a pyramid have a third of its pixels

/** @typedef {{ seconds: number | null, bytes: number | null }} Figures */

export class Estimate {
  #timer = 0;
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

  /** Expected time; null if nothing is known. @param {import("./save.js").Choice} choice */
  seconds({ size, format }) {
    const milliseconds = this.expected(pixelsOf(size, format));
    return milliseconds === null ? null : milliseconds / 1000;
  }

  /** @param {import("../link.js").Image} image @param {import("./save.js").Choice} choice
   * @param {(figures: Figures) => void} onFigures first without bytes */
  start(image, choice, onFigures) {
    this.stop();
    const seconds = this.seconds(choice);
    const pixels = pixelsOf(choice.size, choice.format);
    onFigures({ seconds, bytes: null });
    const { signal } = (this.#running = new AbortController());
    this.#timer = setTimeout(async () => {
      const bytesOfPixel = await this.#measure(image, choice, signal).catch(() => null);
      if (!signal.aborted && bytesOfPixel !== null) onFigures({ seconds, bytes: bytesOfPixel * pixels });
    }, DELAY_MILLISECONDS);
  }

  /** Bytes for a pixel, of the middle. @param {import("../link.js").Image} image
   * @param {import("./save.js").Choice} choice @param {AbortSignal} signal */
  async #measure(image, { region, size, format, quality }, signal) {
    const [width, height] = [size.width, size.height].map((side) => Math.min(side, SIDE));
    const [x, y] = [Math.floor((size.width - width) / 2), Math.floor((size.height - height) / 2)];
    const path = cropPath(image, { size, region, crop: { x, y, width, height } }, format.image, quality);
    const { blob } = await this.api.prefetch(path, signal);
    return blob.size / (width * height);
  }
}

/** @param {import("./save.js").Choice["size"]} size @param {import("./save.js").Choice["format"]} format */
function pixelsOf(size, format) {
  return size.width * size.height * (format.levels ? LEVELS : 1);
}
