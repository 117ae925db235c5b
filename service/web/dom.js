// @ts-check
/** Access to the elements of the page. */

const FLASH_MILLISECONDS = 1500;

/** The element with this id and type.
 * @template {HTMLElement} T @param {string} id @param {new () => T} type @returns {T} */
export function element(id, type) {
  const found = document.getElementById(id);
  if (!(found instanceof type)) throw new TypeError(`the page has no ${type.name} #${id}`);
  return found;
}

/** A new element. @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {Partial<HTMLElementTagNameMap[K]>} [properties] @param {...(Node | string)} children */
export function create(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

/** @param {string} text @param {(button: HTMLButtonElement) => void} action @param {string} [className] */
export function button(text, action, className = "") {
  const made = create("button", { type: "button", textContent: text, className });
  made.addEventListener("click", () => action(made));
  return made;
}

/** @param {string} id of a button @param {() => void} action */
export function onClick(id, action) {
  element(id, HTMLButtonElement).addEventListener("click", action);
}

/** A field's value whenever it changes, kept in the browser. @param {string} id of a checkbox
 * @param {(on: boolean) => void} show */
export function onToggle(id, show) {
  const field = element(id, HTMLInputElement);
  const stored = localStorage.getItem(`creps-${id}`);
  if (stored !== null) field.checked = stored === "true";
  const apply = () => {
    localStorage.setItem(`creps-${id}`, String(field.checked));
    show(field.checked);
  };
  field.addEventListener("change", apply);
  show(field.checked);
}

/** Show a text for a moment. @param {HTMLElement} label @param {string} text @param {string} afterwards */
export function flash(label, text, afterwards) {
  label.textContent = text;
  setTimeout(() => (label.textContent = afterwards), FLASH_MILLISECONDS);
}
