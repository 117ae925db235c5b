// @ts-check
/** Asks for an API key. */

import { element, onClick } from "../dom.js";

onClick("key-cancel", () => element("key-dialog", HTMLDialogElement).close());

/** @param {boolean} refused whether a key was given and not accepted
 * @returns {Promise<string | null>} null if the user declines */
export function askKey(refused) {
  const dialog = element("key-dialog", HTMLDialogElement);
  const field = element("key", HTMLInputElement);
  element("key-refused", HTMLElement).hidden = !refused;
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "use" ? field.value.trim() : null), {
      once: true,
    });
  });
}
