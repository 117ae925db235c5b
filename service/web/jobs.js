// @ts-check
/** The jobs of the service, the newest first. */

import { element } from "./dom.js";
import { JobCard } from "./job_card.js";

/** Older ones are not shown. */
const SHOWN = 20;

export class Jobs {
  #section = element("jobs", HTMLElement);
  #list = element("job-list", HTMLElement);

  /** @param {import("./api.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /** Shows the jobs that there are. */
  async load() {
    try {
      const response = await this.api.send("GET", `v1/jobs?limit=${SHOWN}`);
      const { jobs } = await response.json();
      this.#list.replaceChildren(...jobs.map((/** @type {import("./job_card.js").Job} */ job) => this.#card(job)));
    } catch {
      // The picture matters more: its own requests tell what is wrong.
    }
    this.#hideIfEmpty();
  }

  /** @param {import("./job_card.js").Job} job that was ordered just now */
  add(job) {
    this.#list.prepend(this.#card(job));
    this.#hideIfEmpty();
  }

  /** @param {import("./job_card.js").Job} job */
  #card(job) {
    return new JobCard(this.api, job, () => this.#hideIfEmpty()).element;
  }

  #hideIfEmpty() {
    this.#section.hidden = this.#list.childElementCount === 0;
  }
}
