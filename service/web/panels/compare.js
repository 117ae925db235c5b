// @ts-check
/** Another picture beside the one that is shown, in the same view. */

import { element, onClick } from "../dom.js";
import { liveSource } from "../picture/sources.js";
import { Viewer } from "../picture/viewer.js";
import { imageName } from "./gallery.js";

export class Compare {
  #element = element("compare", HTMLElement);
  /** @type {import("../link.js").Image | null} */
  image = null;

  /** @param {import("../api/client.js").Api} api @param {() => void} onChange it was opened or closed
   * @param {(error: Error) => void} onError */
  constructor(api, onChange, onError) {
    this.onChange = onChange;
    this.viewer = new Viewer(this.#element, api, { onLoaded() {}, onPrefetched() {}, onBusy() {}, onError });
    onClick("compare-close", () => this.close());
  }

  /** @param {import("../link.js").Image} image */
  open(image) {
    this.image = image;
    this.#element.hidden = false;
    element("compare-name", HTMLElement).textContent = imageName(image);
    this.onChange();
  }

  close() {
    if (this.image === null) return;
    this.image = null;
    this.#element.hidden = true;
    this.viewer.layers.clear();
    this.onChange();
    element("canvas", HTMLElement).focus();
  }

  /** @param {import("../picture/view.js").View} view @param {import("../picture/view.js").View} goal */
  show(view, goal) {
    if (this.image) this.viewer.show(liveSource(this.image), view, goal);
  }
}
