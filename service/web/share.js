// @ts-check
/** What leaves the page: a link to the view, and the view as a file. */

import { iiifAddress, liveIdentifier } from "./api.js";
import { element } from "./dom.js";
import { writeLink } from "./link.js";
import { source } from "./source.js";
import { magnification, withLongSide } from "./view.js";

const COPIED_MILLISECONDS = 1500;

/** How long a browser may take to begin saving a file. */
const SAVING_MILLISECONDS = 60_000;

/** Puts the link to what is shown into the clipboard. @param {import("./link.js").State} state */
export async function copyLink(state) {
  const label = element("copy-label", HTMLElement);
  const written = await writeClipboard(new URL(writeLink(state), location.href).href);
  label.textContent = written ? "Copied" : "Copy it from the address bar";
  setTimeout(() => (label.textContent = "Copy link"), COPIED_MILLISECONDS);
}

/** Shows under which address IIIF viewers open the picture. @param {import("./link.js").State} state */
export function showIiif({ picture, job }) {
  element("iiif", HTMLInputElement).value = iiifAddress(job ? `job:${job.id}` : liveIdentifier(picture));
}

/** Puts that address into the clipboard, or marks it where the browser does not let us. */
export async function copyIiif() {
  const field = element("iiif", HTMLInputElement);
  const label = element("iiif-label", HTMLElement);
  if (await writeClipboard(field.value)) label.textContent = "Copied";
  else field.select();
  setTimeout(() => (label.textContent = "Copy"), COPIED_MILLISECONDS);
}

/** @param {string} text @returns {Promise<boolean>} whether the browser let us */
export async function writeClipboard(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  }
  // Away from localhost, plain HTTP offers nothing but this.
  const field = document.body.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
  field.select();
  const written = document.execCommand("copy");
  field.remove();
  return written;
}

/** The button that saves what is shown as a PNG of the chosen size, and cancels that while it is under way. */
export class Download {
  #label = element("download-label", HTMLElement);
  #told = element("download-told", HTMLElement);
  #size = element("download-size", HTMLSelectElement);
  /** @type {AbortController | null} */
  #running = null;

  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /** @param {import("./view.js").Size} canvas */
  setScreenSize({ width, height }) {
    element("screen-size", HTMLOptionElement).textContent = `Screen, ${width} × ${height}`;
  }

  /** @param {import("./link.js").State} state @param {import("./view.js").Size} canvas */
  async toggle(state, canvas) {
    if (this.#running) {
      this.#running.abort();
      return;
    }
    const longSide = Number(this.#size.value);
    const size = longSide ? withLongSide(canvas, longSide) : canvas;
    const { signal } = (this.#running = new AbortController());
    this.#label.textContent = "Cancel";
    this.#told.textContent = `Drawing ${size.width} × ${size.height} …`;
    try {
      const { blob } = await this.api.image(source(state, canvas, size, "png").path, signal);
      save(blob, fileName(state));
      this.#told.textContent = "";
    } catch (error) {
      this.#told.textContent = signal.aborted ? "" : /** @type {Error} */ (error).message;
    } finally {
      this.#label.textContent = "Download";
      this.#running = null;
    }
  }
}

/** @param {import("./link.js").State} state */
function fileName({ picture, view, job }) {
  if (job) return `job-${job.id}-x${Number(magnification(view).toPrecision(3))}.png`;
  const ofClass = picture.classIndex === null ? "" : `-class${picture.classIndex}`;
  return `${picture.model}${ofClass}-seed${picture.seed}-x${Number(magnification(view).toPrecision(3))}.png`;
}

/** @param {Blob} blob @param {string} name */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), SAVING_MILLISECONDS);
}
