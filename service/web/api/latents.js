// @ts-check
/** Latents that the service keeps for the page, so that every address can name them. */

import { shapeFields } from "../shape.js";

/** @typedef {import("../link.js").Image} Image */

export class Latents {
  /** @type {Map<string, Promise<string>>} ids by what they stand for */
  #ids = new Map();

  /** @param {import("./client.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /** The image with the id of its latent, if that is not the one of its seed. @param {Image} image @returns {Promise<Image>} */
  async resolve({ id: _, ...image }) {
    const { base, mix, edits } = image.recipe ?? {};
    if (!base && !mix && !edits) return image;
    return { ...image, id: await this.store(image) };
  }

  /** Store the latent of an image. @param {Image} image @returns {Promise<string>} its id */
  store(image) {
    const body = latentOf(image);
    const key = `${image.model} ${JSON.stringify(body)}`;
    let stored = this.#ids.get(key);
    if (!stored) {
      stored = this.api.send("POST", address(image.model), { body }).then(idOf);
      this.#ids.set(key, stored);
      stored.catch(() => this.#ids.delete(key));
    }
    return stored;
  }

  /** Store a file: npy, npz or safetensors. @param {string} model @param {Blob} file @returns {Promise<string>} its id */
  async upload(model, file) {
    const headers = { "Content-Type": "application/octet-stream" };
    return idOf(await this.api.send("POST", address(model), { file, headers }));
  }
}

/** @param {string} model */
function address(model) {
  return `v1/latents?model=${encodeURIComponent(model)}`;
}

/** @param {Response} response @returns {Promise<string>} */
async function idOf(response) {
  return (await response.json()).id;
}

/** What an image is made from: the body of POST /v1/latents. @param {Image} image */
export function latentOf({ seed, psi, classIndex, recipe = {} }) {
  const { base, mix, edits } = recipe;
  const own = base ? { id: base } : { seed };
  const mixed = mix && {
    mix: [{ latent: own, weight: 1 - mix.weight }, { latent: { seed: mix.seed }, weight: mix.weight }],
  };
  return {
    ...(mixed && !mix.layers ? mixed : own),
    ...(mixed && mix.layers ? { styles: [{ layers: mix.layers, latent: mixed }] } : {}),
    ...(classIndex === null ? {} : { class_index: classIndex }),
    truncation_psi: psi,
    edits: Object.entries(edits ?? {}).map(([direction, amount]) => ({ direction, amount })),
  };
}

/** The same as fields of POST /v1/images. @param {Image} image */
export function sourceOf(image) {
  const { seed, id, mix, ...fields } = /** @type {Record<string, unknown>} */ (latentOf(image));
  const latent = id ? { id } : mix ? { mix } : { seed };
  return { model: image.model, latent, ...fields, ...shapeFields(image.shape) };
}
