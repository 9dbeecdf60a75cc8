// The embedding engine in a Web Worker of its own (browser-embeddings.js).

import { AiInternalError, aiError, fromMessage } from "./errors.js";
import { loaded } from "./module-worker.js";

/**
 * @import { StoreObservers } from "./browser-writer.js"
 * @import { AiConfig } from "./index.d.ts"
 * @import { EmbeddingEngine, EmbeddingVectors } from "./internal.d.ts"
 */

/**
 * @param {() => Worker} startWorker
 * @param {AiConfig} config
 * @param {StoreObservers} observers
 * @returns {Promise<EmbeddingEngine>}
 * @throws {AiInternalError} if the Web Worker cannot be loaded
 */
export async function openRemoteEmbeddings(startWorker, { onProgress, onWarning, script, record, remote, ...config }, observers) {
  /** @type {Worker} */
  let worker;
  try {
    worker = await loaded(startWorker());
  } catch (error) {
    throw new AiInternalError(`The Web Worker for embeddings could not be started: ${error.message}. The server must have browser-embeddings.js beside browser.js.`);
  }
  /** @type {Map<number, {resolve(value: EmbeddingVectors): void, reject(error: Error): void}>} */
  const waiting = new Map();
  let next = 0;
  worker.addEventListener("message", ({ data: { id, value, error, progress, warning, stored } }) => {
    if (progress) return void onProgress?.(progress);
    if (warning) return observers.onWarning(warning);
    if (stored) return observers.onStored();
    const call = waiting.get(id);
    waiting.delete(id);
    if (error) call?.reject(fromMessage(error));
    else call?.resolve(value);
  });
  worker.addEventListener("error", ({ message }) => {
    for (const call of waiting.values()) call.reject(aiError(3040, 429, `The Web Worker for embeddings failed: ${message}. Try again.`));
    waiting.clear();
  });
  worker.postMessage({ config });
  return {
    embed(model, texts, cls, signal) {
      const id = (next += 1);
      signal?.addEventListener("abort", () => worker.postMessage({ cancel: id }), { once: true });
      return new Promise((resolve, reject) => {
        waiting.set(id, { resolve, reject });
        worker.postMessage({ id, model, texts, cls });
      });
    },
    close: () => worker.terminate(),
  };
}
