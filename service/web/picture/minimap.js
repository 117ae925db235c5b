// @ts-check
/** A small picture of the whole, which shows where a magnified view lies and moves it. */

import { element } from "../dom.js";
import { paint } from "./stage.js";
import { clamp, fit, placement, planePoint, regionOf } from "./view.js";

const MAGNIFIED = 1.5;

export class Minimap {
  #element = element("minimap", HTMLElement);
  #canvas = element("minimap-canvas", HTMLCanvasElement);
  #mark = element("minimap-mark", HTMLElement);

  /** @param {(point: import("./view.js").Point) => void} onMove where the middle of the view is to be */
  constructor(onMove) {
    const move = (/** @type {PointerEvent} */ event) => {
      const box = this.#canvas.getBoundingClientRect();
      const point = { x: event.clientX - box.left, y: event.clientY - box.top };
      onMove(planePoint(this.#view, box, point));
    };
    this.#canvas.addEventListener("pointerdown", (event) => {
      this.#canvas.setPointerCapture(event.pointerId);
      move(event);
    });
    this.#canvas.addEventListener("pointermove", (event) => {
      if (this.#canvas.hasPointerCapture(event.pointerId)) move(event);
    });
  }

  #view = fit([0, 0, 1, 1], { width: 1, height: 1 });

  /** @param {import("./layers.js").Layers} layers @param {import("./sources.js").Source} source
   * @param {import("./view.js").View} view @param {import("./view.js").Size} size of the canvas that shows it */
  show(layers, source, view, size) {
    this.#element.hidden = fit(source.frame, size).extent / view.extent < MAGNIFIED;
    if (this.#element.hidden) return;
    const box = { width: this.#canvas.clientWidth, height: this.#canvas.clientHeight };
    this.#canvas.width = box.width * devicePixelRatio;
    this.#canvas.height = box.height * devicePixelRatio;
    this.#view = fit(source.frame, box);
    const context = /** @type {CanvasRenderingContext2D} */ (this.#canvas.getContext("2d"));
    if (layers.source === source.key) paint(context, layers, this.#view, this.#canvas);
    const { left, top, width, height } = placement(regionOf(view, size), this.#view, box);
    const [x, y] = [clamp(left, 0, box.width - 4), clamp(top, 0, box.height - 4)];
    Object.assign(this.#mark.style, {
      left: `${x}px`,
      top: `${y}px`,
      width: `${clamp(width, 4, box.width - x)}px`,
      height: `${clamp(height, 4, box.height - y)}px`,
    });
  }
}
