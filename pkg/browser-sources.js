// Model files in a browser: configured values → sources that are kept in the origin's storage.

import { openStore } from "./browser-store.js";
import { storedHttp } from "./browser-download.js";
import { keyOf, nameOfUrl, readEntry, readResolution, writeResolution } from "./browser-models.js";
import { hubSource } from "./hub-source.js";
import { endpointOf, hubHeaders, resolveHub } from "./hub.js";
import { hubOf, parseName } from "./names.js";
import { http, toSource } from "./source.js";

/**
 * @import { StoreObservers } from "./browser-writer.js"
 * @import { HubFile } from "./hub.js"
 * @import { AiConfig } from "./index.d.ts"
 * @import { HubName } from "./names.js"
 */

/**
 * What converts configured values; see `toSource`. Strings may be names, too.
 *
 * @param {Pick<AiConfig, "cache" | "hub">} config
 * @param {StoreObservers} observers
 */
export function sourcesOf({ cache = true, hub = {} }, observers) {
  /** @type {typeof http} */
  const open = (url, headers = {}, sha256) => {
    const address = new URL(url, location.href).href;
    if (!cache || !/^https?:/.test(address)) return http(address, headers, sha256);
    return storedHttp({ url: address, headers, sha256, ownCheck: false, name: nameOfUrl(address) }, observers);
  };
  /** @param {HubFile[]} files of one model @param {string} name */
  const openHub = (files, name) => {
    // Its files are kept together, or none of them.
    const own = files.length > 1 ? { ...observers, onWarning: once(observers.onWarning) } : observers;
    return files.map((file) => {
      const { url, sha256 } = file;
      const headers = hubHeaders(url, hub);
      const others = files.filter((other) => other !== file);
      return cache ? storedHttp({ url, headers, sha256, ownCheck: true, name, others }, own) : http(url, headers, sha256);
    });
  };
  /** @param {unknown} value @param {string} place */
  const one = (value, place) => {
    const name = typeof value === "string" ? parseName(value) : undefined;
    const onHub = hubOf(name);
    if (name && onHub) return hubSource(onHub, () => filesOf(onHub, hub, cache), (files) => openHub(files, name.name), hub);
    return toSource(value, place, open);
  };
  return { one, open };
}

/** @param {StoreObservers["onWarning"]} warn @returns {StoreObservers["onWarning"]} */
function once(warn) {
  let warned = false;
  return (text) => {
    if (!warned) warn(text);
    warned = true;
  };
}

/**
 * The files that a name stands for: those that are stored under it, if they are all there, or else what the hub says.
 *
 * @param {HubName} name
 * @param {NonNullable<AiConfig["hub"]>} hub
 * @param {boolean} cache
 */
async function filesOf(name, hub, cache) {
  const endpoint = endpointOf(hub.endpoint);
  const store = cache ? await openStore() : undefined;
  const known = store && (await readResolution(store, endpoint, name.name));
  if (store && known) {
    const entries = await Promise.all(known.files.map(async (file) => readEntry(store, await keyOf(file))));
    if (entries.every((entry) => entry?.complete)) return known.files;
  }
  try {
    const { files } = await resolveHub(name, hub);
    if (store) await writeResolution(store, endpoint, { name: name.name, files }).catch(() => {});
    return files;
  } catch (error) {
    const isOffline = error.kind === "interrupted" || error.kind === "busy";
    if (known && isOffline) return known.files;
    throw error;
  }
}
