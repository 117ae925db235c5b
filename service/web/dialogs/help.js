// @ts-check
/** The dialog that shows the keys. */

import { element, onClick } from "../dom.js";

export class HelpDialog {
  #dialog = element("help-dialog", HTMLDialogElement);

  constructor() {
    onClick("help", () => this.open());
    onClick("help-close", () => this.#dialog.close());
  }

  async open() {
    this.#dialog.showModal();
    const version = await fetch("version").then((response) => response.json()).catch(() => null);
    if (version) element("version", HTMLElement).textContent = `CREPS Serve ${version.version}`;
  }
}
