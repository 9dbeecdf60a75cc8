// The default model in a browser: downloaded once, then read from the origin's Cache Storage.

import { fromStream, http } from "./source.js";

/** @import { CustomModelSource } from "./index.d.ts" */

const CACHE = "workers-ai-local";

/**
 * A model file over HTTP that is stored in Cache Storage, if the page has it.
 *
 * @param {string} url
 * @param {string} sha256 of the file. It is compared until a stored file has once been seen to have it
 * @returns {CustomModelSource}
 */
export function cachedHttp(url, sha256) {
  // A second entry says that the file was compared: a page may be closed between the storing of a file and its check.
  const seal = `${url}?sha256=${sha256}`;
  /** @type {CustomModelSource} */
  const source = {
    name: url,
    async open(offset) {
      // Cache Storage is missing in insecure contexts and may fail (private windows, no space left). The file is then not stored.
      const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
      const stored = await cache?.match(url).catch(() => undefined);
      const sealed = stored && (await cache?.match(seal).catch(() => undefined));
      source.sha256 = sealed ? undefined : sha256;
      if (cache && stored) {
        const blob = await stored.blob();
        if (!sealed) check(cache, url, sha256, seal).catch(() => {});
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
        .then(() => check(cache, url, sha256, seal))
        .catch(() => {});
      return fromStream(read, size(response));
    },
  };
  return source;
}

/**
 * Seals a stored file if it is the right one, and removes it otherwise.
 *
 * @param {Cache} cache
 * @param {string} url
 * @param {string} sha256
 * @param {string} seal the address of the entry that says so
 */
async function check(cache, url, sha256, seal) {
  const bytes = await (await cache.match(url))?.arrayBuffer();
  const digest = bytes && new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  const found = digest && Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
  if (found === sha256) await cache.put(seal, new Response(null));
  else await cache.delete(url);
}
