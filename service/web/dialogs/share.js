// @ts-check
/** The dialog with links to what is shown, and ways to draw it elsewhere. */

import { absolute, iiifAddress, imagePath } from "../api/addresses.js";
import { button, create, element, onClick } from "../dom.js";
import { copyText } from "../files.js";
import { writeLink } from "../link.js";
import { regionOf, withLongSide } from "../picture/view.js";
import { shapeFields } from "../shape.js";

const LONG_SIDE = 1024;

/** @typedef {{ id: string, label: string, text: string, about: string }} Way */

export class ShareDialog {
  #dialog = element("share-dialog", HTMLDialogElement);
  #list = element("share-list", HTMLElement);

  /** @param {import("../api/client.js").Api} api */
  constructor(api) {
    this.api = api;
    onClick("share-close", () => this.#dialog.close());
  }

  /** @param {import("../link.js").State} state @param {import("../picture/view.js").Size} canvas */
  open(state, canvas) {
    this.#list.replaceChildren(...ways(state, canvas, this.api.hasKey).map(row));
    element("share-ends", HTMLElement).hidden = !state.image.id; // the other addresses have the latent's id
    this.#dialog.showModal();
    this.#list.querySelector("button")?.focus();
  }
}

/** @param {Way} way @returns {HTMLElement} */
function row({ id, label, text, about }) {
  const field = create("textarea", { id: `share-${id}`, readOnly: true, value: text, rows: text.split("\n").length });
  field.wrap = "off";
  field.addEventListener("focus", () => field.select());
  const copy = button("Copy", (pressed) => copyText(pressed, text, field));
  copy.setAttribute("aria-label", `Copy: ${label}`);
  const head = create("div", { className: "field-head" });
  head.append(create("label", { htmlFor: field.id, textContent: label }));
  head.append(create("span", { className: "muted", textContent: about }));
  const body = create("div", { className: "copy-row" }, field, copy);
  return create("div", { className: "field" }, head, body);
}

/** @param {import("../link.js").State} state @param {import("../picture/view.js").Size} canvas @param {boolean} needsKey
 * @returns {Way[]} */
function ways(state, canvas, needsKey) {
  const { image, view, job } = state;
  const link = { id: "link", label: "Link", text: absolute(writeLink(state)), about: "to this page as it is" };
  const iiif = { id: "iiif", label: "IIIF", text: iiifAddress(image, job?.id ?? null), about: "for deep-zoom viewers" };
  if (job) return [link, iiif];
  const size = view ? withLongSide(canvas, LONG_SIDE) : { width: LONG_SIDE, height: LONG_SIDE };
  const region = view ? regionOf(view, canvas) : null;
  const address = absolute(imagePath(image, region, size, "png"));
  const name = `${image.model}-${image.id ?? `seed${image.seed}`}.png`;
  const curlKey = needsKey ? ' \\\n  -H "Authorization: Bearer $CREPS_KEY"' : "";
  const python = needsKey
    ? `import os, httpx\nkey = {"Authorization": f"Bearer {os.environ['CREPS_KEY']}"}\nimage = httpx.get("${address}", headers=key)\nopen("${name}", "wb").write(image.raise_for_status().content)`
    : `import httpx\nimage = httpx.get("${address}", timeout=60)\nopen("${name}", "wb").write(image.raise_for_status().content)`;
  const headers = needsKey ? ", { headers: { Authorization: `Bearer ${key}` } }" : "";
  const javascript = `const response = await fetch("${address}"${headers});\nif (!response.ok) throw new Error((await response.json()).detail);\nconst image = await response.blob();`;
  const embed = `<img src="${address.replaceAll("&", "&amp;")}"\n     width="${size.width}" height="${size.height}" alt="">`;
  const page = { id: "embed", label: "HTML", text: embed, about: "in a page of yours" };
  return [
    link,
    { id: "curl", label: "curl", text: `curl -o ${name} '${address}'${curlKey}`, about: "in a shell" },
    { id: "python", label: "Python", text: python, about: "with httpx" },
    { id: "javascript", label: "JavaScript", text: javascript, about: "in Node, or pages of CREPS_CORS_ORIGINS" },
    ...(needsKey ? [] : [page]),
    ...(shapeFields(image.shape).transform ? [] : [iiif]), // whose addresses have no transforms
  ];
}
