// @ts-check
/** Text for people. */

/** A part of a sentence as a whole one. @param {string} text */
export function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}
