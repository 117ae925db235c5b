// @ts-check
/**
 * A key in the strip of a film.
 *
 * @typedef {import("../link.js").Key} Key
 *
 * @typedef {object} Actions
 * @property {() => void} open shows its picture
 * @property {(values: Partial<Key>) => void} edit
 * @property {(by: number) => void} move by places
 * @property {() => void} remove
 */

import { button, create } from "../dom.js";
import { EASINGS, SECONDS } from "../link.js";
import { imageName } from "./gallery.js";

/** In the order of EASINGS. */
const EASING_NAMES = ["Soft", "Even", "Soft start", "Soft end"];

/** @param {Key} key @param {number} index @param {number} count of all keys @param {Actions} actions */
export function keyItem(key, index, count, actions) {
  const name = `key ${index + 1}`;
  const open = button("", actions.open, "thumbnail");
  open.append(create("canvas", { className: "empty" }));
  open.setAttribute("aria-label", `Show ${name}: ${imageName(key.image)}`);
  open.title = imageName(key.image);
  const icon = (/** @type {string} */ text, /** @type {string} */ label, /** @type {string} */ kind, /** @type {() => void} */ act) => {
    const made = button(text, act, `icon small ${kind}`);
    made.setAttribute("aria-label", label);
    made.title = label;
    return made;
  };
  const earlier = icon("↑", `Move ${name} up`, "earlier", () => actions.move(-1));
  const later = icon("↓", `Move ${name} down`, "later", () => actions.move(1));
  earlier.disabled = index === 0;
  later.disabled = index === count - 1;
  const remove = icon("×", `Remove ${name}`, "remove", actions.remove);
  const head = create("div", { className: "key-head" }, create("strong", { textContent: String(index + 1) }), earlier, later, remove);
  const parts = index === count - 1 ? [head] : [head, way(key, name, actions)];
  return create("li", { className: "key" }, open, create("div", {}, ...parts));
}

/** Mark the key that the film passes. @param {HTMLElement} list @param {number | null} index */
export function markKey(list, index) {
  [...list.children].forEach((item, each) => item.toggleAttribute("aria-current", each === index));
}

/** The way to the next key. @param {Key} key @param {string} name @param {Actions} actions */
function way(key, name, actions) {
  const seconds = create("input", {
    type: "number",
    min: String(SECONDS.low),
    max: String(SECONDS.high),
    step: "0.1",
    value: String(key.seconds),
    inputMode: "decimal",
  });
  seconds.setAttribute("aria-label", `Seconds from ${name} to the next`);
  seconds.addEventListener("input", () => {
    const value = seconds.valueAsNumber;
    const isValid = value >= SECONDS.low && value <= SECONDS.high;
    seconds.ariaInvalid = String(!isValid);
    if (isValid) actions.edit({ seconds: value });
  });
  const easing = create("select", {}, ...EASINGS.map((value, index) => new Option(EASING_NAMES[index], value)));
  easing.value = key.easing;
  easing.setAttribute("aria-label", `How the time from ${name} to the next passes`);
  easing.addEventListener("input", () => actions.edit({ easing: easing.value }));
  return create("div", { className: "key-way" }, seconds, create("span", { textContent: "s" }), easing);
}
