// @ts-check
/** Server-sent events over fetch, which unlike EventSource can send an API key. */

import { Problem, sleep } from "./client.js";

const RETRY_MILLISECONDS = 2000;

/**
 * Follows the events of a job. A broken stream is resumed; a refused one ends.
 * @template T
 * @param {import("./client.js").Api} api @param {string} path @param {AbortSignal} signal
 * @param {(data: T) => boolean} onData returns whether to continue
 */
export async function watch(api, path, signal, onData) {
  /** @type {Record<string, string>} */
  const headers = {};
  while (!signal.aborted) {
    try {
      const { body } = await api.send("GET", path, { headers, signal });
      if (body === null) return;
      for await (const { id, data } of messages(body)) {
        if (id) headers["Last-Event-ID"] = id;
        if (data && !onData(JSON.parse(data))) return;
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && isFinal(error))) return;
    }
    await sleep(RETRY_MILLISECONDS, signal).catch(() => {});
  }
}

/** Whether a retry cannot succeed. @param {Problem} problem */
function isFinal({ status }) {
  return status >= 400 && status < 500 && status !== 429;
}

/** @param {ReadableStream<Uint8Array<ArrayBuffer>>} body closed when the caller leaves the loop
 * @returns {AsyncGenerator<Record<string, string>>} the fields of each message */
async function* messages(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  try {
    let text = "";
    for (let part = await reader.read(); !part.done; part = await reader.read()) {
      const blocks = (text + part.value).split("\n\n");
      text = /** @type {string} */ (blocks.pop());
      yield* blocks.map(parse);
    }
  } finally {
    reader.cancel().catch(() => {});
  }
}

/** @param {string} block @returns {Record<string, string>} */
function parse(block) {
  return Object.fromEntries(
    block.split("\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
    }),
  );
}
