// @ts-check
/**
 * The HTTP interface of the service, as far as the explorer needs it.
 *
 * Addresses are relative to the page, so that it also works behind a path prefix.
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {number} resolution training resolution
 * @property {number | null} classes how many classes; 0 or null for a network without
 *
 * @typedef {{ name: string, milliseconds: number }} Timing one entry of Server-Timing
 *
 * @typedef {object} Reply
 * @property {Blob} blob the encoded picture
 * @property {Timing[]} timings
 * @property {number} milliseconds what the picture took: waited for here, or spent by the server if that is more (the
 *     reply may come from the browser's cache)
 */

import { regionOf } from "./view.js";

const KEY_STORAGE = "creps-api-key";
const DEFAULT_RETRY_SECONDS = 2;

/** An answer other than success. `message` is fit to be read. */
export class Problem extends Error {
  /** @param {number} status HTTP status, 0 where there was no answer @param {string} message
   *  @param {number | null} [retryAfter] seconds after which the same request may succeed */
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The address of the picture that a canvas of this size shows.
 * @param {import("./link.js").State} state
 * @param {import("./view.js").Size} canvas its aspect shapes the region
 * @param {import("./view.js").Size} size of the picture in pixels
 * @param {"png" | "jpeg"} format
 * @param {number} [quality] 1 … 100, for jpeg */
export function imagePath({ picture, view }, canvas, size, format, quality) {
  const query = new URLSearchParams({
    width: String(size.width),
    height: String(size.height),
    psi: String(picture.psi),
    region: regionOf(view, canvas).join(","),
  });
  if (picture.classIndex !== null) query.set("class", String(picture.classIndex));
  if (quality !== undefined) query.set("quality", String(quality));
  return `v1/images/${encodeURIComponent(picture.model)}/${picture.seed}.${format}?${query}`;
}

/** How IIIF names a picture that is drawn live. @param {import("./link.js").Picture} picture */
export function liveIdentifier({ model, seed, psi, classIndex }) {
  const ofClass = classIndex === null ? "" : `:class=${classIndex}`;
  return `${encodeURIComponent(model)}:${seed}:psi=${psi}${ofClass}`;
}

/** The address under which viewers of the IIIF Image API open a picture.
 * @param {string} identifier of a live picture, or job:ID */
export function iiifAddress(identifier) {
  return new URL(`iiif/3/${identifier}/info.json`, location.href).href;
}

/** The client: waits and tries again where the service asks for it, and asks the user for a key where it needs one. */
export class Api {
  /** @type {Promise<string | null> | null} */
  #asking = null;

  /**
   * @param {object} user
   * @param {(refused: boolean) => Promise<string | null>} user.askKey asks for an API key; null if the user declines
   * @param {(message: string) => void} user.tellWaiting says why nothing happens for a while
   */
  constructor({ askKey, tellWaiting }) {
    this.askKey = askKey;
    this.tellWaiting = tellWaiting;
  }

  /** @param {AbortSignal} [signal] @returns {Promise<Model[]>} */
  async models(signal) {
    const response = await this.#get("v1/models", signal);
    return (await response.json()).models;
  }

  /** @param {string} path see {@link imagePath} @param {AbortSignal} [signal] @returns {Promise<Reply>} */
  async image(path, signal) {
    let started = performance.now();
    const response = await this.#get(path, signal, () => (started = performance.now()));
    const blob = await response.blob();
    const timings = parseTimings(response.headers.get("Server-Timing") ?? "");
    const spent = timings.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    return { blob, timings, milliseconds: Math.max(performance.now() - started, spent) };
  }

  /** Whether requests need what a link cannot send. */
  get hasKey() {
    return sessionStorage.getItem(KEY_STORAGE) !== null;
  }

  /** Whether the service has a worker that can draw. */
  async ready() {
    try {
      return (await fetch("readyz", { cache: "no-store" })).ok;
    } catch {
      return false;
    }
  }

  /** Asks once, after the user for a key where one is needed.
   * @param {string} method @param {string} path
   * @param {{ body?: object, headers?: Record<string, string>, signal?: AbortSignal }} [options] body: sent as JSON */
  async send(method, path, { body, headers = {}, signal } = {}) {
    /** @type {Record<string, string>} */
    const json = body === undefined ? {} : { "Content-Type": "application/json" };
    const request = { method, signal, headers: { ...json, ...headers }, body: body && JSON.stringify(body) };
    for (;;) {
      try {
        return await this.#attempt(path, request);
      } catch (error) {
        if (!(error instanceof Problem) || (error.status !== 401 && error.status !== 403)) throw error;
        await this.#renewKey(error);
      }
    }
  }

  /** GET until it succeeds or fails for good.
   * @param {string} path @param {AbortSignal} [signal] @param {() => void} [beforeTry] */
  async #get(path, signal, beforeTry = () => {}) {
    for (;;) {
      beforeTry();
      try {
        return await this.#attempt(path, { signal });
      } catch (error) {
        if (!(error instanceof Problem)) throw error;
        if (error.status === 401 || error.status === 403) await this.#renewKey(error);
        else if (error.retryAfter !== null) await this.#wait(error, error.retryAfter, signal);
        else throw error;
      }
    }
  }

  /** @param {string} path @param {RequestInit & { headers?: Record<string, string> }} request */
  async #attempt(path, request) {
    const key = sessionStorage.getItem(KEY_STORAGE);
    /** @type {Response} */
    let response;
    try {
      const headers = { ...request.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
      response = await fetch(path, { ...request, headers });
    } catch (error) {
      if (request.signal?.aborted) throw error;
      throw new Problem(0, "The server cannot be reached.", DEFAULT_RETRY_SECONDS);
    }
    if (!response.ok) throw await problemOf(response);
    return response;
  }

  /** @param {Problem} problem @param {number} seconds @param {AbortSignal} [signal] */
  async #wait(problem, seconds, signal) {
    const waiting = problem.status === 503 && !(await this.ready());
    this.tellWaiting(
      waiting ? "Waiting for a worker …" : `${problem.message} Trying again in ${Math.ceil(seconds)} s …`,
    );
    await sleep(seconds * 1000, signal);
  }

  /** One question for all the requests that were refused. @param {Problem} problem */
  async #renewKey(problem) {
    const refused = sessionStorage.getItem(KEY_STORAGE) !== null;
    this.#asking ??= this.askKey(refused).finally(() => (this.#asking = null));
    const key = await this.#asking;
    if (!key) throw new Problem(problem.status, problem.message);
    sessionStorage.setItem(KEY_STORAGE, key);
  }
}

/** @param {number} milliseconds @param {AbortSignal} [signal] @returns {Promise<void>} */
export function sleep(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    const cancel = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    if (signal?.aborted) cancel();
    signal?.addEventListener("abort", cancel, { once: true });
  });
}

/** Reads RFC 9457 problem details; other bodies are not for reading. @param {Response} response */
async function problemOf(response) {
  const { status, headers } = response;
  const isProblem = headers.get("Content-Type")?.startsWith("application/problem+json");
  const { title, detail } = isProblem ? await response.json().catch(() => ({})) : { title: "", detail: "" };
  const text = detail || title || `The server answered ${status} ${response.statusText}`.trim();
  const retry = status === 429 || status === 503 ? retrySeconds(headers.get("Retry-After")) : null;
  return new Problem(status, sentence(text), retry);
}

/** @param {string} text */
function sentence(text) {
  return text[0].toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");
}

/** @param {string | null} value seconds; the other form of Retry-After, a date, is read as the default */
function retrySeconds(value) {
  const seconds = Number(value ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? Math.max(seconds, 0.2) : DEFAULT_RETRY_SECONDS;
}

/** @param {string} header for instance "queue;dur=1.5, render;dur=20" @returns {Timing[]} */
export function parseTimings(header) {
  return header.split(",").flatMap((entry) => {
    const [name, ...parameters] = entry.split(";").map((part) => part.trim());
    const duration = parameters.find((parameter) => parameter.startsWith("dur="));
    const milliseconds = Number(duration?.slice("dur=".length) ?? NaN);
    return name && Number.isFinite(milliseconds) ? [{ name, milliseconds }] : [];
  });
}
