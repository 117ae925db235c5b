// @ts-check
/**
 * Which pixels of a rectangle are still missing.
 *
 * @typedef {import("./grid.js").Rect} Rect
 */

const MERGED_SHARE = 1.5;
const SLACK = 0.01; // of a pixel: rectangles of other scales are not whole

/** The parts of a rectangle that no other one covers. @param {Rect} rect @param {Rect[]} others @returns {Rect[]} */
export function uncovered(rect, others) {
  const parts = rect.width > SLACK && rect.height > SLACK ? [rect] : [];
  return others.reduce((left, other) => left.flatMap((part) => minus(part, other)), parts);
}

/** @param {Rect} a @param {Rect} b */
export function intersect(a, b) {
  return (
    Math.min(a.x + a.width, b.x + b.width) - Math.max(a.x, b.x) > SLACK &&
    Math.min(a.y + a.height, b.y + b.height) - Math.max(a.y, b.y) > SLACK
  );
}

/** The pixels of both. @param {Rect} a @param {Rect} b @returns {Rect} */
export function intersection(a, b) {
  const [x, y] = [Math.max(a.x, b.x), Math.max(a.y, b.y)];
  const [right, bottom] = [Math.min(a.x + a.width, b.x + b.width), Math.min(a.y + a.height, b.y + b.height)];
  return { x, y, width: Math.max(0, right - x), height: Math.max(0, bottom - y) };
}

/** The smallest rectangle around these. @param {Rect[]} rects at least one @returns {Rect} */
export function bounding(rects) {
  const x = Math.min(...rects.map((rect) => rect.x));
  const y = Math.min(...rects.map((rect) => rect.y));
  const right = Math.max(...rects.map((rect) => rect.x + rect.width));
  const bottom = Math.max(...rects.map((rect) => rect.y + rect.height));
  return { x, y, width: right - x, height: bottom - y };
}

/** Fewer rectangles around these: two become one where that adds little. @param {Rect[]} rects @returns {Rect[]} */
export function merge(rects) {
  for (const a of rects) {
    for (const b of rects) {
      const both = bounding([a, b]);
      if (a !== b && area([both]) <= MERGED_SHARE * area([a, b])) {
        return merge([...rects.filter((rect) => rect !== a && rect !== b), both]);
      }
    }
  }
  return rects;
}

/** @param {Rect[]} rects */
export function area(rects) {
  return rects.reduce((sum, { width, height }) => sum + width * height, 0);
}

/** @param {Rect} rect @param {Rect} hole @returns {Rect[]} */
function minus(rect, hole) {
  if (!intersect(rect, hole)) return [rect];
  const inner = intersection(rect, hole);
  const [right, bottom] = [rect.x + rect.width, rect.y + rect.height];
  const [innerRight, innerBottom] = [inner.x + inner.width, inner.y + inner.height];
  return [
    { ...rect, height: inner.y - rect.y },
    { ...rect, y: innerBottom, height: bottom - innerBottom },
    { x: rect.x, y: inner.y, width: inner.x - rect.x, height: inner.height },
    { x: innerRight, y: inner.y, width: right - innerRight, height: inner.height },
  ].filter(({ width, height }) => width > SLACK && height > SLACK);
}
