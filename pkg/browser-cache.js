// The default model in a browser: downloaded once, then read from the origin's Cache Storage.

import { fromStream, http } from "./source.js";

const CACHE = "workers-ai-local";

/** A file over HTTP that is kept in Cache Storage, where the page has one. */
export function cachedHttp(url) {
  return {
    name: url,
    async open(offset) {
      // Cache Storage is missing in insecure contexts and may refuse (private windows, no room): then without.
      const cache = await globalThis.caches?.open(CACHE).catch(() => undefined);
      const kept = await cache?.match(url).catch(() => undefined);
      if (kept) {
        const blob = await kept.blob();
        return fromStream(blob.slice(offset).stream(), blob.size);
      }
      const size = (response) => Number(response.headers.get("content-length")) || undefined;
      const response = cache && offset === 0 ? await fetch(url).catch(() => null) : null;
      // Every error, and a read from the middle, is the plain source's to deal with.
      if (!response?.ok || !response.body) return http(url).open(offset);
      const [read, keep] = response.body.tee();
      cache.put(url, new Response(keep, { headers: response.headers })).catch(() => {});
      return fromStream(read, size(response));
    },
  };
}
