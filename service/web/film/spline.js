// @ts-check
/** Cubic splines through keys, as the service's: natural, with continuous first and second derivatives. */

/** How much of each key there is at a time: the weights' sum is 1.
 * @param {number[]} times of the keys, increasing, at least two @param {number} time from the first to the last
 * @returns {number[]} */
export function splineWeights(times, time) {
  const last = times.length - 2;
  const found = times.findLastIndex((each) => each <= time);
  const k = Math.min(Math.max(found, 0), last);
  const step = times[k + 1] - times[k];
  const b = (time - times[k]) / step;
  const a = 1 - b;
  return times.map((_, key) => {
    const bends = naturalBends(times, key);
    const straight = (key === k ? a : 0) + (key === k + 1 ? b : 0);
    return straight + (((a ** 3 - a) * bends[k] + (b ** 3 - b) * bends[k + 1]) * step ** 2) / 6;
  });
}

/** Second derivatives of the spline that is 1 at one key and 0 at the others. @param {number[]} times @param {number} key */
function naturalBends(times, key) {
  const steps = times.slice(1).map((time, k) => time - times[k]);
  const slopes = steps.map((step, k) => (Number(k + 1 === key) - Number(k === key)) / step);
  const inner = steps.length - 1;
  const diagonal = Array.from({ length: inner }, (_, k) => (steps[k] + steps[k + 1]) / 3);
  const right = Array.from({ length: inner }, (_, k) => slopes[k + 1] - slopes[k]);
  for (let k = 1; k < inner; k++) {
    const factor = steps[k] / 6 / diagonal[k - 1];
    diagonal[k] -= (factor * steps[k]) / 6;
    right[k] -= factor * right[k - 1];
  }
  const bends = Array(times.length).fill(0);
  for (let k = inner - 1; k >= 0; k--) bends[k + 1] = (right[k] - (steps[k + 1] / 6) * bends[k + 2]) / diagonal[k];
  return bends;
}
