// @ts-check
/**
 * A sheet of the seeds around the one that is shown, to choose from. It is drawn once somebody opens it.
 *
 * @typedef {import("../link.js").Image} Image
 */

import { imagePath } from "../api/addresses.js";
import { create, element, onClick } from "../dom.js";
import { MAX_SEED } from "../link.js";
import { clamp } from "../picture/view.js";

const COUNT = 12; // seeds of a sheet
const DIGITS = 5; // that a label has room for
const SIDE = { width: 128, height: 128 };
const LOADING = 2; // at once: the large picture comes first
const DELAY_MILLISECONDS = 400; // while a slider moves

export class SeedSheet {
  #sheet = element("sheet", HTMLElement);
  #list = element("sheet-seeds", HTMLElement);
  #told = element("sheet-told", HTMLElement);
  #toggle = element("sheet-open", HTMLButtonElement);
  #first = 0;
  /** @type {Image | null} */
  #image = null;
  #drawn = ""; // what the sheet is of
  #timer = 0;
  #loading = new AbortController();

  /** @param {import("../api/client.js").Api} api @param {(seed: number) => void} onChoose */
  constructor(api, onChoose) {
    this.api = api;
    this.onChoose = onChoose;
    onClick("sheet-open", () => this.#open(this.#sheet.hidden));
    onClick("sheet-previous", () => this.#turn(-COUNT));
    onClick("sheet-next", () => this.#turn(COUNT));
  }

  /** The page shows another image. @param {Image} image */
  setImage(image) {
    this.#image = image;
    if (this.#sheet.hidden) return;
    if (image.seed < this.#first || image.seed >= this.#first + COUNT) this.#first = sheetOf(image.seed);
    this.#mark();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#draw(), DELAY_MILLISECONDS);
  }

  /** @param {boolean} open */
  #open(open) {
    this.#sheet.hidden = !open;
    this.#toggle.ariaExpanded = String(open);
    this.#loading.abort();
    this.#drawn = "";
    if (!open || !this.#image) return;
    this.#first = sheetOf(this.#image.seed);
    this.#draw();
  }

  /** @param {number} by */
  #turn(by) {
    this.#first = clamp(this.#first + by, 0, sheetOf(MAX_SEED));
    this.#draw();
  }

  async #draw() {
    const { model = "", psi = 1, classIndex = null } = this.#image ?? {};
    const key = JSON.stringify([model, psi, classIndex, this.#first]);
    if (key === this.#drawn || !this.#image || this.#sheet.hidden) return;
    this.#drawn = key;
    this.#loading.abort();
    const { signal } = (this.#loading = new AbortController());
    const seeds = Array.from({ length: COUNT }, (_, index) => this.#first + index).filter((seed) => seed <= MAX_SEED);
    const waiting = seeds.map((seed) => ({ seed, canvas: this.#item(seed) }));
    this.#list.replaceChildren(...waiting.map(({ canvas }) => /** @type {Node} */ (canvas.closest("li"))));
    this.#mark();
    this.#told.textContent = "";
    const load = async () => {
      for (let next = waiting.shift(); next; next = waiting.shift()) {
        const path = imagePath({ model, seed: next.seed, psi, classIndex }, null, SIDE, "jpeg", 85);
        const picture = await createImageBitmap((await this.api.image(path, signal)).blob);
        next.canvas.getContext("2d")?.drawImage(picture, 0, 0);
        next.canvas.classList.remove("empty");
        picture.close();
      }
    };
    await Promise.all(Array.from({ length: LOADING }, load)).catch((error) => {
      if (signal.aborted) return;
      this.#drawn = "";
      this.#told.textContent = error.message;
    });
  }

  /** The canvas of a button that takes a seed. @param {number} seed */
  #item(seed) {
    const canvas = create("canvas", { ...SIDE, className: "empty" });
    const digits = String(seed);
    const shown = digits.length > DIGITS ? `…${digits.slice(-DIGITS + 1)}` : digits; // neighbours differ at the end
    const text = create("span", { textContent: shown });
    const button = create("button", { type: "button", className: "thumbnail", value: digits }, canvas, text);
    button.title = digits;
    button.setAttribute("aria-label", `Seed ${seed}`);
    button.addEventListener("click", () => this.onChoose(seed));
    create("li", {}, button);
    return canvas;
  }

  #mark() {
    for (const button of this.#list.querySelectorAll("button")) {
      const item = /** @type {HTMLElement} */ (button.parentElement);
      const isShown = button.value === String(this.#image?.seed);
      item.toggleAttribute("aria-current", isShown);
    }
  }
}

/** The first seed of the sheet that has this one. @param {number} seed */
function sheetOf(seed) {
  return seed - (seed % COUNT);
}
