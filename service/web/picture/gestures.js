// @ts-check
/**
 * Mouse, touch and keyboard input.
 *
 * @typedef {import("./view.js").Point} Point in canvas pixels
 *
 * @typedef {object} Movements
 * @property {(held: boolean) => void} hold a pointer holds the picture, or no longer
 * @property {(by: Point) => void} pan immediately, as the pointer moves
 * @property {(anchor: Point, factor: number) => void} zoom immediately, as the wheel turns or the fingers spread
 * @property {(anchor: Point, factor: number) => void} glideZoom one step, animated
 * @property {(anchor: Point, degrees: number) => void} turn immediately, as two fingers turn clockwise
 */

const CLICK_FACTOR = 2;
/** Of the logarithm of the magnification, for a CSS pixel of scrolling: a notch of 100 pixels is two scales. */
const WHEEL_RATE = Math.LN2 / 400;
const PINCH_RATE = 0.01; // the same for a trackpad's pinch, which browsers report as a wheel with the control key
const LINE_PIXELS = 16;
const PAGE_PIXELS = 400;
const MAX_WHEEL_STEP = Math.log(2);
const TURN_SLACK = 10; // degrees by which fingers turn that only spread

/** @param {HTMLCanvasElement} canvas @param {Movements} movements */
export function listenToPointers(canvas, movements) {
  /** @type {Map<number, Point>} */
  const pointers = new Map();
  let slack = TURN_SLACK;

  canvas.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    canvas.setPointerCapture(event.pointerId);
    pointers.set(event.pointerId, canvasPoint(canvas, event));
    slack = TURN_SLACK;
    canvas.classList.add("dragging");
    movements.hold(true);
  });

  canvas.addEventListener("pointermove", (event) => {
    if (!pointers.has(event.pointerId)) return;
    const before = gather(pointers);
    pointers.set(event.pointerId, canvasPoint(canvas, event));
    const after = gather(pointers);
    movements.pan({ x: after.centre.x - before.centre.x, y: after.centre.y - before.centre.y });
    if (before.spread > 0 && after.spread > 0) movements.zoom(after.centre, after.spread / before.spread);
    const degrees = ((after.angle - before.angle + 540) % 360) - 180;
    slack -= Math.abs(degrees);
    if (slack < 0 && degrees !== 0) movements.turn(after.centre, degrees);
  });

  for (const end of /** @type {const} */ (["pointerup", "pointercancel", "lostpointercapture"])) {
    canvas.addEventListener(end, (event) => {
      if (!pointers.delete(event.pointerId) || pointers.size > 0) return;
      canvas.classList.remove("dragging");
      movements.hold(false);
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

/** Call the action of a key, unless the focus is in a field or a dialog that needs it.
 * @param {Record<string, () => void>} actions by KeyboardEvent.key, letters in lower case; "Control+z" also for ⌘ */
export function listenToKeys(actions) {
  window.addEventListener("keydown", (event) => {
    if (event.altKey || isForField(event)) return;
    const isCommand = event.ctrlKey || event.metaKey;
    const letter = event.key.length === 1 && !isCommand ? event.key.toLowerCase() : event.key;
    const action = actions[isCommand ? `Control+${letter}` : letter];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

const SLIDER_KEYS = /^(Arrow|Home|End|Page)/;
const NUMBER_KEYS = /^([-+.,0-9eE]|Arrow.*|Home|End|Page.*|Backspace|Delete|Enter|Tab)$/;

/** @param {KeyboardEvent} event */
function isForField({ target, key }) {
  if (!(target instanceof Element)) return false;
  if (target.closest("dialog")) return true;
  if (target.matches("input[type=range]")) return SLIDER_KEYS.test(key);
  if (target.matches("input[type=number]")) return NUMBER_KEYS.test(key);
  return target.matches("input:not([type=checkbox]), select, textarea");
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

/** Centre of the pointers, their mean distance from it, and the direction from one to the other, if they are two, in
 * degrees clockwise. @param {Map<number, Point>} pointers at least one */
function gather(pointers) {
  const points = [...pointers.values()];
  const mean = (/** @type {number[]} */ values) => values.reduce((sum, value) => sum + value, 0) / values.length;
  const centre = { x: mean(points.map(({ x }) => x)), y: mean(points.map(({ y }) => y)) };
  const spread = mean(points.map(({ x, y }) => Math.hypot(x - centre.x, y - centre.y)));
  const [first, second] = points;
  const angle = points.length === 2 ? (Math.atan2(second.y - first.y, second.x - first.x) * 180) / Math.PI : 0;
  return { centre, spread, angle };
}
