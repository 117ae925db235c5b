// @ts-check
/** Server-sent events by fetch, which can send an API key where EventSource cannot. */

import { Problem, sleep } from "./api.js";

const RETRY_MILLISECONDS = 2000;

/**
 * What a job tells until it has ended. A stream that breaks goes on where it was.
 * @template T
 * @param {import("./api.js").Api} api @param {string} path @param {AbortSignal} signal
 * @param {(data: T) => boolean} onData returns whether there is more to come
 */
export async function watch(api, path, signal, onData) {
  /** @type {Record<string, string>} */
  const headers = {};
  for (;;) {
    try {
      const { body } = await api.send("GET", path, { headers, signal });
      if (body === null) return;
      let text = "";
      const reader = body.pipeThrough(new TextDecoderStream()).getReader();
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const blocks = (text + part.value).split("\n\n");
        text = /** @type {string} */ (blocks.pop());
        for (const fields of blocks.map(parse)) {
          if (fields.id) headers["Last-Event-ID"] = fields.id;
          if (fields.data && !onData(JSON.parse(fields.data))) return reader.cancel();
        }
      }
    } catch (error) {
      if (signal.aborted || (error instanceof Problem && error.status === 404)) return;
    }
    await sleep(RETRY_MILLISECONDS, signal).catch(() => {});
    if (signal.aborted) return;
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
