// @ts-check
/**
 * Plays small pictures in place of the view. Each is drawn once, and shown when it is there and its time has come.
 *
 * @typedef {object} Frame
 * @property {object} body of POST /v1/images
 * @property {() => void} [show] tells what is shown
 */

import { element } from "../dom.js";

const LOADING = 2; // requests at once
/** Pictures that are kept, more than are played at once. */
const KEPT = 160;

/** Most frames that are played. */
export const MAX_FRAMES = 120;

/** Longer side of the pictures. */
export const SMALL_SIDE = 320;

/** How they are encoded. */
export const SMALL = { format: "jpeg", quality: 85, metadata: "none" };

export class Player {
  #canvas = element("film", HTMLCanvasElement);
  /** @type {Map<string, ImageBitmap>} by their bodies, the oldest first */
  #pictures = new Map();
  /** @type {AbortController | null} */
  #playing = null;
  /** @type {(() => void) | null} tells who began that it has ended */
  #onStop = null;

  /** @param {import("../api/client.js").Api} api @param {(error: Error) => void} onError */
  constructor(api, onError) {
    this.api = api;
    this.onError = onError;
  }

  get playing() {
    return this.#playing !== null;
  }

  /** Play frames again and again. @param {Frame[]} frames @param {number} fps @param {() => void} onStop
   * @param {number} [first] the frame to begin with */
  play(frames, fps, onStop, first = 0) {
    this.stop();
    const { signal } = (this.#playing = new AbortController());
    this.#onStop = onStop;
    const order = frames.map((_, index) => frames[(first + index) % frames.length]);
    const waiting = [...order];
    const load = async () => {
      for (let frame = waiting.shift(); frame; frame = waiting.shift()) await this.#load(frame, signal);
    };
    const loading = Promise.all(Array.from({ length: LOADING }, load));
    loading.catch((error) => {
      if (signal.aborted) return;
      this.stop();
      this.onError(error);
    });
    this.#run(order, 1000 / fps, signal);
  }

  stop() {
    if (!this.#playing) return;
    this.#playing.abort();
    this.#playing = null;
    this.#canvas.hidden = element("playing", HTMLElement).hidden = true;
    this.#onStop?.();
  }

  /** @param {Frame[]} frames @param {number} interval @param {AbortSignal} signal */
  #run(frames, interval, signal) {
    let index = 0;
    let due = 0;
    const step = (/** @type {number} */ now) => {
      if (signal.aborted) return;
      const picture = this.#pictures.get(keyOf(frames[index]));
      if (picture && now >= due) {
        this.#show(picture);
        frames[index].show?.();
        index = (index + 1) % frames.length;
        due = Math.max(due + interval, now - interval);
      }
      requestAnimationFrame(step);
    };
    requestAnimationFrame(step);
  }

  /** @param {ImageBitmap} picture */
  #show(picture) {
    const { width, height } = picture;
    if (this.#canvas.width !== width || this.#canvas.height !== height) Object.assign(this.#canvas, { width, height });
    /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d")).drawImage(picture, 0, 0);
    this.#canvas.hidden = element("playing", HTMLElement).hidden = false;
  }

  /** @param {Frame} frame @param {AbortSignal} signal */
  async #load(frame, signal) {
    const key = keyOf(frame);
    const picture = this.#pictures.get(key) ?? (await createImageBitmap(await this.api.draw(frame.body, signal)));
    this.#pictures.delete(key);
    this.#pictures.set(key, picture); // the newest now
    const [oldest] = this.#pictures.keys();
    if (this.#pictures.size <= KEPT) return;
    this.#pictures.get(oldest)?.close();
    this.#pictures.delete(oldest);
  }
}

/** @param {Frame} frame */
function keyOf({ body }) {
  return JSON.stringify(body);
}
