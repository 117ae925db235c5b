// @ts-check
/**
 * The card of a job: its progress and actions.
 *
 * @typedef {"queued" | "running" | "succeeded" | "failed" | "cancelled"} State
 *
 * @typedef {object} Job as the service describes it
 * @property {string} id
 * @property {State} state
 * @property {string | null} error
 * @property {keyof typeof NAMES} output
 * @property {string | null} format null for a video
 * @property {number | null} tile null for a video
 * @property {number | null} [frames] of a video
 * @property {number | null} [fps]
 * @property {string} model digest
 * @property {number | null} seed null for an image of another latent
 * @property {number} [truncation_psi]
 * @property {number | null} [class_index]
 * @property {import("../picture/view.js").Region} [region]
 * @property {Record<string, any>[]} [transform]
 * @property {string} [outside]
 * @property {string | null} [wrap]
 * @property {number} width
 * @property {number} height
 * @property {number} tiles_done
 * @property {number} tiles_total
 * @property {number} progress
 * @property {number | null} eta_seconds
 *
 * @typedef {Pick<Job, "state" | "tiles_done" | "tiles_total" | "progress" | "eta_seconds">
 *     & { tiles: [number, number, number][] }} Progress
 *
 * @typedef {object} Reactions
 * @property {(job: Job) => import("../link.js").Image} imageOf
 * @property {(job: Job | null) => void} onOpen null: to be closed
 * @property {(job: Job, title: string) => void} onWatch
 * @property {(card: JobCard) => void} onChange its state has changed, or another quarter is done
 * @property {(card: JobCard) => void} onRemoved
 */

import { watch } from "../api/events.js";
import { isPlayable } from "../dialogs/video.js";
import { button, create } from "../dom.js";
import { dimensions, grouped, roughTime } from "../numbers.js";
import { downloadButton } from "./job_buttons.js";
import { TileMap } from "./tile_map.js";

const NAMES = {
  dzi: "Deep Zoom",
  tiff: "TIFF",
  png: "PNG",
  mp4: "MP4",
  webm: "WebM",
  apng: "APNG",
  webp: "WebP",
  ffv1: "FFV1",
};

export class JobCard {
  element = document.createElement("li");
  #text = document.createElement("p");
  #bar = document.createElement("progress");
  #buttons = create("div", { className: "job-buttons" });
  /** @type {HTMLButtonElement | null} */
  #open = null;
  /** @type {State | null} */
  #shown = null;
  #quarter = 0;
  /** @type {AbortController | null} */
  #watching = null;

  /** @param {import("../api/client.js").Api} api @param {Job} job @param {Reactions} reactions */
  constructor(api, job, reactions) {
    this.api = api;
    this.job = job;
    this.reactions = reactions;
    const canvas = create("canvas", { className: "tile-map", ariaHidden: "true", hidden: isVideo(job) });
    this.map = new TileMap(canvas, api, job);
    const { model } = reactions.imageOf(job);
    const latent = isVideo(job) ? "film" : job.seed === null ? "other latent" : `seed ${job.seed}`;
    const kind = `${dimensions(job)} ${NAMES[job.output]}${isVideo(job) ? `, ${lengthOf(job)}` : ""}`;
    this.title = `${model}, ${latent}, ${kind}`;
    const title = create("strong", { textContent: `${model} · ${latent}` });
    const about = create("span", { textContent: kind });
    this.element.setAttribute("aria-label", this.title);
    this.#bar.setAttribute("aria-label", "Progress");
    this.element.append(canvas, create("div", {}, title, about, this.#text, this.#bar, this.#buttons));
    this.#show();
  }

  /** Its description for screen readers. */
  get text() {
    return `${this.title}: ${this.#text.textContent}`;
  }

  get followed() {
    return this.#watching !== null;
  }

  get ended() {
    return this.job.state !== "queued" && this.job.state !== "running";
  }

  /** Follow the job tile by tile until it ends. */
  async watch() {
    if (this.#watching || this.ended) return;
    this.#watching = new AbortController();
    const { signal } = this.#watching;
    await watch(this.api, `v1/jobs/${this.job.id}/events`, signal, (/** @type {Progress} */ { tiles, ...now }) => {
      this.map.add(tiles);
      this.update(now);
      return !this.ended;
    });
    if (signal.aborted || (this.ended && this.job.state !== "failed")) return;
    try {
      this.update(await (await this.api.send("GET", `v1/jobs/${this.job.id}`)).json()); // events do not contain the error
    } catch (error) {
      if (/** @type {{ status?: number }} */ (error).status === 404) this.reactions.onRemoved(this);
    }
  }

  /** @param {Partial<Job>} now changes reported by the service */
  update(now) {
    Object.assign(this.job, now);
    this.#show();
  }

  /** @param {boolean} open whether its image is what the page shows */
  showOpen(open) {
    this.element.toggleAttribute("aria-current", open);
    if (this.#open) this.#open.textContent = open ? "Close" : "Open";
  }

  /** Remove the card of a deleted job. */
  remove() {
    this.#watching?.abort();
    this.element.remove();
  }

  #show() {
    const { state, tiles_done, tiles_total, progress, error } = this.job;
    this.element.dataset.state = state;
    this.#bar.value = progress;
    const tiles = `${grouped(tiles_done)} of ${grouped(tiles_total)} ${isVideo(this.job) ? "parts" : "tiles"}`;
    this.#text.textContent = {
      queued: `Waiting${this.#left()}`,
      running: `${tiles}${this.#left()}`,
      succeeded: "Ready",
      failed: `Failed: ${error ?? ""}`,
      cancelled: "Cancelled",
    }[state];
    const before = { state: this.#shown, quarter: this.#quarter };
    this.#shown = state;
    this.#quarter = Math.floor(4 * progress);
    // Buttons replaced with every tile would lose focus and clicks.
    if (before.state === null || (this.ended && state !== before.state)) this.#showActions();
    if (before.state && (state !== before.state || this.#quarter !== before.quarter)) this.reactions.onChange(this);
  }

  /** @param {boolean} [focus] the last of them */
  #showActions(focus = false) {
    this.#bar.hidden = this.ended;
    this.#buttons.replaceChildren(...this.#actions());
    this.showOpen(this.element.hasAttribute("aria-current"));
    if (this.job.state === "succeeded" && !isVideo(this.job)) this.map.finish();
    if (focus) /** @type {HTMLElement} */ (this.#buttons.lastElementChild).focus();
  }

  #left() {
    const seconds = this.job.eta_seconds;
    return seconds === null ? "" : `, ${roughTime(seconds)} left`;
  }

  #actions() {
    this.#open = null;
    if (!this.ended) return [button("Cancel", () => this.#delete(), "small")];
    const remove = button("Remove", () => this.#askToRemove(), "small");
    if (this.job.state !== "succeeded") return [remove];
    const download = downloadButton(this.api, this.job, this.reactions.imageOf(this.job));
    if (isPlayable(this.job)) return [button("Watch", () => this.reactions.onWatch(this.job, this.title), "small"), download, remove];
    if (this.job.output !== "dzi") return [download, remove];
    const open = () => this.reactions.onOpen(this.element.hasAttribute("aria-current") ? null : this.job);
    this.#open = button("Open", open, "small");
    return [this.#open, download, remove];
  }

  #askToRemove() {
    const keep = button("Keep", () => this.#showActions(true), "small");
    const remove = button("Remove for good", () => this.#delete(), "small danger");
    this.#buttons.replaceChildren(remove, keep);
    keep.focus();
  }

  /** Focus the first of its buttons. */
  focus() {
    /** @type {HTMLElement | null} */ (this.#buttons.querySelector("button, a"))?.focus();
  }

  /** Cancels an unfinished job, removes an ended one. */
  async #delete() {
    const { ended } = this;
    try {
      const response = await this.api.send("DELETE", `v1/jobs/${this.job.id}`);
      if (!ended) {
        this.update(await response.json());
        this.focus();
      }
    } catch (error) {
      if (/** @type {{ status?: number }} */ (error).status !== 404) {
        this.#text.textContent = /** @type {Error} */ (error).message;
        return;
      }
    }
    if (ended) this.reactions.onRemoved(this);
  }
}

/** @param {Job} job */
function isVideo({ frames }) {
  return Boolean(frames);
}

/** @param {Job} job of a video */
function lengthOf({ frames, fps }) {
  return `${Number(((frames ?? 0) / (fps || 1)).toFixed(1))} s`;
}
