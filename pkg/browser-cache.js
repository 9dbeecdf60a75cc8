// The default model in a browser: downloaded once, then read from the origin's Cache Storage.

import { fromStream, http } from "./source.js";

/** @import { CustomModelSource } from "./index.d.ts" */

const CACHE = "workers-ai-local";

/**
 * A model file over HTTP that is stored in Cache Storage, if the page has it.
 *
 * @param {string} url
 * @param {string} sha256 of the file. It is compared when the file is downloaded, not when it is read from Cache Storage
 * @returns {CustomModelSource}
 */
export function cachedHttp(url, sha256) {
  /** @type {CustomModelSource} */
  const source = {
    name: url,
    async open(offset) {
      // Cache Storage is missing in insecure contexts and may fail (private windows, no space left). The file is then not stored.
      const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
      const stored = await cache?.match(url).catch(() => undefined);
      source.sha256 = stored ? undefined : sha256;
      if (stored) {
        const blob = await stored.blob();
        return fromStream(blob.slice(offset).stream(), blob.size);
      }
      /** @param {Response} response */
      const size = (response) => Number(response.headers.get("content-length")) || undefined;
      const response = cache && offset === 0 ? await fetch(url).catch(() => null) : null;
      // The plain HTTP source handles every error, and reads that do not start at 0.
      if (!cache || !response?.ok || !response.body) return http(url).open(offset);
      const [read, store] = response.body.tee();
      cache
        .put(url, new Response(store, { headers: response.headers }))
        .then(() => keepOnly(cache, url, sha256))
        .catch(() => {});
      return fromStream(read, size(response));
    },
  };
  return source;
}

/**
 * Removes a file from the cache if it is not the right one.
 *
 * @param {Cache} cache
 * @param {string} url
 * @param {string} sha256
 */
async function keepOnly(cache, url, sha256) {
  const bytes = await (await cache.match(url))?.arrayBuffer();
  const digest = bytes && new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = digest && Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found !== sha256) await cache.delete(url);
}
