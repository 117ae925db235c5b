// @ts-check
/**
 * Mouse, touch and keyboard: what moves the view.
 *
 * @typedef {import("./view.js").Point} Point in canvas pixels
 *
 * @typedef {object} Movements
 * @property {(by: Point) => void} pan at once, as the pointer moves
 * @property {(anchor: Point, factor: number) => void} zoom at once, as the wheel turns or the fingers spread
 * @property {(anchor: Point, factor: number) => void} glideZoom one step, animated
 */

const CLICK_FACTOR = 2;
const WHEEL_RATE = 0.002; // of the logarithm of the magnification, per CSS pixel of scrolling
const PINCH_RATE = 0.01; // the same for a trackpad's pinch, which browsers report as a wheel with the control key
const LINE_PIXELS = 16;
const PAGE_PIXELS = 400;
const MAX_WHEEL_STEP = Math.log(2);

/** @param {HTMLCanvasElement} canvas @param {Movements} movements */
export function listenToPointers(canvas, movements) {
  /** @type {Map<number, Point>} */
  const pointers = new Map();

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, canvasPoint(canvas, event));
    canvas.classList.add("dragging");
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = gather(pointers);
    pointers.set(event.pointerId, canvasPoint(canvas, event));
    const after = gather(pointers);
    movements.pan({ x: after.centre.x - before.centre.x, y: after.centre.y - before.centre.y });
    if (before.spread > 0 && after.spread > 0) movements.zoom(after.centre, after.spread / before.spread);
  });

  for (const end of /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"])) {
    canvas.addEventListener(end, (event) => {
      pointers.delete(event.pointerId);
      if (pointers.size === 0) canvas.classList.remove("dragging");
    });
  }

  canvas.addEventListener(
    "wheel",
    (event) => {
      event.preventDefault();
      movements.zoom(canvasPoint(canvas, event), wheelFactor(event));
    },
    { passive: false },
  );

  canvas.addEventListener("dblclick", (event) => {
    movements.glideZoom(canvasPoint(canvas, event), event.shiftKey ? 1 / CLICK_FACTOR : CLICK_FACTOR);
  });
}

/** Calls the action of a key, wherever the focus is, but not while it types into a field or answers a dialog.
 * @param {Record<string, () => void>} actions by KeyboardEvent.key, letters in lower case */
export function listenToKeys(actions) {
  window.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || isForField(event)) return;
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

/** @param {KeyboardEvent} event */
function isForField({ target }) {
  return target instanceof Element && target.closest("input, select, textarea, dialog") !== null;
}

/** @param {WheelEvent} event @returns {number} > 1 zooms in */
function wheelFactor({ deltaY, deltaMode, ctrlKey }) {
  const unit = [1, LINE_PIXELS, PAGE_PIXELS][deltaMode];
  const step = -deltaY * unit * (ctrlKey ? PINCH_RATE : WHEEL_RATE);
  return Math.exp(Math.min(Math.max(step, -MAX_WHEEL_STEP), MAX_WHEEL_STEP));
}

/** @param {HTMLCanvasElement} canvas @param {MouseEvent} event @returns {Point} */
function canvasPoint(canvas, event) {
  const box = canvas.getBoundingClientRect();
  return {
    x: ((event.clientX - box.left) * canvas.width) / box.width,
    y: ((event.clientY - box.top) * canvas.height) / box.height,
  };
}

/** Centre of the pointers and their mean distance from it. @param {Map<number, Point>} pointers at least one */
function gather(pointers) {
  const points = [...pointers.values()];
  const mean = (/** @type {number[]} */ values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const centre = { x: mean(points.map(({ x }) => x)), y: mean(points.map(({ y }) => y)) };
  return { centre, spread: mean(points.map(({ x, y }) => Math.hypot(x - centre.x, y - centre.y))) };
}
