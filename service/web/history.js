// @ts-check
/**
 * Steps of the page in the browser's history: Back is undo.
 *
 * @typedef {"step" | "moving" | "amend"} How a change enters it: as a step at once, as one step with the changes that
 *     follow, or as part of the last step
 */

const SETTLED_MILLISECONDS = 500;

export class Steps {
  #timer = 0;
  /** @type {string | null} the address that is written once it stays */
  #pending = null;
  /** Whether it replaces the address of the current step. */
  #amends = false;

  /** @param {() => void} onRestore the address of the page is another, by Back, Forward or the user */
  constructor(onRestore) {
    window.addEventListener("popstate", () => {
      this.#forget();
      onRestore();
    });
  }

  /** @param {string} address @param {How} how */
  take(address, how) {
    if (how === "step") this.add(address);
    else if (how === "moving") this.settle(address);
    else this.replace(address);
  }

  /** The current step has this address. @param {string} address */
  replace(address) {
    this.#forget();
    history.replaceState({ step: this.#step }, "", address);
  }

  /** Another step at once. @param {string} address */
  add(address) {
    this.flush();
    this.#push(address);
  }

  /** Another step if the address stays for a moment. @param {string} address
   * @param {boolean} [amends] the user has not moved, so it is no step of its own */
  settle(address, amends = false) {
    clearTimeout(this.#timer);
    this.#amends = amends && (this.#pending === null || this.#amends);
    this.#pending = address;
    this.#timer = setTimeout(() => this.flush(), SETTLED_MILLISECONDS);
  }

  /** Write what was to be written later. */
  flush() {
    const address = this.#pending;
    this.#forget();
    if (address === null) return;
    if (this.#amends) this.replace(address);
    else this.#push(address);
  }

  undo() {
    this.flush();
    if (this.#step > 0) history.back();
  }

  redo() {
    history.forward();
  }

  get #step() {
    return Number(history.state?.step ?? 0);
  }

  /** @param {string} address */
  #push(address) {
    if (address === location.search + location.hash) return;
    try {
      history.pushState({ step: this.#step + 1 }, "", address);
    } catch {
      // Browsers limit how often. The next step has the address.
    }
  }

  #forget() {
    clearTimeout(this.#timer);
    this.#pending = null;
  }
}
