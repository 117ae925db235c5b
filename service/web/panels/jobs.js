// @ts-check
/** The jobs of the service, the newest first. */

import { element, onClick } from "./dom.js";
import { JobCard } from "./job_card.js";

/** Older ones are not shown. */
const SHOWN = 20;

/** How many jobs are followed tile by tile. Browsers open six connections to a server, and pictures need some. */
const FOLLOWED = 2;

/** How often the service is asked for the others. */
const POLL_MILLISECONDS = 3000;

export class Jobs {
  #section = element("jobs", HTMLElement);
  #list = element("job-list", HTMLElement);
  #summary = element("jobs-summary", HTMLElement);
  #told = element("jobs-told", HTMLElement);
  /** @type {JobCard[]} the newest first */
  #cards = [];
  /** @type {string | null} the job whose picture the page shows */
  #open = null;
  #timer = 0;
  #changes = 0; // made by the user

  /** @param {import("./api.js").Api} api
   * @param {(stored: import("./source.js").Stored | null) => void} onOpen shows a job's picture; null: no longer */
  constructor(api, onOpen) {
    this.api = api;
    this.onOpen = onOpen;
    onClick("jobs-toggle", () => this.toggle());
  }

  /** Shows the jobs that there are. @returns {Promise<void>} */
  async refresh() {
    const changes = this.#changes;
    try {
      const response = await this.api.send("GET", `v1/jobs?limit=${SHOWN}`);
      /** @type {import("./job_card.js").Job[]} */
      const jobs = (await response.json()).jobs;
      if (changes !== this.#changes) return this.refresh(); // the answer may be older
      const known = new Map(this.#cards.map((card) => [card.job.id, card]));
      this.#cards = jobs.map((job) => {
        const card = known.get(job.id) ?? this.#card(job);
        known.delete(job.id);
        if (!card.ended && !card.followed) card.update(job);
        return card;
      });
      known.forEach((card) => card.remove());
      this.#list.replaceChildren(...this.#cards.map((card) => card.element));
    } catch {
      // The picture matters more: its own requests tell what is wrong.
    }
    this.#update();
  }

  /** The picture of a finished job; null where there is none.
   * @param {string} id @returns {Promise<import("./source.js").Stored | null>} */
  async find(id) {
    const response = await this.api.send("GET", `v1/jobs/${id}`).catch(() => null);
    const job = await response?.json();
    return job?.state === "succeeded" && job.output === "dzi" ? job : null;
  }

  /** @param {import("./job_card.js").Job} job that was ordered just now */
  add(job) {
    if (this.#cards.some((card) => card.job.id === job.id)) return;
    this.#changes++;
    const card = this.#card(job);
    this.#cards.unshift(card);
    this.#list.prepend(card.element);
    this.toggle(true);
    this.#update();
  }

  /** @param {string | null} id of the job whose picture the page shows now */
  showOpen(id) {
    this.#open = id;
    for (const card of this.#cards) card.showOpen(card.job.id === this.#open);
  }

  /** @param {import("./job_card.js").Job} job */
  #card(job) {
    return new JobCard(this.api, job, {
      onOpen: this.onOpen,
      onChange: (card) => {
        this.#told.textContent = card.text;
        this.#update();
      },
      onRemoved: (card) => {
        this.#changes++;
        card.remove();
        this.#cards = this.#cards.filter((other) => other !== card);
        if (card.job.id === this.#open) this.onOpen(null);
        this.#update();
      },
    });
  }

  #update() {
    this.#section.hidden = this.#cards.length === 0;
    const unfinished = this.#cards.filter((card) => !card.ended);
    this.#summary.textContent = unfinished.length > 0 ? `${unfinished.length} under way` : String(this.#cards.length);
    this.showOpen(this.#open);
    for (const card of unfinished.slice(-FOLLOWED)) card.watch(); // the oldest, which are made first
    clearTimeout(this.#timer);
    if (unfinished.length > FOLLOWED) this.#timer = setTimeout(() => this.refresh(), POLL_MILLISECONDS);
  }

  /** Unfolds the list, or folds it. @param {boolean} [open] */
  toggle(open) {
    const opened = this.#section.classList.toggle("open", open);
    element("jobs-toggle", HTMLElement).setAttribute("aria-expanded", String(opened));
  }
}
