// @ts-check
/** What can be done with a finished job. */

import { iiifAddress } from "./api.js";
import { save, writeClipboard } from "./share.js";

const TOLD_MILLISECONDS = 1500;

/** @param {string} text @param {(button: HTMLButtonElement) => void} action */
export function button(text, action) {
  const made = Object.assign(document.createElement("button"), { type: "button", textContent: text });
  made.addEventListener("click", () => action(made));
  return made;
}

/** Copies the address for IIIF viewers. @param {import("./job_card.js").Job} job */
export function iiifButton({ id }) {
  return button("Copy IIIF", async (pressed) => {
    const written = await writeClipboard(iiifAddress(`job:${id}`));
    tell(pressed, written ? "Copied" : "Not allowed", "Copy IIIF");
  });
}

/** A link, which a browser saves piece by piece; where a key is needed, which a link cannot send, a request.
 * @param {import("./api.js").Api} api @param {import("./job_card.js").Job} job */
export function downloadButton(api, { id, output }) {
  const path = `v1/jobs/${id}/output`;
  if (!api.hasKey) {
    const link = document.createElement("a");
    return Object.assign(link, { textContent: "Download", href: path, download: "", className: "button" });
  }
  return button("Download", async (pressed) => {
    pressed.disabled = true;
    pressed.textContent = "Downloading …";
    try {
      save(await (await api.send("GET", path)).blob(), `${id}-picture.${output}`);
      pressed.textContent = "Download";
    } catch (error) {
      tell(pressed, "Failed", "Download");
      pressed.title = /** @type {Error} */ (error).message;
    } finally {
      pressed.disabled = false;
    }
  });
}

/** @param {HTMLButtonElement} pressed @param {string} text for a moment @param {string} afterwards */
function tell(pressed, text, afterwards) {
  pressed.textContent = text;
  setTimeout(() => (pressed.textContent = afterwards), TOLD_MILLISECONDS);
}
