// @ts-check
/** A small picture of a job: tiles appear in it as they are made. */

import { levels } from "./pyramid.js";

/** Longest side of the level whose tiles are shown, in pixels. */
const SHOWN_SIDE = 512;
const MAP_SIDE = 256; // of the canvas, in pixels

export class TileMap {
  #finished = new Set();
  /** @type {Map<string, ImageBitmap>} */
  #pictures = new Map();

  /** @param {HTMLCanvasElement} canvas @param {import("./api.js").Api} api @param {import("./job_card.js").Job} job */
  constructor(canvas, api, job) {
    this.canvas = canvas;
    this.api = api;
    this.job = job;
    this.levels = levels(job, job.tile, job.output);
    this.shown = Math.max(0, this.levels.findLastIndex(({ width, height }) => Math.max(width, height) <= SHOWN_SIDE));
    const scale = MAP_SIDE / Math.max(job.width, job.height);
    canvas.width = Math.max(1, Math.round(job.width * scale));
    canvas.height = Math.max(1, Math.round(job.height * scale));
  }

  /** @param {[level: number, column: number, row: number][]} tiles that are stored */
  add(tiles) {
    for (const [level, column, row] of tiles) {
      if (level === this.levels.length - 1) this.#finished.add(`${column}_${row}`);
      if (level === this.shown && this.job.output === "dzi") this.#fetch(level, `${column}_${row}`);
    }
    this.#draw();
  }

  /** @param {number} level @param {string} place */
  async #fetch(level, place) {
    const suffix = this.job.format === "jpeg" ? "jpg" : this.job.format;
    try {
      const path = `v1/jobs/${this.job.id}/output/picture_files/${level}/${place}.${suffix}`;
      const blob = await (await this.api.send("GET", path)).blob();
      this.#pictures.set(place, await createImageBitmap(blob));
      this.#draw();
    } catch {
      // The job was cancelled meanwhile: its tiles are gone.
    }
  }

  #draw() {
    const context = this.canvas.getContext("2d");
    if (!context) return;
    const { width, height } = this.canvas;
    context.clearRect(0, 0, width, height);
    const { tile } = this.job;
    const level = this.levels[this.shown];
    for (const [place, picture] of this.#pictures) {
      const [column, row] = place.split("_").map(Number);
      const [x, y] = [(column * tile * width) / level.width, (row * tile * height) / level.height];
      context.drawImage(picture, x, y, (picture.width * width) / level.width, (picture.height * height) / level.height);
    }
    const { columns, rows } = this.levels[this.levels.length - 1];
    const [w, h] = [(tile * width) / this.job.width, (tile * height) / this.job.height];
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const finished = this.#finished.has(`${column}_${row}`);
        if (finished && this.job.output === "dzi") continue; // nothing lies over the picture
        context.fillStyle = finished ? "rgb(159 184 255 / 55%)" : "rgb(15 16 19 / 65%)";
        context.fillRect(column * w, row * h, w, h);
      }
    }
  }
}
