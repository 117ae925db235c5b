// @ts-check
/**
 * Favourites and recent pictures, kept in the browser and the same in all its tabs.
 *
 * @typedef {import("../link.js").Image} Image
 * @typedef {{ image: Image, thumbnail: string }} Entry thumbnail: a data: URL
 * @typedef {{ favourites: Entry[], recent: Entry[] }} Stored
 */

const KEY = "creps-pictures";
const RECENT = 60;
const FAVOURITES = 200;

export class Pictures {
  /** @param {() => void} onChange also in another tab */
  constructor(onChange) {
    this.onChange = onChange;
    window.addEventListener("storage", ({ key }) => key === KEY && onChange());
  }

  get favourites() {
    return this.#load().favourites;
  }

  get recent() {
    return this.#load().recent;
  }

  /** @param {Image} image */
  isFavourite(image) {
    return this.favourites.some((entry) => isSame(entry.image, image));
  }

  /** @param {Entry} entry that is shown */
  visit(entry) {
    this.#change((stored) => ({ ...stored, recent: [entry, ...others(stored.recent, entry)].slice(0, RECENT) }));
  }

  /** Make a picture a favourite, or no longer. @param {Entry} entry */
  toggle(entry) {
    const add = !this.isFavourite(entry.image);
    this.#change((stored) => {
      const rest = others(stored.favourites, entry);
      return { ...stored, favourites: add ? [entry, ...rest].slice(0, FAVOURITES) : rest };
    });
  }

  clearRecent() {
    this.#change((stored) => ({ ...stored, recent: [] }));
  }

  /** @param {(stored: Stored) => Stored} change */
  #change(change) {
    try {
      localStorage.setItem(KEY, JSON.stringify(change(this.#load())));
    } catch {
      // The browser's storage is full or not allowed: the gallery stays as it is.
    }
    this.onChange();
  }

  /** @returns {Stored} */
  #load() {
    try {
      const { favourites, recent } = JSON.parse(localStorage.getItem(KEY) ?? "{}");
      return { favourites: favourites ?? [], recent: recent ?? [] };
    } catch {
      return { favourites: [], recent: [] };
    }
  }
}

/** @param {Image} a @param {Image} b */
export function isSame(a, b) {
  return (
    a.model === b.model &&
    a.seed === b.seed &&
    a.psi === b.psi &&
    a.classIndex === b.classIndex &&
    JSON.stringify([a.recipe, a.shape]) === JSON.stringify([b.recipe, b.shape])
  );
}

/** @param {Entry[]} entries @param {Entry} entry */
function others(entries, entry) {
  return entries.filter(({ image }) => !isSame(image, entry.image));
}
