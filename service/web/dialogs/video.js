// @ts-check
/** Shows the finished video of a job. */

import { create, element, onClick } from "../dom.js";

/** Outputs that browsers show as moving pictures, not as videos. */
const PICTURES = ["apng", "webp"];

/** Outputs that no browser plays. */
const UNPLAYABLE = ["ffv1"];

/** @param {{ output: string, frames?: number | null }} job */
export function isPlayable({ output, frames }) {
  return Boolean(frames) && !UNPLAYABLE.includes(output);
}

export class VideoDialog {
  #dialog = element("video-dialog", HTMLDialogElement);
  #screen = element("video-screen", HTMLElement);
  #title = element("video-title", HTMLElement);
  #told = element("video-told", HTMLElement);
  #url = ""; // of a video in memory

  /** @param {import("../api/client.js").Api} api */
  constructor(api) {
    this.api = api;
    onClick("video-close", () => this.#dialog.close());
    this.#dialog.addEventListener("close", () => {
      this.#screen.replaceChildren();
      URL.revokeObjectURL(this.#url);
      this.#url = "";
    });
  }

  /** @param {import("../panels/job_card.js").Job} job @param {string} title */
  async open(job, title) {
    this.#title.textContent = title;
    this.#told.textContent = "";
    this.#dialog.showModal();
    try {
      this.#show(job, await this.#source(`v1/jobs/${job.id}/output`), title);
    } catch (error) {
      this.#told.textContent = /** @type {Error} */ (error).message;
    }
  }

  /** @param {import("../panels/job_card.js").Job} job @param {string} src @param {string} title */
  #show({ output, width, height }, src, title) {
    if (!this.#dialog.open) return; // closed while it was loading
    const shown = PICTURES.includes(output)
      ? create("img", { alt: title, width, height })
      : create("video", { controls: true, loop: true, playsInline: true, width, height });
    shown.setAttribute("aria-label", title);
    shown.addEventListener("error", () => {
      shown.hidden = true;
      this.#told.textContent = "This browser cannot play it. Download it instead.";
    });
    shown.src = src;
    this.#screen.replaceChildren(shown);
    if (shown instanceof HTMLVideoElement) shown.play().catch(() => {}); // the user may have to press the button
  }

  /** An address; with an API key, which an address cannot send, the file in memory. @param {string} path */
  async #source(path) {
    if (!this.api.hasKey) return path;
    this.#url = URL.createObjectURL(await (await this.api.send("GET", path)).blob());
    return this.#url;
  }
}
