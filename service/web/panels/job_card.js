// @ts-check
/**
 * One job: how far it is, and what can be done with it.
 *
 * @typedef {"queued" | "running" | "succeeded" | "failed" | "cancelled"} State
 *
 * @typedef {object} Job as the service describes it
 * @property {string} id
 * @property {State} state
 * @property {string | null} error
 * @property {"dzi" | "tiff" | "png"} output
 * @property {string} format
 * @property {number} tile
 * @property {string} model
 * @property {number} seed
 * @property {number} [truncation_psi]
 * @property {number | null} [class_index]
 * @property {import("./view.js").Region} [region]
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
 * @property {(stored: import("./source.js").Stored | null) => void} onOpen null: to be closed
 * @property {(card: JobCard) => void} onChange its state is another, or another quarter is done
 * @property {(card: JobCard) => void} onRemoved
 */

import { watch } from "./events.js";
import { button, downloadButton, iiifButton } from "./job_buttons.js";
import { TileMap } from "./tile_map.js";

const NAMES = { dzi: "Deep Zoom", tiff: "TIFF", png: "PNG" };

export class JobCard {
  element = document.createElement("li");
  #text = document.createElement("p");
  #bar = document.createElement("progress");
  #buttons = document.createElement("div");
  /** @type {HTMLButtonElement | null} */
  #open = null;
  /** @type {State | null} */
  #shown = null;
  #quarter = 0;
  /** @type {AbortController | null} */
  #watching = null;

  /** @param {import("./api.js").Api} api @param {Job} job @param {Reactions} reactions */
  constructor(api, job, reactions) {
    this.api = api;
    this.job = job;
    this.reactions = reactions;
    const canvas = document.createElement("canvas");
    canvas.className = "tile-map";
    canvas.setAttribute("aria-hidden", "true");
    this.map = new TileMap(canvas, api, job);
    const size = `${job.width.toLocaleString("en")} × ${job.height.toLocaleString("en")}`;
    this.title = `${size} ${NAMES[job.output]}`;
    const title = document.createElement("strong");
    title.textContent = size;
    const kind = document.createElement("span");
    kind.textContent = ` ${NAMES[job.output]}`;
    this.element.setAttribute("aria-label", this.title);
    this.#bar.setAttribute("aria-label", "Progress");
    this.#buttons.className = "job-buttons";
    const body = document.createElement("div");
    body.append(title, kind, this.#text, this.#bar, this.#buttons);
    this.element.append(canvas, body);
    this.#show();
  }

  /** What it says of itself. */
  get text() {
    return `${this.title}: ${this.#text.textContent}`;
  }

  get followed() {
    return this.#watching !== null;
  }

  get ended() {
    return this.job.state !== "queued" && this.job.state !== "running";
  }

  /** Follows it, tile by tile, until it has ended. */
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
      this.update(await (await this.api.send("GET", `v1/jobs/${this.job.id}`)).json()); // events do not tell why it failed
    } catch (error) {
      if (/** @type {{ status?: number }} */ (error).status === 404) this.reactions.onRemoved(this);
    }
  }

  /** @param {Partial<Job>} now what the service has told since */
  update(now) {
    Object.assign(this.job, now);
    this.#show();
  }

  /** @param {boolean} open whether its picture is what the page shows */
  showOpen(open) {
    this.element.toggleAttribute("aria-current", open);
    if (this.#open) this.#open.textContent = open ? "Close" : "Open";
  }

  /** It is no longer there. */
  remove() {
    this.#watching?.abort();
    this.element.remove();
  }

  #show() {
    const { state, tiles_done, tiles_total, progress, error, seed } = this.job;
    this.element.dataset.state = state;
    this.#bar.value = progress;
    const tiles = `${tiles_done.toLocaleString("en")} of ${tiles_total.toLocaleString("en")} tiles`;
    this.#text.textContent = {
      queued: `Seed ${seed}, waiting${this.#left()}`,
      running: `${tiles}${this.#left()}`,
      succeeded: `Seed ${seed}, ready`,
      failed: `Failed: ${error ?? ""}`,
      cancelled: `Seed ${seed}, cancelled`,
    }[state];
    const before = { state: this.#shown, quarter: this.#quarter };
    this.#shown = state;
    this.#quarter = Math.floor(4 * progress);
    // Made anew with every tile, buttons would lose focus and clicks.
    if (before.state === null || (this.ended && state !== before.state)) this.#showActions();
    if (before.state && (state !== before.state || this.#quarter !== before.quarter)) this.reactions.onChange(this);
  }

  #showActions() {
    this.#bar.hidden = this.ended;
    this.#buttons.replaceChildren(...this.#actions());
    if (this.job.state === "succeeded") this.map.finish();
  }

  #left() {
    const seconds = this.job.eta_seconds;
    if (seconds === null) return "";
    if (seconds < 90) return `, ${Math.ceil(seconds)} s left`;
    const minutes = Math.ceil(seconds / 60);
    return minutes < 90 ? `, ${minutes} min left` : `, ${(minutes / 60).toFixed(1)} h left`;
  }

  #actions() {
    this.#open = null;
    if (!this.ended) return [button("Cancel", () => this.#delete())];
    const remove = button("Remove", () => this.#delete());
    if (this.job.state !== "succeeded") return [remove];
    if (this.job.output !== "dzi") return [downloadButton(this.api, this.job), remove];
    this.#open = button("Open", () => {
      this.reactions.onOpen(this.element.hasAttribute("aria-current") ? null : this.job);
    });
    return [this.#open, iiifButton(this.job), remove];
  }

  /** Cancels an unfinished job, removes an ended one. */
  async #delete() {
    const { ended } = this;
    try {
      const response = await this.api.send("DELETE", `v1/jobs/${this.job.id}`);
      if (!ended) this.update(await response.json());
    } catch (error) {
      if (/** @type {{ status?: number }} */ (error).status !== 404) {
        this.#text.textContent = /** @type {Error} */ (error).message;
        return;
      }
    }
    if (ended) this.reactions.onRemoved(this);
  }
}
