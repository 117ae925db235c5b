// @ts-check
/**
 * A client of the service's HTTP API.
 *
 * @typedef {object} Model
 * @property {string} name
 * @property {string} digest
 * @property {number} resolution training resolution
 * @property {number} max_scale of the finest detail, relative to that
 * @property {number | null} classes number of classes; 0 or null for an unconditional network
 * @property {string[]} [class_names] of the first classes
 * @property {number} styles
 *
 * @typedef {{ name: string, label?: string | null, layers: number[], effect: number, luma: number, chroma: number }} Direction
 *
 * @typedef {object} Limits of the service
 * @property {number} max_image_pixels @property {number} max_image_positions rows and columns
 * @property {number} max_job_pixels @property {number} max_side
 * @property {Record<string, number>} max_sides by format
 * @property {number} request_timeout seconds until an image must be ready
 *
 * @typedef {{ name: string, milliseconds: number }} Timing one entry of Server-Timing
 *
 * @typedef {object} Reply
 * @property {Blob} blob the encoded image
 * @property {Timing[]} timings
 * @property {boolean} cached whether the service had drawn it before
 * @property {number} milliseconds latency of the image, or the time spent by the server if that is longer (the reply
 *     may come from the browser's cache)
 */

import { sentence } from "../text.js";

const KEY_STORAGE = "creps-api-key";
const DEFAULT_RETRY_SECONDS = 2;

/** An unsuccessful response. `message` is shown to the user. */
export class Problem extends Error {
  /** @param {number} status HTTP status, 0 without a response @param {string} message
   *  @param {number | null} [retryAfter] seconds after which the same request may succeed */
  constructor(status, message, retryAfter = null) {
    super(message);
    this.status = status;
    this.retryAfter = retryAfter;
  }
}

/** The client. Retries when the service asks for it, and asks the user for an API key when one is needed. */
export class Api {
  /** @type {Promise<string | null> | null} */
  #asking = null;

  /**
   * @param {object} user
   * @param {(refused: boolean) => Promise<string | null>} user.askKey asks the user for an API key; null if the user declines
   * @param {(message: string) => void} user.tellWaiting shows why a request is waiting; empty: it no longer is
   */
  constructor(user) {
    this.user = user;
  }

  /** @param {AbortSignal} [signal] @returns {Promise<Model[]>} */
  async models(signal) {
    const response = await this.#get("v1/models", signal);
    return (await response.json()).models;
  }

  /** @param {string} model @param {AbortSignal} signal @returns {Promise<Direction[]>} the strongest first */
  async directions(model, signal) {
    const path = `v1/models/${encodeURIComponent(model)}/directions`;
    const response = await this.#retry("GET", path, { signal, quiet: true }); // the panel says why it waits
    return (await response.json()).directions;
  }

  /** @returns {Promise<Limits>} */
  async limits() {
    return (await this.#get("v1/limits")).json();
  }

  /** @param {string} path see addresses.js @param {AbortSignal} [signal] @returns {Promise<Reply>} */
  async image(path, signal) {
    let started = performance.now();
    const response = await this.#get(path, signal, () => (started = performance.now()));
    return this.#reply(response, started);
  }

  /** An image that may never be needed: asked for once, behind all other requests.
   * @param {string} path @param {AbortSignal} signal @returns {Promise<Reply>} */
  async prefetch(path, signal) {
    const started = performance.now();
    return this.#reply(await this.#attempt(path, { method: "GET", priority: "low", signal }), started);
  }

  /** An image that has no address. @param {object} body of POST /v1/images @param {AbortSignal} signal @returns {Promise<Blob>} */
  async draw(body, signal) {
    return (await this.#retry("POST", "v1/images", { body, signal })).blob();
  }

  /** @param {Response} response @param {number} started @returns {Promise<Reply>} */
  async #reply(response, started) {
    const blob = await response.blob();
    const header = response.headers.get("Server-Timing") ?? "";
    const timings = parseTimings(header);
    const spent = timings.reduce((sum, { milliseconds }) => sum + milliseconds, 0);
    return { blob, timings, cached: /\bcache\b/.test(header), milliseconds: Math.max(performance.now() - started, spent) };
  }

  /** Whether requests need an API key, which a link cannot send. */
  get hasKey() {
    return sessionStorage.getItem(KEY_STORAGE) !== null;
  }

  /** Ask the user for an API key now, also if one is set. @returns {Promise<boolean>} whether one was given */
  async changeKey() {
    const key = await this.user.askKey(false);
    if (key) sessionStorage.setItem(KEY_STORAGE, key);
    return Boolean(key);
  }

  /** Whether the service has a worker. Proxies may hide this address: then requests for images tell. */
  async ready() {
    try {
      return (await fetch("readyz", { cache: "no-store" })).status !== 503;
    } catch {
      return false;
    }
  }

  /** Send a request once, or again with a new API key if one is needed.
   * @param {string} method @param {string} path
   * @param {{ body?: object, file?: Blob, headers?: Record<string, string>, signal?: AbortSignal }} [options] body: sent as
   *     JSON; file: sent as it is
   * @param {() => void} [beforeTry] */
  async send(method, path, { body, file, headers = {}, signal } = {}, beforeTry = () => {}) {
    /** @type {Record<string, string>} */
    const json = body === undefined ? {} : { "Content-Type": "application/json" };
    const request = { method, signal, headers: { ...json, ...headers }, body: file ?? (body && JSON.stringify(body)) };
    for (;;) {
      beforeTry();
      const key = sessionStorage.getItem(KEY_STORAGE);
      try {
        return await this.#attempt(path, request);
      } catch (error) {
        if (!(error instanceof Problem) || (error.status !== 401 && error.status !== 403)) throw error;
        if (key === sessionStorage.getItem(KEY_STORAGE)) await this.#renewKey(error); // else another request has
      }
    }
  }

  /** @param {string} path @param {AbortSignal} [signal] @param {() => void} [beforeTry] */
  #get(path, signal, beforeTry) {
    return this.#retry("GET", path, { signal }, beforeTry);
  }

  /** Send again when the service says so. @param {string} method @param {string} path
   * @param {{ body?: object, signal?: AbortSignal, quiet?: boolean }} options quiet: tell nobody
   * @param {() => void} [beforeTry] */
  async #retry(method, path, { quiet = false, ...options }, beforeTry) {
    let told = false;
    for (;;) {
      try {
        const response = await this.send(method, path, options, beforeTry);
        if (told) this.user.tellWaiting("");
        return response;
      } catch (error) {
        if (!(error instanceof Problem) || error.retryAfter === null) throw error;
        if (!quiet) await this.#explain(error, error.retryAfter);
        told = !quiet;
        await sleep(1000 * error.retryAfter, options.signal);
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

  /** @param {Problem} problem @param {number} seconds */
  async #explain(problem, seconds) {
    const waiting = problem.status === 503 && !(await this.ready());
    this.user.tellWaiting(
      waiting ? "Waiting for a worker …" : `${problem.message} Trying again in ${Math.ceil(seconds)} s …`,
    );
  }

  /** One question for all the requests that were refused. @param {Problem} problem */
  async #renewKey(problem) {
    const refused = sessionStorage.getItem(KEY_STORAGE) !== null;
    this.#asking ??= this.user.askKey(refused).finally(() => (this.#asking = null));
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

/** Reads RFC 9457 problem details; other bodies are ignored. @param {Response} response */
async function problemOf(response) {
  const { status, headers } = response;
  const isProblem = headers.get("Content-Type")?.startsWith("application/problem+json");
  const { title, detail } = isProblem ? await response.json().catch(() => ({})) : { title: "", detail: "" };
  const text = detail || title || `The server answered ${status} ${response.statusText}`.trim();
  const retry = status === 429 || status === 503 ? retrySeconds(headers.get("Retry-After")) : null;
  return new Problem(status, sentence(text), retry);
}

/** @param {string | null} value seconds; the other form of Retry-After, a date, is read as the default */
function retrySeconds(value) {
  const seconds = Number(value ?? NaN);
  return Number.isFinite(seconds) && seconds >= 0 ? Math.max(seconds, 0.2) : DEFAULT_RETRY_SECONDS;
}

/** @param {string} header for instance "queue;dur=1.5, render;dur=20" @returns {Timing[]} */
function parseTimings(header) {
  const entries = header.matchAll(/(\w+);dur=([\d.]+)/g);
  return [...entries].map(([, name, duration]) => ({ name, milliseconds: Number(duration) }));
}
