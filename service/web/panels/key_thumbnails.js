// @ts-check
/** Small pictures of the keys of a film, drawn by the service and kept. */

import { smallPicture } from "../film/walk.js";

const SIDE = 144;
const KEPT = 64;

/** @typedef {import("../link.js").Key} Key */

export class KeyThumbnails {
  /** @type {Map<string, ImageBitmap>} by their requests */
  #pictures = new Map();
  #loading = new AbortController();

  /** @param {import("../api/client.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /** Draw the pictures of keys, one after the other, so that the large picture comes first.
   * @param {{ canvas: HTMLCanvasElement | null, key: Key }[]} wanted @param {import("../picture/view.js").Size} size of
   *     the canvas whose view the keys are */
  async draw(wanted, size) {
    this.#loading.abort();
    const { signal } = (this.#loading = new AbortController());
    for (const { canvas, key } of wanted) {
      const picture = await this.#picture(key, size, signal).catch(() => null); // the button has its name
      if (signal.aborted) return;
      if (!canvas || !picture) continue;
      Object.assign(canvas, { width: picture.width, height: picture.height, className: "" });
      canvas.getContext("2d")?.drawImage(picture, 0, 0);
    }
  }

  /** @param {Key} key @param {import("../picture/view.js").Size} size @param {AbortSignal} signal */
  async #picture({ image, view }, size, signal) {
    const body = smallPicture(image, view, size, SIDE);
    const name = JSON.stringify(body);
    const found = this.#pictures.get(name) ?? (await createImageBitmap(await this.api.draw(body, signal)));
    this.#pictures.set(name, found);
    if (this.#pictures.size > KEPT) this.#pictures.delete(String([...this.#pictures.keys()][0]));
    return found;
  }
}
