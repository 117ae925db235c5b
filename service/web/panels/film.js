// @ts-check
/**
 * The film: a strip of keys that are set from views, to be put in order and played.
 *
 * @typedef {import("../link.js").Key} Key
 * @typedef {import("../picture/view.js").Size} Size
 *
 * @typedef {object} Page
 * @property {() => { image: import("../link.js").Image, view: import("../picture/view.js").View | null, size: Size }} seen
 * @property {(keys: Key[], how: import("../history.js").How) => void} onChange
 * @property {(key: Key) => void} onOpen
 * @property {(text: string) => void} offerUndo
 */

import { element, onClick } from "../dom.js";
import { framesOf, refusalOf } from "../film/film.js";
import { timesOf } from "../film/timeline.js";
import { EASINGS, MAX_KEYS, SECONDS } from "../link.js";
import { keyItem, markKey } from "./key_item.js";
import { KeyThumbnails } from "./key_thumbnails.js";

export class FilmPanel {
  #panel = element("panel-film", HTMLElement);
  #list = element("keys", HTMLElement);
  #told = element("film-told", HTMLElement);
  #play = element("film-play", HTMLButtonElement);
  /** @type {Key[]} */
  keys = [];
  #isListed = true;

  /** @param {import("../api/client.js").Api} api @param {import("../api/latents.js").Latents} latents
   * @param {import("../film/player.js").Player} player @param {Page} page */
  constructor(api, latents, player, page) {
    this.latents = latents;
    this.player = player;
    this.page = page;
    this.thumbnails = new KeyThumbnails(api);
    onClick("film-add", () => this.#add());
    onClick("film-play", () => this.#toggle());
    element("tab-film", HTMLElement).addEventListener("selected", () => this.#isListed || this.#show());
    this.#summarise();
  }

  /** The keys of the state of the page. @param {Key[]} keys */
  setKeys(keys) {
    if (JSON.stringify(keys) === JSON.stringify(this.keys)) return;
    this.keys = keys;
    this.#show();
  }

  /** Ids of the latents of the keys. */
  ids() {
    return Promise.all(this.keys.map(({ image }) => this.latents.store(image)));
  }

  #add() {
    const { image, view } = this.page.seen();
    const refusal = refusalOf(this.keys, image);
    this.#told.textContent = refusal;
    if (refusal) return;
    const { id: _, ...own } = image;
    this.#change([...this.keys, { image: own, view, seconds: SECONDS.initial, easing: EASINGS[0] }]);
    this.#list.lastElementChild?.scrollIntoView({ block: "nearest" });
  }

  /** @param {Key[]} keys */
  #change(keys) {
    this.keys = keys;
    this.#show();
    this.page.onChange(keys, "step");
  }

  /** @param {number} index @param {Partial<Key>} values */
  #edit(index, values) {
    this.keys = this.keys.map((key, each) => (each === index ? { ...key, ...values } : key));
    this.player.stop();
    this.#summarise();
    this.page.onChange(this.keys, "moving");
  }

  /** @param {number} index @param {number} by */
  #move(index, by) {
    const keys = [...this.keys];
    keys.splice(index + by, 0, ...keys.splice(index, 1));
    this.#change(keys);
    this.#focus(index + by, by < 0 ? ".earlier" : ".later");
  }

  /** @param {number} index */
  #remove(index) {
    this.#change(this.keys.filter((_, each) => each !== index));
    this.#focus(Math.min(index, this.keys.length - 1), ".remove");
    this.page.offerUndo(`Key ${index + 1} is removed.`);
  }

  /** @param {number} index @param {string} name of a button of the key */
  #focus(index, name) {
    const item = this.#list.children[index];
    const wanted = /** @type {HTMLButtonElement | null | undefined} */ (item?.querySelector(name));
    const button = wanted?.disabled ? item?.querySelector("button") : wanted;
    /** @type {HTMLElement} */ (button ?? element("film-add", HTMLElement)).focus();
  }

  /** List the keys, once somebody looks. */
  #show() {
    this.player.stop();
    this.#summarise();
    this.#isListed = !this.#panel.hidden;
    if (!this.#isListed) return;
    const { size } = this.page.seen();
    const items = this.keys.map((key, index) =>
      keyItem(key, index, this.keys.length, {
        open: () => this.page.onOpen(key),
        edit: (values) => this.#edit(index, values),
        move: (by) => this.#move(index, by),
        remove: () => this.#remove(index),
      }),
    );
    this.#list.replaceChildren(...items);
    this.thumbnails.draw(items.map((item, index) => ({ canvas: item.querySelector("canvas"), key: this.keys[index] })), size);
  }

  #summarise() {
    const { length } = this.keys;
    const total = timesOf(this.keys).at(-1) ?? 0;
    this.#told.textContent = length > 1 ? `${length} keys, ${Number(total.toFixed(1))} s` : "";
    element("keys-none", HTMLElement).hidden = length > 0;
    element("film-add", HTMLButtonElement).disabled = length >= MAX_KEYS;
    this.#play.disabled = length < 2;
    element("film-order", HTMLElement).hidden = length < 2;
  }

  async #toggle() {
    if (this.#play.ariaPressed === "true") {
      this.player.stop();
      return;
    }
    this.#setPlaying(true);
    try {
      const ids = await this.ids();
      const { fps, frames } = framesOf(this.keys, ids, this.page.seen().size);
      const shown = frames.map(({ key, body }) => ({ body, show: () => markKey(this.#list, key) }));
      this.player.play(shown, fps, () => this.#setPlaying(false));
    } catch (error) {
      this.#setPlaying(false);
      this.#told.textContent = /** @type {Error} */ (error).message;
    }
  }

  /** @param {boolean} playing */
  #setPlaying(playing) {
    this.#play.ariaPressed = String(playing);
    element("film-play-text", HTMLElement).textContent = playing ? "Stop" : "Play";
    if (!playing) markKey(this.#list, null);
  }
}
