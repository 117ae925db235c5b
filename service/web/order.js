// @ts-check
/** The dialog that orders what is in view as a large picture. */

import { element, onClick } from "./dom.js";
import { levels, tileCount } from "./pyramid.js";
import { regionOf, withLongSide } from "./view.js";

const TILE = 512;
const MAX_SIDE = 262_144;

export class OrderDialog {
  #dialog = element("order-dialog", HTMLDialogElement);
  #side = element("order-side", HTMLInputElement);
  #output = element("order-output", HTMLSelectElement);
  #format = element("order-format", HTMLSelectElement);
  #cost = element("order-cost", HTMLElement);
  #refused = element("order-refused", HTMLElement);
  #submit = element("order-submit", HTMLButtonElement);
  /** @type {{ text: string, key: string } | null} the order that was sent last, and what names it */
  #sent = null;
  /** @type {{ state: import("./link.js").State, canvas: import("./view.js").Size } | null} */
  #shown = null;

  /** @param {import("./api.js").Api} api @param {(job: import("./job_card.js").Job) => void} onOrdered */
  constructor(api, onOrdered) {
    this.api = api;
    this.onOrdered = onOrdered;
    for (const field of [this.#side, this.#output, this.#format]) {
      field.addEventListener("input", () => this.#tellCost());
    }
    for (const button of this.#dialog.querySelectorAll("button[data-side]")) {
      button.addEventListener("click", () => {
        this.#side.value = /** @type {HTMLElement} */ (button).dataset.side ?? "";
        this.#tellCost();
      });
    }
    onClick("order-cancel", () => this.#dialog.close());
    element("order-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      this.#order();
    });
  }

  /** @param {import("./link.js").State} state @param {import("./view.js").Size} canvas */
  open(state, canvas) {
    this.#shown = { state, canvas };
    this.#refused.textContent = "";
    this.#tellCost();
    this.#dialog.showModal();
  }

  #size() {
    const side = Number(this.#side.value);
    if (!this.#shown || !Number.isInteger(side) || side < 1 || side > MAX_SIDE) return null;
    return withLongSide(this.#shown.canvas, side);
  }

  #tellCost() {
    const output = this.#output.value;
    element("order-format-field", HTMLElement).hidden = output === "png"; // which is lossless
    const size = this.#size();
    this.#submit.disabled = size === null;
    if (size === null) {
      this.#cost.textContent = `From 1 to ${MAX_SIDE.toLocaleString("en")} pixels.`;
      return;
    }
    const tiles = tileCount(levels(size, TILE, output));
    const megapixels = (size.width * size.height) / 1e6;
    const amount =
      megapixels < 1000 ? `${megapixels.toPrecision(3)} megapixels` : `${(megapixels / 1000).toPrecision(3)} gigapixels`;
    const sides = `${size.width.toLocaleString("en")} × ${size.height.toLocaleString("en")}`;
    this.#cost.textContent = `${sides}: ${amount} in ${tiles.toLocaleString("en")} ${tiles === 1 ? "tile" : "tiles"}`;
  }

  /** The same until the order is another or was accepted: sent again after an answer got lost, it is the same job.
   * @param {string} text */
  #keyOf(text) {
    if (this.#sent?.text !== text) this.#sent = { text, key: `explorer-${Date.now()}-${Math.random()}` };
    return this.#sent.key;
  }

  async #order() {
    const size = this.#size();
    if (!this.#shown || size === null) return;
    const { state, canvas } = this.#shown;
    const { model, seed, psi, classIndex } = state.picture;
    const body = {
      model,
      seed,
      truncation_psi: psi,
      ...(classIndex === null ? {} : { class_index: classIndex }),
      ...size,
      region: regionOf(state.view, canvas),
      tile: TILE,
      output: this.#output.value,
      format: this.#output.value === "png" ? "png" : this.#format.value,
    };
    this.#submit.disabled = true;
    this.#refused.textContent = "";
    try {
      const headers = { "Idempotency-Key": this.#keyOf(JSON.stringify(body)) };
      const response = await this.api.send("POST", "v1/jobs", { body, headers });
      this.#sent = null;
      this.onOrdered(await response.json());
      this.#dialog.close();
    } catch (error) {
      this.#refused.textContent = /** @type {Error} */ (error).message;
    } finally {
      this.#submit.disabled = false;
    }
  }
}
