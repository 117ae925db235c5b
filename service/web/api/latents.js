// @ts-check
/** Latents that the service keeps for the page, so that every address can name them. */

/** @typedef {import("../link.js").Image} Image */

export class Latents {
  /** @type {Map<string, Promise<string>>} ids by what they stand for */
  #ids = new Map();

  /** @param {import("./client.js").Api} api */
  constructor(api) {
    this.api = api;
  }

  /** The image with the id of its latent, if that is not the one of its seed. @param {Image} image @returns {Promise<Image>} */
  async resolve({ id, ...image }) {
    const { base, mix, edits } = image.recipe ?? {};
    if (!base && !mix && !edits) return image;
    const body = JSON.stringify(bodyOf(image));
    const key = `${image.model} ${body}`;
    let stored = this.#ids.get(key);
    if (!stored) {
      stored = this.#store(image.model, JSON.parse(body));
      this.#ids.set(key, stored);
      stored.catch(() => this.#ids.delete(key));
    }
    return { ...image, id: await stored };
  }

  /** Store a file: npy, npz or safetensors. @param {string} model @param {Blob} file @returns {Promise<string>} its id */
  async upload(model, file) {
    const headers = { "Content-Type": "application/octet-stream" };
    return idOf(await this.api.send("POST", address(model), { file, headers }));
  }

  /** @param {string} model @param {object} body */
  async #store(model, body) {
    return idOf(await this.api.send("POST", address(model), { body }));
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

/** The body of POST /v1/latents. @param {Image} image */
function bodyOf({ seed, psi, classIndex, recipe = {} }) {
  const { base, mix, edits } = recipe;
  const latent = base ? { id: base } : { seed };
  const source = mix
    ? { mix: [{ latent, weight: 1 - mix.weight }, { latent: { seed: mix.seed }, weight: mix.weight }] }
    : latent;
  const given = classIndex === null ? {} : { class_index: classIndex };
  const steps = Object.entries(edits ?? {}).map(([direction, amount]) => ({ direction, amount }));
  return { ...source, ...given, truncation_psi: psi, edits: steps };
}
