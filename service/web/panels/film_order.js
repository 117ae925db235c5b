// @ts-check
/** The order of a film as a video, which a job makes. */

import { element } from "../dom.js";
import { videoOrder } from "../film/film.js";

const FPS = 30;

export class FilmOrder {
  #form = element("film-order", HTMLFormElement);
  #output = element("film-output", HTMLSelectElement);
  #side = element("film-side", HTMLSelectElement);
  #submit = element("film-submit", HTMLButtonElement);
  #refused = element("film-refused", HTMLElement);

  /** @param {import("../api/orders.js").Orders} orders @param {import("./film.js").FilmPanel} film
   * @param {() => import("../picture/view.js").Size} canvas whose aspect the video has
   * @param {(job: import("./job_card.js").Job) => void} onOrdered */
  constructor(orders, film, canvas, onOrdered) {
    this.#form.addEventListener("submit", async (event) => {
      event.preventDefault();
      this.#refused.textContent = "";
      this.#submit.disabled = true;
      try {
        const choice = { output: this.#output.value, side: Number(this.#side.value), fps: FPS };
        onOrdered(await orders.send(videoOrder(film.keys, await film.ids(), canvas(), choice)));
      } catch (error) {
        this.#refused.textContent = /** @type {Error} */ (error).message;
      } finally {
        this.#submit.disabled = false;
      }
    });
  }
}
