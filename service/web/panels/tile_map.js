// @ts-check
/** A small image of a job, dimmed where tiles are not finished. */

import { imagePath } from "../api/addresses.js";
import { shapeOf } from "../shape.js";
import { levels } from "./pyramid.js";

/** Longest side of the level whose tiles are shown, in pixels. */
const SHOWN_SIDE = 512;
const MAP_SIDE = 256; // of the canvas, in pixels
const VEIL = "rgb(128 128 128 / 70%)";

export class TileMap {
  /** One pixel for each tile of the image itself; transparent where it is finished. */
  #veil = document.createElement("canvas");
  /** The image under the veil. */
  #image = document.createElement("canvas");
  #asked = new Set();

  /** @param {HTMLCanvasElement} canvas @param {import("../api/client.js").Api} api @param {import("./job_card.js").Job} job */
  constructor(canvas, api, job) {
    this.canvas = canvas;
    this.api = api;
    this.job = job;
    this.tile = job.tile ?? Math.max(job.width, job.height); // a video has none
    this.levels = levels(job, this.tile, job.output);
    this.shown = Math.max(0, this.levels.findLastIndex(({ width, height }) => Math.max(width, height) <= SHOWN_SIDE));
    const scale = Math.min(1, MAP_SIDE / Math.max(job.width, job.height));
    canvas.width = this.#image.width = Math.max(1, Math.round(job.width * scale));
    canvas.height = this.#image.height = Math.max(1, Math.round(job.height * scale));
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

  /** Show a finished tile. Only those of Deep Zoom can be fetched. @param {number} column @param {number} row */
  async #fetch(column, row) {
    const place = `${column}_${row}`;
    if (this.job.output !== "dzi" || this.#asked.has(place)) return;
    this.#asked.add(place);
    const { id, format } = this.job;
    const suffix = format === "jpeg" ? "jpg" : format;
    const level = this.levels[this.shown];
    const [x, y] = [this.canvas.width / level.width, this.canvas.height / level.height];
    const path = `v1/jobs/${id}/output/picture_files/${this.shown}/${place}.${suffix}`;
    await this.#paint(path, (image) => [column * this.tile * x, row * this.tile * y, image.width * x, image.height * y]);
  }

  /** Show a live image for the other outputs. */
  async #drawLive() {
    const { model, seed, truncation_psi, class_index, region } = this.job;
    if (!region || seed === null) return;
    const image = { model, seed, psi: truncation_psi ?? 1, classIndex: class_index ?? null, shape: shapeOf(this.job) };
    const path = imagePath(image, region, this.canvas, "jpeg");
    await this.#paint(path, () => [0, 0, this.canvas.width, this.canvas.height]);
  }

  /** @param {string} path @param {(image: ImageBitmap) => [number, number, number, number]} place */
  async #paint(path, place) {
    try {
      const image = await createImageBitmap(await (await this.api.send("GET", path)).blob());
      const context = /** @type {CanvasRenderingContext2D} */ (this.#image.getContext("2d"));
      context.imageSmoothingQuality = "high";
      context.drawImage(image, ...place(image));
      image.close();
      this.#draw();
    } catch {
      // The job was cancelled, or the service is busy: leave the map as it is.
    }
  }

  #draw() {
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    context.drawImage(this.#image, 0, 0);
    context.imageSmoothingEnabled = false;
    const [x, y] = [width / this.job.width, height / this.job.height];
    context.drawImage(this.#veil, 0, 0, this.#veil.width * this.tile * x, this.#veil.height * this.tile * y);
  }
}
