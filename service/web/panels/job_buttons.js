// @ts-check
/** Buttons for finished jobs. */

import { button, create, flash } from "../dom.js";
import { fileName, saveFile } from "../files.js";

/** Of outputs whose names are others. @type {Record<string, string>} */
const SUFFIXES = { dzi: "zip", ffv1: "mkv" };

/** A download link, or with an API key, which a link cannot send, a button that downloads into memory.
 * @param {import("../api/client.js").Api} api @param {import("./job_card.js").Job} job
 * @param {import("../link.js").Image} image */
export function downloadButton(api, job, image) {
  const isFolder = job.output === "dzi";
  const path = `v1/jobs/${job.id}/output${isFolder ? ".zip" : ""}`;
  const name = fileName(image, job, SUFFIXES[job.output] ?? job.output);
  if (!api.hasKey) {
    return create("a", { textContent: "Download", href: path, download: name, className: "button small" });
  }
  const download = async (/** @type {HTMLButtonElement} */ pressed) => {
    pressed.disabled = true;
    pressed.textContent = "Downloading …";
    try {
      saveFile(await (await api.send("GET", path)).blob(), name);
      pressed.textContent = "Download";
    } catch (error) {
      flash(pressed, "Failed", "Download");
      pressed.title = /** @type {Error} */ (error).message;
    } finally {
      pressed.disabled = false;
    }
  };
  return button("Download", download, "small");
}
