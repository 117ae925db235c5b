// @ts-check
/**
 * The dialog that saves a picture: at once, or where that takes too long for one answer, or is too large, by a job.
 *
 * @typedef {import("../link.js").State} State
 * @typedef {import("../picture/view.js").Size} Size
 * @typedef {{ region: import("../picture/view.js").Region, size: Size, format: import("./save_options.js").Format,
 *     quality: number | null }} Choice
 */

import { imagePath, partPath } from "../api/addresses.js";
import { element, onClick } from "../dom.js";
import { fileName, saveFile } from "../files.js";
import { dimensions, grouped, roughBytes, roughTime } from "../numbers.js";
import { frameOf, partOf } from "../picture/sources.js";
import { UNIT_SQUARE, regionOf, scaled, withLongSide } from "../picture/view.js";
import { shapeFields } from "../shape.js";
import { Estimate } from "./estimate.js";
import { FORMATS, fitsAnswer, partToSave, possibleSides } from "./save_options.js";

const TILE = 512;
const TIMELY = 0.8; // of the service's time limit, since the time is estimated
const PATIENCE = 3; // seconds that are "at once"

export class SaveDialog {
  #dialog = element("save-dialog", HTMLDialogElement);
  #what = element("save-what", HTMLSelectElement);
  #size = element("save-size", HTMLSelectElement);
  #custom = element("save-custom", HTMLInputElement);
  #format = element("save-format", HTMLSelectElement);
  #quality = element("save-quality", HTMLInputElement);
  #told = element("save-told", HTMLElement);
  #refused = element("save-refused", HTMLElement);
  #submit = element("save-submit", HTMLButtonElement);
  #copy = element("save-copy", HTMLButtonElement);
  /** @type {{ state: State, canvas: Size } | null} */
  #shown = null;
  /** @type {AbortController | null} */
  #running = null;
  /** @type {import("../api/client.js").Limits | null} */
  limits = null;

  /** @param {import("../api/client.js").Api} api @param {import("../api/orders.js").Orders} orders
   * @param {(pixels: number) => number | null} expected milliseconds for an image
   * @param {(job: import("../panels/job_card.js").Job) => void} onOrdered */
  constructor(api, orders, expected, onOrdered) {
    this.api = api;
    this.orders = orders;
    this.onOrdered = onOrdered;
    this.estimate = new Estimate(api, expected);
    this.#format.replaceChildren(...Object.entries(FORMATS).map(([name, { label }]) => new Option(label, name)));
    for (const field of [this.#what, this.#format]) field.addEventListener("input", () => this.#offerSizes());
    for (const field of [this.#size, this.#custom, this.#quality]) field.addEventListener("input", () => this.#tell());
    onClick("save-close", () => this.#dialog.close());
    onClick("save-copy", () => this.#run(() => this.#copyImage()));
    this.#dialog.addEventListener("close", () => this.#running?.abort());
    element("save-form", HTMLFormElement).addEventListener("submit", (event) => {
      event.preventDefault();
      if (this.#running) this.#running.abort();
      else this.#run(() => this.#save());
    });
    this.#copy.hidden = typeof ClipboardItem === "undefined" || !navigator.clipboard;
  }

  /** @param {State} state @param {Size} canvas */
  open(state, canvas) {
    this.#shown = { state, canvas };
    this.#refused.textContent = "";
    // Of a stored picture only what is there can be saved here; its files are among the jobs.
    element("save-what-field", HTMLElement).hidden = state.job !== null;
    for (const option of this.#format.options) option.hidden = state.job !== null && !["png", "jpeg"].includes(option.value);
    if (state.job) [this.#what.value, this.#format.value] = ["view", this.#format.value === "jpeg" ? "jpeg" : "png"];
    else if (["picture", "view"].includes(this.#what.value)) this.#what.value = state.view ? "view" : "picture";
    this.#offerSizes();
    this.#dialog.showModal();
  }

  #offerSizes() {
    const { limits } = this;
    if (!this.#shown || !limits) return;
    const { job } = this.#shown.state;
    const chosen = this.#size.value;
    const { aspect } = this.#part();
    const { sides, longest } = possibleSides(this.#chosenFormat, aspect, limits);
    const stored = job ? Math.max(...Object.values(this.#storedPart(job)).slice(2)) : Infinity;
    const screen = Math.round(Math.max(this.#shown.canvas.width, this.#shown.canvas.height));
    const option = (/** @type {number} */ side) => new Option(dimensions(withLongSide(aspect, side)), String(side));
    const offered = [...new Set([screen, ...sides, ...(job ? [stored] : [])])].filter((side) => side <= Math.min(longest, stored));
    this.#size.replaceChildren(...offered.sort((a, b) => a - b).map(option), new Option("Another size …", "custom"));
    this.#size.value = [...this.#size.options].some(({ value }) => value === chosen) ? chosen : "2048";
    if (this.#size.selectedIndex < 0) this.#size.selectedIndex = Math.max(0, this.#size.options.length - 2);
    this.#custom.max = String(Math.min(longest, stored));
    this.#tell();
  }

  get #chosenFormat() {
    return FORMATS[this.#format.value];
  }

  #part() {
    const { state, canvas } = /** @type {{ state: State, canvas: Size }} */ (this.#shown);
    const frame = state.job ? frameOf(state.job) : UNIT_SQUARE;
    const part = partToSave(this.#what.value, frame, state.view && regionOf(state.view, canvas), canvas);
    if (!state.job) return part;
    const { width, height } = this.#storedPart(state.job);
    return { ...part, aspect: { width, height } };
  }

  /** @param {import("../panels/job_card.js").Job} job */
  #storedPart(job) {
    const { state, canvas } = /** @type {{ state: State, canvas: Size }} */ (this.#shown);
    return partOf(job, state.view ? regionOf(state.view, canvas) : frameOf(job));
  }

  /** @returns {Choice | null} null if the size is none that the service makes */
  #choice() {
    const format = this.#chosenFormat;
    const side = Number(this.#size.value === "custom" ? this.#custom.value : this.#size.value);
    if (!Number.isInteger(side) || side < 1 || side > Number(this.#custom.max)) return null;
    const { region, aspect } = this.#part();
    return { region, size: withLongSide(aspect, side), format, quality: format.lossy ? this.#quality.valueAsNumber : null };
  }

  #tell() {
    const choice = this.#choice();
    const { limits } = this;
    if (!this.#running) this.#refused.textContent = ""; // it was said of another choice
    element("save-custom-field", HTMLElement).hidden = this.#size.value !== "custom";
    element("save-quality-field", HTMLElement).hidden = !this.#chosenFormat.lossy || this.#shown?.state.job != null;
    element("save-quality-value", HTMLOutputElement).value = this.#quality.value;
    this.estimate.stop();
    this.#submit.disabled = choice === null;
    if (!choice || !limits || !this.#shown) {
      this.#told.textContent = `From 1 to ${grouped(Number(this.#custom.max))} pixels on the longer side.`;
      return;
    }
    if (this.#shown.state.job) this.#tellWay(choice, { seconds: 0, bytes: null, final: true });
    else this.estimate.start(this.#shown.state.image, choice, (figures) => this.#tellWay(choice, figures));
  }

  /** Time and bytes, and how it is made, which depends on the time. @param {Choice} choice
   * @param {import("./estimate.js").Figures} figures */
  #tellWay(choice, { seconds, bytes, final }) {
    const way = this.#wayOf(choice);
    const isOpen = way === "answer" && seconds === null && !final;
    if (!this.#running) {
      this.#submit.textContent = way === "job" ? "Order" : "Download";
      this.#submit.disabled = way === "late" || isOpen;
      this.#copy.disabled = way !== "answer" || isOpen;
    }
    const text = `${dimensions(choice.size)} pixels${isOpen ? ". Estimating the time …" : this.#describe(way, seconds)}`;
    const figures = [seconds === null ? "" : roughTime(seconds), bytes === null ? "" : roughBytes(bytes)];
    const known = this.#shown?.state.job ? "" : figures.filter(Boolean).join(" and ");
    this.#told.textContent = known ? `${text} About ${known}.` : text;
  }

  /** How a choice is made. Late: it would take longer than an answer may, and no job makes its format.
   * @param {Choice} choice @returns {"answer" | "job" | "late"} */
  #wayOf(choice) {
    const { format, size } = choice;
    if (!this.limits || this.#shown?.state.job != null) return "answer";
    if (!fitsAnswer(format, size, this.limits)) return "job";
    const seconds = this.#shown && this.estimate.seconds(this.#shown.state.image.model, choice);
    if ((seconds ?? 0) < TIMELY * this.limits.request_timeout) return "answer";
    return format.output === null ? "late" : "job";
  }

  /** @param {"answer" | "job" | "late"} way @param {number | null} seconds */
  #describe(way, seconds) {
    if (way === "answer") return (seconds ?? 0) < PATIENCE ? ", drawn at once." : ", drawn while you wait.";
    if (way === "job") return ", drawn by a job, which you find under Jobs.";
    const limit = roughTime(this.limits?.request_timeout ?? 0);
    return ` take longer than the ${limit} that a download may. PNG, TIFF and Deep Zoom are made by jobs.`;
  }

  /** Do something that can be cancelled. @param {() => Promise<void>} action */
  async #run(action) {
    const { signal } = (this.#running = new AbortController());
    this.#refused.textContent = "";
    const label = this.#submit.textContent;
    this.#submit.textContent = "Cancel";
    this.#copy.disabled = true;
    try {
      await action();
    } catch (error) {
      if (!signal.aborted) this.#refused.textContent = /** @type {Error} */ (error).message;
    } finally {
      this.#running = null;
      this.#submit.textContent = label;
      this.#copy.disabled = label !== "Download";
    }
  }

  async #save() {
    const choice = this.#choice();
    if (!choice || !this.#shown) return;
    const { image } = this.#shown.state;
    if (this.#wayOf(choice) === "answer") saveFile(await this.#draw(choice), fileName(image, choice.size, choice.format.suffix));
    else await this.#order(choice);
    this.#dialog.close();
  }

  async #copyImage() {
    const choice = this.#choice();
    if (!choice) return;
    const png = this.#draw({ ...choice, format: FORMATS.png, quality: null });
    await navigator.clipboard.write([new ClipboardItem({ "image/png": png })]);
    this.#told.textContent = "Copied.";
  }

  /** @param {Choice} choice @returns {Promise<Blob>} */
  async #draw({ region, size, format, quality }) {
    const { image, job } = /** @type {{ state: State }} */ (this.#shown).state;
    const path = job
      ? partPath(job.id, this.#storedPart(job), size, format.suffix === "jpeg" ? "jpg" : "png")
      : imagePath(image, region, size, format.image, quality);
    return (await this.api.image(path, this.#running?.signal)).blob;
  }

  /** @param {Choice} choice */
  async #order({ region, size, format, quality }) {
    const { model, seed, psi, classIndex, id, shape } = /** @type {{ state: State }} */ (this.#shown).state.image;
    const body = {
      model,
      ...(id ? { latent: { id } } : { seed, truncation_psi: psi }),
      ...(classIndex === null || id ? {} : { class_index: classIndex }),
      ...shapeFields(shape),
      ...scaled(size, 1),
      region,
      tile: TILE,
      output: format.output,
      format: format.image,
      ...(quality === null ? {} : { quality }),
    };
    this.onOrdered(await this.orders.send(body, this.#running?.signal));
  }
}
