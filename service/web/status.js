// @ts-check
/** What is shown and what is going on, in words. */

import { element } from "./dom.js";
import { partInView, pixelScale } from "./source.js";
import { clamp, magnification, pixelSize, planePoint } from "./view.js";

/** What takes no longer than this needs no sign of progress. */
const PROGRESS_DELAY = 300;

/** Tells what goes wrong, what is waited for, and that something is under way. */
export class Notice {
  #bar = element("notice", HTMLElement);
  #text = element("notice-text", HTMLElement);
  #again = element("again", HTMLButtonElement);
  #progress = element("progress", HTMLElement);
  #timer = 0;

  /** @param {() => void} onAgain */
  constructor(onAgain) {
    this.#again.addEventListener("click", onAgain);
  }

  /** @param {string} text */
  wait(text) {
    this.#show(text, false);
  }

  /** @param {string} text */
  fail(text) {
    this.#show(text, true);
  }

  clear() {
    this.#bar.hidden = true;
  }

  /** @param {boolean} busy */
  setBusy(busy) {
    clearTimeout(this.#timer);
    if (busy) this.#timer = setTimeout(() => (this.#progress.hidden = false), PROGRESS_DELAY);
    else this.#progress.hidden = true;
  }

  /** @param {string} text @param {boolean} failed */
  #show(text, failed) {
    this.#text.textContent = text;
    this.#again.hidden = !failed;
    this.#bar.classList.toggle("failed", failed);
    this.#bar.hidden = false;
  }
}

/** Writes into the status line what the view is.
 * @param {import("./link.js").State} state @param {import("./view.js").Size} size */
export function describeView({ view, job }, size) {
  element("magnification", HTMLElement).textContent = `×${readable(magnification(view))}`;
  if (job) describePart(job, view, size);
  else describeRegion(view, size);
}

/** @param {import("./view.js").View} view @param {import("./view.js").Size} size */
function describeRegion(view, size) {
  const from = planePoint(view, size, { x: 0, y: 0 });
  const to = planePoint(view, size, { x: size.width, y: size.height });
  const digits = clamp(3 - Math.floor(Math.log10(view.extent)), 2, 12);
  const span = (/** @type {number} */ a, /** @type {number} */ b) =>
    `${minus(a.toFixed(digits))} … ${minus(b.toFixed(digits))}`;
  element("region", HTMLElement).textContent = `x ${span(from.x, to.x)}   y ${span(from.y, to.y)}`;
  element("pixel", HTMLElement).textContent = `1 px = ${readable(pixelSize(view, size))}`;
}

/** In pixels of a stored picture.
 * @param {import("./source.js").Stored} job
 * @param {import("./view.js").View} view @param {import("./view.js").Size} size */
function describePart(job, view, size) {
  const { x, y, width, height } = partInView(job, view, size);
  const span = (/** @type {number} */ first, /** @type {number} */ count) =>
    `${first.toLocaleString("en")} … ${(first + count).toLocaleString("en")}`;
  element("region", HTMLElement).textContent = `pixels ${span(x, width)}   ${span(y, height)}`;
  element("pixel", HTMLElement).textContent = `at ${readable(100 / pixelScale(job, view, size))} %`;
}

/** Writes into the status line what the last full picture took.
 * @param {import("./loader.js").Loaded} loaded */
export function describePicture({ bitmap, reply }) {
  const time = element("time", HTMLElement);
  const render = reply.timings.find(({ name }) => name === "render")?.milliseconds;
  time.textContent = `${bitmap.width} × ${bitmap.height} in ${duration(render || reply.milliseconds)}`;
  const parts = [...reply.timings, { name: "in all", milliseconds: reply.milliseconds }];
  time.title = parts.map(({ name, milliseconds }) => `${name} ${duration(milliseconds)}`).join(", ");
}

/** @param {number} value > 0 @returns {string} three digits, powers of ten beyond a million and below a thousandth */
export function readable(value) {
  if (value < 1e-3 || value >= 999_999.5) {
    const [digits, exponent] = value.toExponential(2).split("e");
    return `${Number(digits)}·10${superscript(Number(exponent))}`;
  }
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
}

/** @param {number} exponent */
function superscript(exponent) {
  return minus(String(exponent))
    .replace("−", "⁻")
    .replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]);
}

/** @param {string} number */
function minus(number) {
  return number.replace("-", "−");
}

/** @param {number} milliseconds */
function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}
