// @ts-check
/** The list of jobs, newest first. */

import { element } from "../dom.js";
import { JobCard } from "./job_card.js";

/** @typedef {import("./job_card.js").Job} Job */

/** Number of jobs shown. */
const SHOWN = 20;

/** Number of jobs followed tile by tile. Browsers open six connections to a server, some of which images need. */
const FOLLOWED = 2;

/** Interval for polling the other jobs. */
const POLL_MILLISECONDS = 3000;

export class Jobs {
  #list = element("job-list", HTMLElement);
  #summary = element("jobs-summary", HTMLElement);
  #channel = new BroadcastChannel("creps-jobs"); // with other tabs of the page
  #told = element("jobs-told", HTMLElement);
  /** @type {JobCard[]} the newest first */
  #cards = [];
  /** @type {string | null} the job whose image the page shows */
  #open = null;
  #timer = 0;
  #changes = 0; // by the user

  /** @param {import("../api/client.js").Api} api
   * @param {(job: Job) => import("../link.js").Image} imageOf
   * @param {(job: Job | null) => void} onOpen shows a job's image; null: no longer
   * @param {(job: Job, title: string) => void} onWatch shows a job's video */
  constructor(api, imageOf, onOpen, onWatch) {
    this.api = api;
    this.onWatch = onWatch;
    this.imageOf = imageOf;
    this.onOpen = onOpen;
    this.#channel.addEventListener("message", () => this.refresh());
  }

  /** Load the list of jobs. @returns {Promise<void>} */
  async refresh() {
    const changes = this.#changes;
    try {
      const response = await this.api.send("GET", `v1/jobs?limit=${SHOWN}`);
      /** @type {Job[]} */
      const jobs = (await response.json()).jobs;
      if (changes !== this.#changes) return this.refresh(); // the response may be outdated
      const known = new Map(this.#cards.map((card) => [card.job.id, card]));
      this.#cards = jobs.map((job) => {
        const card = known.get(job.id) ?? this.#card(job);
        known.delete(job.id);
        if (!card.ended && !card.followed) card.update(job);
        return card;
      });
      known.forEach((card) => this.#forget(card)); // removed elsewhere
      this.#place();
    } catch {
      // The requests for images show the error.
    }
    this.#update();
  }

  /** The image of a finished job; null if there is none.
   * @param {string} id @returns {Promise<Job | null>} */
  async find(id) {
    if (!/^[0-9a-f]{32}$/.test(id)) return null;
    const response = await this.api.send("GET", `v1/jobs/${id}`).catch(() => null);
    const job = await response?.json();
    return job?.state === "succeeded" && job.output === "dzi" ? job : null;
  }

  /** @param {Job} job that was ordered just now */
  add(job) {
    if (this.#cards.some((card) => card.job.id === job.id)) return;
    this.#changes++;
    const card = this.#card(job);
    this.#cards.unshift(card);
    this.#list.prepend(card.element);
    this.#channel.postMessage("added");
    this.#update();
  }

  /** @param {string | null} id of the job whose image the page shows now */
  showOpen(id) {
    this.#open = id;
    for (const card of this.#cards) card.showOpen(card.job.id === this.#open);
  }

  /** @param {Job} job */
  #card(job) {
    return new JobCard(this.api, job, {
      imageOf: this.imageOf,
      onOpen: this.onOpen,
      onWatch: this.onWatch,
      onChange: (card) => {
        this.#told.textContent = card.text;
        this.#update();
      },
      onRemoved: (card) => {
        this.#changes++;
        const place = this.#cards.indexOf(card);
        this.#cards = this.#cards.filter((other) => other !== card);
        this.#forget(card);
        (this.#cards[Math.min(place, this.#cards.length - 1)] ?? element("tab-jobs", HTMLElement)).focus();
        this.#channel.postMessage("removed");
        this.#update();
      },
    });
  }

  /** @param {JobCard} card of a job that is no more */
  #forget(card) {
    card.remove();
    if (card.job.id === this.#open) this.onOpen(null);
  }

  /** Put the cards in order. Those that are put again would lose focus. */
  #place() {
    const elements = this.#cards.map((card) => card.element);
    if (elements.some((each, index) => each !== this.#list.children[index])) this.#list.replaceChildren(...elements);
  }

  #update() {
    const unfinished = this.#cards.filter((card) => !card.ended);
    element("jobs-none", HTMLElement).hidden = this.#cards.length > 0;
    this.#summary.textContent = this.#cards.length === 0 ? "" : String(unfinished.length || this.#cards.length);
    this.#summary.classList.toggle("active", unfinished.length > 0);
    this.showOpen(this.#open);
    for (const card of unfinished.slice(-FOLLOWED)) card.watch(); // the oldest, which are made first
    clearTimeout(this.#timer);
    if (unfinished.length > FOLLOWED) this.#timer = setTimeout(() => this.refresh(), POLL_MILLISECONDS);
  }
}
