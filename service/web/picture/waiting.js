// @ts-check
/** Tells how long the picture takes, once that is noticeable. */

import { element } from "../dom.js";
import { roughTime } from "../numbers.js";

const DELAY_MILLISECONDS = 300;
const TICK_MILLISECONDS = 500;

export class Waiting {
  #told = element("waiting", HTMLElement);
  #progress = element("progress", HTMLElement);
  #started = 0;
  #timer = 0;
  /** Whether a smaller picture is shown. */
  preview = false;

  /** @param {() => number | null} expected milliseconds that the full picture takes */
  constructor(expected) {
    this.expected = expected;
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    clearInterval(this.#timer);
    if (busy) {
      this.#started = performance.now();
      this.#timer = setInterval(() => this.#tell(), TICK_MILLISECONDS);
      setTimeout(() => this.#tell(), DELAY_MILLISECONDS);
    } else {
      this.#started = 0;
      this.#told.hidden = this.#progress.hidden = true;
    }
  }

  #tell() {
    const elapsed = performance.now() - this.#started;
    if (this.#started === 0 || elapsed < DELAY_MILLISECONDS) return;
    const expected = this.expected();
    const what = this.preview ? "Preview" : "Drawing";
    const seconds = Math.floor(elapsed / 1000);
    const of = expected === null || expected < elapsed ? "" : ` of about ${roughTime(expected / 1000)}`;
    this.#told.textContent = seconds === 0 && !of ? `${what} …` : `${what} · ${seconds} s${of}`;
    this.#told.hidden = this.#progress.hidden = false;
  }
}
