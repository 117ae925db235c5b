// @ts-check
/** The panels: one at a time, chosen by tabs, hidden by a key. On a phone they are a sheet above the tabs. */

import { element, onClick } from "../dom.js";

/** Windows in which the panels begin hidden, and those in which they are a sheet; as in layout.css. */
const SMALL = "(max-width: 700px), (max-height: 480px)";
const SHEET = "(max-width: 700px)";

export class Dock {
  #tabs = /** @type {HTMLButtonElement[]} */ ([...document.querySelectorAll("#dock [role=tab]")]);

  constructor() {
    for (const [index, tab] of this.#tabs.entries()) {
      tab.addEventListener("click", () => this.#press(tab));
      tab.addEventListener("keydown", (event) => {
        const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
        if (!step) return;
        event.stopPropagation(); // the view stays
        event.preventDefault();
        const next = this.#tabs[(index + step + this.#tabs.length) % this.#tabs.length];
        next.focus();
        this.#select(next);
      });
    }
    onClick("panels", () => this.toggle());
    this.toggle(!matchMedia(SMALL).matches);
  }

  /** Show a panel. @param {string} name */
  open(name) {
    this.#select(element(`tab-${name}`, HTMLButtonElement));
    this.toggle(true);
  }

  /** Show the panels, or hide them. @param {boolean} [open] */
  toggle(open) {
    const hidden = document.body.classList.toggle("no-panels", open === undefined ? undefined : !open);
    element("panels", HTMLButtonElement).setAttribute("aria-pressed", String(!hidden));
    if (hidden && element("dock", HTMLElement).contains(document.activeElement)) {
      element("canvas", HTMLElement).focus();
    }
  }

  /** The tab of an open sheet closes it. @param {HTMLButtonElement} tab */
  #press(tab) {
    const isOpen = !document.body.classList.contains("no-panels");
    if (isOpen && tab.ariaSelected === "true" && matchMedia(SHEET).matches) {
      this.toggle(false);
      return;
    }
    this.#select(tab);
    this.toggle(true);
  }

  /** @param {HTMLButtonElement} chosen */
  #select(chosen) {
    for (const tab of this.#tabs) {
      const selected = tab === chosen;
      tab.ariaSelected = String(selected);
      tab.tabIndex = selected ? 0 : -1;
      element(/** @type {string} */ (tab.getAttribute("aria-controls")), HTMLElement).hidden = !selected;
    }
    chosen.dispatchEvent(new Event("selected"));
  }
}
