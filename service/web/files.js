// @ts-check
/** Files and texts that leave the page: downloads, their names, and the clipboard. */

import { flash } from "./dom.js";

/** Time for a browser to begin saving a file. */
const SAVING_MILLISECONDS = 60_000;

/** @param {Blob} blob @param {string} name */
export function saveFile(blob, name) {
  const url = URL.createObjectURL(blob);
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  setTimeout(() => URL.revokeObjectURL(url), SAVING_MILLISECONDS);
}

/** As the service names files. @param {import("./link.js").Image} image @param {import("./picture/view.js").Size} size
 * @param {string} suffix */
export function fileName({ model, seed, classIndex }, { width, height }, suffix) {
  const ofClass = classIndex === null ? "" : `-class${classIndex}`;
  return `${model}${ofClass}-seed${seed}-${width}x${height}.${suffix}`;
}

/** Copy a text and tell so on the button; where the browser does not allow it, select the field that has the text.
 * @param {HTMLButtonElement} pressed @param {string} text @param {HTMLInputElement | HTMLTextAreaElement} [field] */
export async function copyText(pressed, text, field) {
  if (await writeClipboard(text)) {
    flash(pressed, "Copied", "Copy");
  } else {
    field?.select();
    flash(pressed, "Press Ctrl+C", "Copy");
  }
}

/** @param {string} text @returns {Promise<boolean>} whether the browser allowed it */
export async function writeClipboard(text) {
  if (navigator.clipboard) {
    return navigator.clipboard.writeText(text).then(
      () => true,
      () => false,
    );
  }
  // The only way over plain HTTP, except on localhost. A dialog makes the rest of the page inert.
  const place = document.querySelector("dialog[open]") ?? document.body;
  const field = place.appendChild(Object.assign(document.createElement("textarea"), { value: text }));
  field.select();
  const written = document.execCommand("copy");
  field.remove();
  return written;
}
