// @ts-check
/** Finds what index.html must hold. */

/** The element of this id, which must be of this type.
 * @template {HTMLElement} T @param {string} id @param {new () => T} type @returns {T} */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new TypeError(`the page has no ${type.name} #${id}`);
  return found;
}

/** @param {string} id of a button @param {() => void} action */
export function onClick(id, action) {
  element(id, HTMLButtonElement).addEventListener("click", action);
}
