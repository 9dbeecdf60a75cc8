// A model on the hub as a source: its files are known only when the hub has answered.

import { endpointOf, hubError, hubHeaders, namedFirst, resolveHub } from "./hub.js";
import { hubOf, parseName } from "./names.js";
import { http, toSource } from "./source.js";

/**
 * @import { HubFile } from "./hub.js"
 * @import { HubConfig } from "./index.d.ts"
 * @import { HubName } from "./names.js"
 * @import { Source } from "./source.js"
 */

/**
 * Like `toSource`, but a string may be a name. Nothing is stored: for runtimes that have no place for it.
 *
 * @param {HubConfig} [hub]
 * @returns {(value: unknown, place: string) => Source}
 */
export const streamed = (hub = {}) => (value, place) => {
  const name = typeof value === "string" ? hubOf(parseName(value)) : undefined;
  if (!name) return toSource(value, place);
  return hubSource(name, async () => (await resolveHub(name, hub)).files, (files) => files.map(({ url, sha256 }) => http(url, hubHeaders(url, hub), sha256)), hub);
};

/**
 * A model on the hub.
 *
 * @param {HubName} hubName
 * @param {() => Promise<HubFile[]>} resolve
 * @param {(files: HubFile[]) => Source[]} open
 * @param {HubConfig} [hub]
 * @returns {Source}
 */
export function hubSource(hubName, resolve, open, hub = {}) {
  const { name, owner, repo } = hubName;
  /** @type {Promise<Source[]> | undefined} */
  let files;
  /** @type {Source | undefined} */
  let first;
  const ready = async () => {
    files ??= resolve().then((found) => open(namedFirst(found, hubName)));
    try {
      const [found, ...others] = await files;
      first = found;
      if (others.length > 0) Object.assign(source, { others, listed: true });
      return found;
    } catch (error) {
      files = undefined;
      throw error;
    }
  };
  /** @type {Source} */
  const source = {
    name,
    identity: JSON.stringify(["hub", name]),
    get sha256() {
      return first?.sha256;
    },
    prepare: async () => void (await ready()),
    async open(offset) {
      try {
        const { size, read, cancel } = await (await ready()).open(offset);
        return { size, read: () => read().catch(fail), cancel };
      } catch (error) {
        return fail(error);
      }
    },
  };
  return source;

  /**
   * Says what to do where the hub refuses a file, and lets the next load ask what the name stands for if the file was replaced.
   *
   * @param {Error & {kind?: string, status?: number, code?: string | null, url?: string}} error
   * @returns {never}
   */
  function fail(error) {
    if (error.kind === "changed") files = undefined;
    const page = `${endpointOf(hub.endpoint)}/${owner}/${repo}`;
    // Of another server, to which the hub has led, the hub knows nothing.
    const isOfHub = !error.url || new URL(error.url).origin === new URL(page).origin;
    throw (error.kind === "refused" && isOfHub && hubError(error, `${owner}/${repo}`, { ...hub, page })) || error;
  }
}
