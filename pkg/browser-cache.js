// The default model in a browser: downloaded once, then read from the origin's Cache Storage.

import { fromStream, http } from "./source.js";

/** @import { CustomModelSource } from "./index.d.ts" */

const CACHE = "workers-ai-local";

/**
 * A model file over HTTP that is stored in Cache Storage, if the page has it.
 *
 * @param {string} url
 * @returns {CustomModelSource}
 */
export function cachedHttp(url) {
  return {
    name: url,
    async open(offset) {
      // Cache Storage is missing in insecure contexts and may fail (private windows, no space left). The file is then not stored.
      const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
      const stored = await cache?.match(url).catch(() => undefined);
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
      cache.put(url, new Response(store, { headers: response.headers })).catch(() => {});
      return fromStream(read, size(response));
    },
  };
}
