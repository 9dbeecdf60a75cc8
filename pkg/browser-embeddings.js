// The Web Worker that computes embeddings for a page's `Ai`. The engine's Web Worker starts it when the first of them is asked for.

import { openEmbeddings } from "./browser-embedding-engine.js";
import { toMessage } from "./errors.js";

/** @import { EmbeddingEngine } from "./internal.d.ts" */

/**
 * Created by the first message.
 *
 * @type {Promise<EmbeddingEngine>}
 */
let engine;
/**
 * Of the requests that are being computed, by their ids.
 *
 * @type {Map<number, AbortController>}
 */
const running = new Map();

addEventListener("message", async ({ data }) => {
  if (data.cancel !== undefined) return void running.get(data.cancel)?.abort();
  if (data.config) {
    const onProgress = (/** @type {unknown} */ progress) => postMessage({ progress });
    const onWarning = (/** @type {string} */ text) => postMessage({ warning: text });
    engine = openEmbeddings({ ...data.config, onProgress }, { onWarning, onStored: () => postMessage({ stored: true }) });
    return;
  }
  const abort = new AbortController();
  running.set(data.id, abort);
  try {
    const value = await (await engine).embed(data.model, data.texts, data.cls, abort.signal);
    postMessage({ id: data.id, value });
  } catch (error) {
    postMessage({ id: data.id, error: toMessage(error) });
  } finally {
    running.delete(data.id);
  }
});

// Everything is loaded.
postMessage("ready");
