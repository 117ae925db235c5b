// @ts-check
/** A small picture of a job, veiled where its tiles are not finished. */

import { levels } from "./pyramid.js";

/** Longest side of the level whose tiles are shown, in pixels. */
const SHOWN_SIDE = 512;
const MAP_SIDE = 256; // of the canvas, in pixels
const VEIL = "rgb(15 16 19 / 70%)";

export class TileMap {
  /** One pixel for each tile of the picture itself; transparent where it is finished. */
  #veil = document.createElement("canvas");
  /** What lies under it. */
  #picture = document.createElement("canvas");
  #asked = new Set();

  /** @param {HTMLCanvasElement} canvas @param {import("./api.js").Api} api @param {import("./job_card.js").Job} job */
  constructor(canvas, api, job) {
    this.canvas = canvas;
    this.api = api;
    this.job = job;
    this.levels = levels(job, job.tile, job.output);
    this.shown = Math.max(0, this.levels.findLastIndex(({ width, height }) => Math.max(width, height) <= SHOWN_SIDE));
    const scale = Math.min(1, MAP_SIDE / Math.max(job.width, job.height));
    canvas.width = this.#picture.width = Math.max(1, Math.round(job.width * scale));
    canvas.height = this.#picture.height = Math.max(1, Math.round(job.height * scale));
    const { columns, rows } = this.levels[this.levels.length - 1];
    Object.assign(this.#veil, { width: columns, height: rows });
    const context = /** @type {CanvasRenderingContext2D} */ (this.#veil.getContext("2d"));
    context.fillStyle = VEIL;
    context.fillRect(0, 0, columns, rows);
    if (job.output !== "dzi") this.#drawLive();
    this.#draw();
  }

  /** @param {[level: number, column: number, row: number][]} tiles that are stored */
  add(tiles) {
    const veil = this.#veil.getContext("2d");
    for (const [level, column, row] of tiles) {
      if (level === this.levels.length - 1) veil?.clearRect(column, row, 1, 1);
      if (level === this.shown) this.#fetch(column, row);
    }
    this.#draw();
  }

  /** All tiles are stored. */
  finish() {
    this.#veil.getContext("2d")?.clearRect(0, 0, this.#veil.width, this.#veil.height);
    const { columns, rows } = this.levels[this.shown];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) this.#fetch(column, row);
    }
    this.#draw();
  }

  /** Shows a finished tile; those of Deep Zoom alone can be fetched. @param {number} column @param {number} row */
  async #fetch(column, row) {
    const place = `${column}_${row}`;
    if (this.job.output !== "dzi" || this.#asked.has(place)) return;
    this.#asked.add(place);
    const { id, format, tile } = this.job;
    const suffix = format === "jpeg" ? "jpg" : format;
    const level = this.levels[this.shown];
    const [x, y] = [this.canvas.width / level.width, this.canvas.height / level.height];
    const path = `v1/jobs/${id}/output/picture_files/${this.shown}/${place}.${suffix}`;
    await this.#paint(path, (picture) => [column * tile * x, row * tile * y, picture.width * x, picture.height * y]);
  }

  /** Shows what other outputs will show, drawn at once. */
  async #drawLive() {
    const path = livePath(this.job, this.canvas);
    if (path) await this.#paint(path, () => [0, 0, this.canvas.width, this.canvas.height]);
  }

  /** @param {string} path @param {(picture: ImageBitmap) => [number, number, number, number]} place */
  async #paint(path, place) {
    try {
      const picture = await createImageBitmap(await (await this.api.send("GET", path)).blob());
      const context = /** @type {CanvasRenderingContext2D} */ (this.#picture.getContext("2d"));
      context.imageSmoothingQuality = "high";
      context.drawImage(picture, ...place(picture));
      picture.close();
      this.#draw();
    } catch {
      // The job was cancelled meanwhile, or the service is busy: the map does without.
    }
  }

  #draw() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    context.drawImage(this.#picture, 0, 0);
    context.imageSmoothingEnabled = false;
    const [x, y] = [width / this.job.width, height / this.job.height];
    const { tile } = this.job;
    context.drawImage(this.#veil, 0, 0, this.#veil.width * tile * x, this.#veil.height * tile * y);
  }
}

/** The address of a job's picture at another size; null where the service does not tell which picture it is.
 * @param {import("./job_card.js").Job} job @param {import("./view.js").Size} size */
function livePath({ model, seed, truncation_psi, class_index, region }, { width, height }) {
  if (!region) return null;
  const query = new URLSearchParams({
    width: String(width),
    height: String(height),
    psi: String(truncation_psi ?? 1),
    region: region.join(","),
  });
  if (class_index != null) query.set("class", String(class_index));
  return `v1/images/${model}/${seed}.jpeg?${query}`;
}
