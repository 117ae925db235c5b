// @ts-check
/** Orders of jobs. An order that is sent again because its answer got lost is the same job. */

export class Orders {
  /** @type {{ text: string, key: string } | null} the order that was sent last, and what names it */
  #sent = null;

  /** @param {import("./client.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /** @param {object} body of POST /v1/jobs @param {AbortSignal} [signal]
   * @returns {Promise<import("../panels/job_card.js").Job>} */
  async send(body, signal) {
    const headers = { "Idempotency-Key": this.#keyOf(JSON.stringify(body)) };
    const response = await this.api.send("POST", "v1/jobs", { body, headers, signal });
    this.#sent = null;
    return response.json();
  }

  /** The same until the order is another or was accepted. @param {string} text */
  #keyOf(text) {
    if (this.#sent?.text !== text) this.#sent = { text, key: `explorer-${Date.now()}-${Math.random()}` };
    return this.#sent.key;
  }
}
