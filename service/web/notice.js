// @ts-check
/** What the user must know: errors, waits, and what a link cannot show. */

import { element } from "./dom.js";

export class Notice {
  #bar = element("notice", HTMLElement);
  #text = element("notice-text", HTMLElement);
  #action = element("notice-action", HTMLButtonElement);
  #act = () => {};

  constructor() {
    this.#action.addEventListener("click", () => {
      this.clear();
      this.#act();
    });
  }

  /** @param {string} text empty: the wait is over */
  wait(text) {
    if (!text && this.#bar.dataset.kind === "wait") this.clear();
    if (!text) return;
    this.#show(text, "wait");
    this.#action.hidden = true;
  }

  /** @param {string} text @param {string} label of the button @param {() => void} act */
  fail(text, label, act) {
    this.#show(text, "failed");
    this.#offer(label, act);
  }

  /** @param {string} text @param {string} label of the button @param {() => void} act */
  offer(text, label, act) {
    this.#show(text, "offer");
    this.#offer(label, act);
  }

  /** A picture has arrived: waits and failures are over. What is offered stays. */
  settle() {
    if (this.#bar.dataset.kind !== "offer") this.clear();
  }

  clear() {
    this.#bar.hidden = true;
    this.#text.textContent = "";
  }

  /** @param {string} label @param {() => void} act */
  #offer(label, act) {
    this.#action.textContent = label;
    this.#action.hidden = false;
    this.#act = act;
  }

  /** @param {string} text @param {string} kind */
  #show(text, kind) {
    this.#bar.hidden = false;
    this.#bar.dataset.kind = kind;
    this.#text.textContent = text;
  }
}
