// @ts-check
/**
 * Files that are opened: latents, and pictures whose latent is looked for.
 *
 * @typedef {import("../link.js").Image} Image
 *
 * @typedef {object} Projection as the service describes it
 * @property {string} id
 * @property {"queued" | "running" | "succeeded" | "failed" | "cancelled"} state
 * @property {number} steps
 * @property {number} steps_done
 * @property {string | null} latent the best so far
 * @property {number | null} psnr
 * @property {string | null} error
 *
 * @typedef {object} Reactions
 * @property {() => Image | null} current what the page shows
 * @property {(base: string, how: import("../history.js").How) => void} onFound
 * @property {(image: Image) => void} onOpen
 */

import { Problem, sleep } from "../api/client.js";
import { element, onClick } from "../dom.js";

const POLL_MILLISECONDS = 700;
const THUMBNAIL = 64;

export class ProjectionPanel {
  #card = element("projection", HTMLElement);
  #told = element("projection-told", HTMLElement);
  #bar = element("projection-bar", HTMLProgressElement);
  #target = element("projection-target", HTMLCanvasElement);
  #cancel = element("projection-cancel", HTMLElement);
  #again = element("projection-show", HTMLElement);
  #running = new AbortController();
  /** @type {{ model: string, latent: string } | null} the best latent of the last search */
  #best = null;

  /** @param {import("../api/client.js").Api} api @param {import("../api/latents.js").Latents} latents
   * @param {Reactions} reactions */
  constructor(api, latents, reactions) {
    this.api = api;
    this.latents = latents;
    this.reactions = reactions;
    const field = element("latent-file", HTMLInputElement);
    field.addEventListener("change", () => {
      const file = field.files?.[0];
      field.value = ""; // so that the same file can be chosen again
      if (file) this.open(file);
    });
    onClick("projection-cancel", () => this.#running.abort());
    onClick("projection-show", () => this.#best && this.reactions.onFound(this.#best.latent, "step"));
  }

  /** Show the latent in a file, or look for that of a picture. @param {File} file */
  async open(file) {
    const model = this.reactions.current()?.model;
    if (!model) return;
    this.#running.abort();
    const { signal } = (this.#running = new AbortController());
    this.#card.hidden = false;
    this.#bar.hidden = this.#target.hidden = this.#cancel.hidden = this.#again.hidden = true;
    this.#best = null;
    this.#told.textContent = `Reading ${file.name} …`;
    this.#card.scrollIntoView({ block: "nearest" });
    try {
      if (!file.type.startsWith("image/")) await this.#upload(model, file);
      else if (!(await this.#openOwn(file, signal))) await this.#project(model, file, signal);
    } catch (error) {
      if (signal.aborted) return;
      if (!(error instanceof Problem)) throw error;
      this.#told.textContent = `${file.name}: ${error.message.replace(/^(Latent|Picture): /, "")}`;
    }
  }

  /** What the page shows is another image. @param {Image} image */
  setImage({ model, recipe }) {
    const ended = this.#best !== null && this.#cancel.hidden;
    this.#again.hidden = !ended || model !== this.#best?.model || recipe?.base === this.#best.latent;
  }

  /** Show what a picture of this service says of itself. Pictures of changed latents are looked for like others.
   * @param {File} file @param {AbortSignal} signal @returns {Promise<boolean>} whether it was shown */
  async #openOwn(file, signal) {
    const headers = { "Content-Type": file.type };
    const response = await this.api.send("POST", "v1/inspect", { file, headers, signal }).catch((error) => {
      if (!(error instanceof Problem)) throw error;
    });
    if (!response) return false; // others have no description
    /** @type {{ model_name: string | null, spec: { latent: Record<string, any> } | null }} */
    const { model_name: model, spec } = await response.json();
    const { seed, psi = 1, class_index: classIndex = null, ...changes } = spec?.latent ?? {};
    if (!model || typeof seed !== "number" || Object.keys(changes).length) return false;
    this.#told.textContent = `${file.name} is of seed ${seed}.`;
    this.reactions.onOpen({ model, seed, psi, classIndex });
    return true;
  }

  /** @param {string} model @param {File} file */
  async #upload(model, file) {
    const latent = await this.latents.upload(model, file);
    this.#told.textContent = `Opened ${file.name}.`;
    if (this.reactions.current()?.model === model) this.reactions.onFound(latent, "step");
  }

  /** Find the latent of a picture, and show how it comes nearer, unless the user looks at something else meanwhile.
   * @param {string} model @param {File} file @param {AbortSignal} signal */
  async #project(model, file, signal) {
    await this.#showTarget(file);
    const headers = { "Content-Type": file.type };
    const query = new URLSearchParams({ model, ...this.#class() });
    const ordered = await this.api.send("POST", `v1/projections?${query}`, { file, headers });
    /** @type {Projection} */
    let projection = await ordered.json();
    const address = `v1/projections/${projection.id}`;
    this.#bar.hidden = this.#cancel.hidden = false;
    this.#tell(projection);
    this.#card.scrollIntoView({ block: "nearest" });
    try {
      while (projection.state === "queued" || projection.state === "running") {
        this.#tell(projection);
        this.#show(model, projection.latent);
        await sleep(POLL_MILLISECONDS, signal);
        projection = await (await this.api.send("GET", address, { signal })).json();
      }
      this.#show(model, projection.latent);
      if (projection.state !== "succeeded") throw new Problem(0, projection.error ?? "The search was cancelled.");
      this.#told.textContent = `Found, within ${(projection.psnr ?? 0).toFixed(1)} dB.`;
    } catch (error) {
      if (!signal.aborted) throw error;
      await this.api.send("DELETE", address);
      if (signal === this.#running.signal) {
        this.#told.textContent = this.#best ? "Stopped: this is how near it came." : "Stopped before anything was found.";
      }
    } finally {
      if (signal === this.#running.signal) this.#end();
    }
  }

  #end() {
    this.#bar.hidden = this.#cancel.hidden = true;
    const image = this.reactions.current();
    if (image) this.setImage(image);
  }

  /** @returns {Record<string, string>} */
  #class() {
    const index = this.reactions.current()?.classIndex ?? null;
    return index === null ? {} : { class: String(index) };
  }

  /** @param {Projection} projection */
  #tell({ steps, steps_done: done }) {
    this.#bar.value = done / steps;
    this.#told.textContent = done ? `Looking for the picture: step ${done} of ${steps}` : "The picture waits for a worker …";
  }

  /** @param {string} model @param {string | null} latent */
  #show(model, latent) {
    if (!latent || latent === this.#best?.latent) return;
    const image = this.reactions.current();
    const follows = image?.model === model && (this.#best === null || image.recipe?.base === this.#best.latent);
    const how = this.#best === null ? "step" : "amend";
    this.#best = { model, latent };
    if (follows) this.reactions.onFound(latent, how);
  }

  /** @param {File} file */
  async #showTarget(file) {
    const picture = await createImageBitmap(file).catch(() => null);
    if (!picture) return; // the service says why
    const scale = Math.min(1, (THUMBNAIL * devicePixelRatio) / Math.max(picture.width, picture.height));
    const [width, height] = [picture.width, picture.height].map((side) => Math.max(1, Math.round(side * scale)));
    Object.assign(this.#target, { width, height, hidden: false });
    this.#target.getContext("2d")?.drawImage(picture, 0, 0, width, height);
    picture.close();
  }
}

/** Open files that are dropped on the page. @param {(file: File) => void} open */
export function listenToDrops(open) {
  const hint = element("drop", HTMLElement);
  const hasFiles = (/** @type {DragEvent} */ { dataTransfer }) => dataTransfer?.types.includes("Files") ?? false;
  window.addEventListener("dragover", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    hint.hidden = false;
  });
  window.addEventListener("dragleave", ({ relatedTarget }) => {
    if (relatedTarget === null) hint.hidden = true; // it has left the window
  });
  window.addEventListener("drop", (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    hint.hidden = true;
    const file = event.dataTransfer?.files[0];
    if (file) open(file);
  });
}
