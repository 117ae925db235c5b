// @ts-check
/**
 * Fetches what the user may look at next, while nothing else is to be done: the neighbourhood, and where the service is
 * quick the next zoom. Not where the browser saves data, and not while the service is busy with others.
 *
 * @typedef {import("./loader.js").Target} Target
 * @typedef {import("./grid.js").Rect} Rect
 */

import { Problem } from "../api/client.js";
import { area, bounding, uncovered } from "./coverage.js";
import { ZOOM_STEP, nearestScale, previewScale, rectOfRegion, rescale, roundOut, sideOf } from "./grid.js";
import { within } from "./sources.js";

const IDLE_MILLISECONDS = 400;
const QUALITY = { preview: 80, full: 95 }; // as those of loader.js, so that both have the same addresses
const BLOCK = 32;
const AROUND = 0.3; // of the view, on each side
const BUSY_QUEUE_MILLISECONDS = 100;
const PAUSE_MILLISECONDS = 30_000;

export class Prefetcher {
  /** @type {AbortController | null} */
  #running = null;
  #timer = 0;
  #pausedUntil = 0;

  /** @param {import("../api/client.js").Api} api @param {import("./layers.js").Layers} layers
   * @param {() => void} onFetched the layers have a new image */
  constructor(api, layers, onFetched) {
    this.api = api;
    this.layers = layers;
    this.onFetched = onFetched;
  }

  /** @param {Target} target that is shown @param {boolean} slow whether its full picture takes long */
  start(target, slow) {
    this.stop();
    if (savesData()) return;
    this.#timer = setTimeout(() => this.#run(target, slow), IDLE_MILLISECONDS);
  }

  stop() {
    clearTimeout(this.#timer);
    this.#running?.abort();
    this.#running = null;
  }

  /** @param {Target} target @param {boolean} slow */
  async #run(target, slow) {
    const { signal } = (this.#running = new AbortController());
    try {
      for (const { scale, rect } of wanted(target, slow)) {
        const missing = uncovered(rect, this.layers.asFineAs(target.source.key, scale));
        if (missing.length === 0) continue;
        if (performance.now() < this.#pausedUntil) return;
        await this.#fetch({ ...target, scale, rect: bounding(missing) }, slow, signal);
      }
    } catch (error) {
      if (error instanceof Problem) this.#pause(); // also without a worker: nobody waits for these
      else if (!signal.aborted) throw error;
    }
  }

  /** @param {Target} target @param {boolean} slow @param {AbortSignal} signal */
  async #fetch({ source, scale, rect }, slow, signal) {
    const whole = roundOut(rect, scale, BLOCK);
    const { path, region } = source.request(whole, scale, slow ? QUALITY.preview : QUALITY.full);
    const { blob, timings } = await this.api.prefetch(path, signal);
    const bitmap = await createImageBitmap(blob);
    signal.throwIfAborted();
    this.layers.add(source, { scale, rect: whole, region, bitmap });
    this.onFetched();
    const queued = timings.find(({ name }) => name === "queue")?.milliseconds ?? 0;
    if (queued > BUSY_QUEUE_MILLISECONDS) this.#pause();
  }

  #pause() {
    this.#pausedUntil = performance.now() + PAUSE_MILLISECONDS;
  }
}

/** What may be looked at next: the whole picture for the minimap, the neighbourhood, and of a quick service the next
 * zooms. @param {Target} target @param {boolean} slow @returns {{ scale: number, rect: Rect }[]} */
function wanted({ source, scale, rect }, slow) {
  const [x0, y0, x1, y1] = source.frame;
  const shown = Math.max((x1 - x0) / rect.width, (y1 - y0) / rect.height);
  const overview = previewScale(nearestScale(shown));
  const around = slow ? previewScale(scale) : scale;
  const list = [
    { scale: overview, rect: rectOfRegion(source.frame, overview) },
    { scale: around, rect: grow(rescale(rect, scale, around), 1 + 2 * AROUND) },
  ];
  for (const step of slow ? [] : [ZOOM_STEP, -ZOOM_STEP]) {
    const next = scale + step;
    if (next < 0 || next > source.finestScale) continue;
    list.push({ scale: next, rect: grow(rescale(rect, scale, next), sideOf(scale) / sideOf(next)) });
  }
  return list
    .map(({ scale, rect }) => ({ scale, rect: within(source, roundOut(rect, scale, 1), scale) }))
    .filter(({ rect }) => area([rect]) > 0);
}

/** @param {Rect} rect @param {number} factor @returns {Rect} with the same middle */
function grow({ x, y, width, height }, factor) {
  const [more, higher] = [width * (factor - 1), height * (factor - 1)];
  return { x: x - more / 2, y: y - higher / 2, width: width + more, height: height + higher };
}

function savesData() {
  const connection = /** @type {{ saveData?: boolean } | undefined} */ (Reflect.get(navigator, "connection"));
  return connection?.saveData === true || matchMedia("(prefers-reduced-data: reduce)").matches;
}
