// @ts-check
/** Numbers as people read them. */

/** @param {number} value > 0 @returns {string} three digits, powers of ten beyond a million and below a thousandth */
export function readable(value) {
  if (value < 1e-3 || value >= 999_999.5) {
    const [digits, exponent] = value.toExponential(2).split("e");
    return `${Number(digits)}·10${superscript(Number(exponent))}`;
  }
  return Number(value.toPrecision(3)).toLocaleString("en", { maximumSignificantDigits: 3 });
}

/** @param {number} exponent */
function superscript(exponent) {
  return minus(String(exponent))
    .replace("−", "⁻")
    .replace(/\d/g, (digit) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[Number(digit)]);
}

/** @param {string} number */
export function minus(number) {
  return number.replace("-", "−");
}

/** @param {number} value */
export function grouped(value) {
  return value.toLocaleString("en");
}

/** @param {import("./picture/view.js").Size} size */
export function dimensions({ width, height }) {
  return `${grouped(width)} × ${grouped(height)}`;
}

/** @param {number} milliseconds @returns {string} as measured */
export function duration(milliseconds) {
  return milliseconds < 1000 ? `${Math.round(milliseconds)} ms` : `${(milliseconds / 1000).toFixed(1)} s`;
}

/** @param {number} seconds @returns {string} as estimated */
export function roughTime(seconds) {
  if (seconds < 90) return `${Math.max(1, Math.ceil(seconds))} s`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes} min` : `${(minutes / 60).toFixed(1)} h`;
}

/** @param {number} bytes @returns {string} as estimated */
export function roughBytes(bytes) {
  const units = ["kB", "MB", "GB", "TB"];
  const unit = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(bytes) / 3) - 1));
  return `${Number((bytes / 1000 ** (unit + 1)).toPrecision(2))} ${units[unit]}`;
}

/** @param {number} psi */
export function shownPsi(psi) {
  return minus(psi.toFixed(2));
}
