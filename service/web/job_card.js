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
 * @property {number} seed
 * @property {number} width
 * @property {number} height
 * @property {number} tiles_done
 * @property {number} tiles_total
 * @property {number} progress
 * @property {number | null} eta_seconds
 *
 * @typedef {Pick<Job, "state" | "tiles_done" | "tiles_total" | "progress" | "eta_seconds">
 *     & { tiles: [number, number, number][] }} Progress
 */

import { watch } from "./events.js";
import { writeClipboard } from "./share.js";
import { TileMap } from "./tile_map.js";

const NAMES = { dzi: "Deep Zoom", tiff: "TIFF", png: "PNG" };

export class JobCard {
  element = document.createElement("li");
  #text = document.createElement("p");
  #bar = document.createElement("progress");
  #buttons = document.createElement("div");
  #watching = new AbortController();

  /** @param {import("./api.js").Api} api @param {Job} job @param {() => void} onRemoved */
  constructor(api, job, onRemoved) {
    this.api = api;
    this.job = job;
    this.onRemoved = onRemoved;
    const canvas = document.createElement("canvas");
    canvas.className = "tile-map";
    canvas.setAttribute("aria-hidden", "true");
    this.map = new TileMap(canvas, api, job);
    const title = document.createElement("strong");
    title.textContent = `${job.width.toLocaleString("en")} × ${job.height.toLocaleString("en")} ${NAMES[job.output]}`;
    this.#text.setAttribute("aria-live", "polite");
    this.#bar.setAttribute("aria-label", "Progress");
    this.#buttons.className = "job-buttons";
    const body = document.createElement("div");
    body.append(title, this.#text, this.#bar, this.#buttons);
    this.element.append(canvas, body);
    this.#show();
    this.#watch();
  }

  get ended() {
    return this.job.state !== "queued" && this.job.state !== "running";
  }

  async #watch() {
    await watch(this.api, `v1/jobs/${this.job.id}/events`, this.#watching.signal, (/** @type {Progress} */ progress) => {
      const { tiles, ...now } = progress;
      Object.assign(this.job, now);
      this.map.add(tiles);
      this.#show();
      return !this.ended;
    });
    if (this.job.state === "failed") {
      const response = await this.api.send("GET", `v1/jobs/${this.job.id}`).catch(() => null);
      if (response) Object.assign(this.job, await response.json());
      this.#show();
    }
  }

  #show() {
    const { state, tiles_done, tiles_total, progress, error } = this.job;
    this.element.dataset.state = state;
    this.#bar.value = progress;
    this.#bar.hidden = this.ended;
    const tiles = `${tiles_done.toLocaleString("en")} of ${tiles_total.toLocaleString("en")} tiles`;
    this.#text.textContent = {
      queued: `Waiting, ${tiles}`,
      running: `${tiles}${this.#left()}`,
      succeeded: `Ready, seed ${this.job.seed}`,
      failed: `Failed: ${error ?? ""}`,
      cancelled: "Cancelled",
    }[state];
    this.#buttons.replaceChildren(...this.#actions());
  }

  #left() {
    const seconds = this.job.eta_seconds;
    if (seconds === null) return "";
    return seconds < 90 ? `, ${Math.ceil(seconds)} s left` : `, ${Math.ceil(seconds / 60)} min left`;
  }

  #actions() {
    if (!this.ended) return [this.#button("Cancel", () => this.#delete())];
    const remove = this.#button("Remove", () => this.#delete());
    if (this.job.state !== "succeeded") return [remove];
    if (this.job.output !== "dzi") return [this.#link("Download", `v1/jobs/${this.job.id}/output`), remove];
    const iiif = `iiif/3/job:${this.job.id}`;
    const copy = this.#button("Copy IIIF", async () => {
      const written = await writeClipboard(new URL(`${iiif}/info.json`, location.href).href);
      copy.textContent = written ? "Copied" : "Not allowed";
    });
    return [this.#link("Open", `${iiif}/full/!2048,2048/0/default.jpg`), copy, remove];
  }

  /** @param {string} text @param {() => void} action */
  #button(text, action) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = text;
    button.addEventListener("click", action);
    return button;
  }

  /** @param {string} text @param {string} href */
  #link(text, href) {
    const link = document.createElement("a");
    Object.assign(link, { textContent: text, href, target: "_blank", className: "button" });
    return link;
  }

  /** Cancels an unfinished job, removes an ended one. */
  async #delete() {
    const ended = this.ended;
    try {
      const response = await this.api.send("DELETE", `v1/jobs/${this.job.id}`);
      Object.assign(this.job, await response.json());
    } catch (error) {
      if (/** @type {{ status?: number }} */ (error).status !== 404) {
        this.#text.textContent = /** @type {Error} */ (error).message;
        return;
      }
    }
    if (!ended) {
      this.#show();
      return;
    }
    this.#watching.abort();
    this.element.remove();
    this.onRemoved();
  }
}
