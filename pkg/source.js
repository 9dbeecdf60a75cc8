// Model files: any configured source → `{ name, open(offset) }`. The crate reads the streams that `open` returns.
//
// The `kind` of an error says whether a retry may help: "not-found", "refused" and "changed" are final, "interrupted" and "busy" (which has
// `waitMs`) are not.

import { AiInternalError } from "./errors.js";

/** @import { CustomModelSource, HttpModelSource, ModelFileStream, R2ModelObject, R2ModelSource } from "./index.d.ts" */

/**
 * A source for the crate:
 * - `identity`: equal for sources of the same bytes only. The crate loads each identity once.
 * - `others`: the other files of the model, if this may be one of several. The crate reads them only if the file says so.
 * - `listed`: whether the configuration lists them; otherwise they follow from the name.
 * - `prepare`: finds out the others where a name does not say them. It is called before the crate looks at them.
 *
 * @typedef {CustomModelSource & {identity?: string, others?: Source[], listed?: boolean, prepare?(): Promise<void>}} Source
 */

/** Bytes per read from a buffer. The crate copies each piece, so a large buffer must not be one piece. */
const PIECE = 1 << 20;

/** A connection that brings no byte for so long counts as lost. */
const STALLED_AFTER_MS = 30_000;

/** A download follows so many redirects. */
const MAX_REDIRECTS = 5;
const REDIRECTS = [301, 302, 303, 307, 308];

/** A model has at most so many files; the crate has the same limit. */
const MAX_PARTS = 1024;

/** How llama.cpp names the parts of a split model: number and count, from 1. In a URL the hyphens may be encoded. */
const PART_NAME = /(-|%2d)(\d{5})((?:-|%2d)of(?:-|%2d))(\d{5})(\.gguf)$/i;

/**
 * Converts a configured value to a source.
 *
 * @param {unknown} value a URL (string or URL), `{url, headers, sha256}`, a Blob, bytes, `{bucket, key}` of R2, an R2 object, or an
 *   object with `name` and `open(offset)`
 * @param {string} place the value's place in the configuration, for error messages
 * @param {typeof http} [open] makes the source of a URL
 * @returns {Source}
 * @throws {AiInternalError} if the value is none of these
 */
export function toSource(value, place, open = http) {
  if (typeof value === "string" || value instanceof URL) return files(open, value);
  if (typeof Blob === "function" && value instanceof Blob) return remembered(value, () => blob(value));
  if (value instanceof ArrayBuffer) return remembered(value, () => bytes(new Uint8Array(value)));
  if (ArrayBuffer.isView(value)) return remembered(value, () => bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength)));
  if (value && typeof value === "object") {
    const source = /** @type {Partial<CustomModelSource & HttpModelSource & R2ModelSource & R2ModelObject>} */ (value);
    if (typeof source.open === "function") return custom(/** @type {CustomModelSource} */ (value));
    if (source.url) return files(open, source.url, source.headers, source.sha256);
    const { bucket, key } = source;
    if (bucket && typeof bucket.get === "function" && key) return named(key, (each) => r2(bucket, each));
    if (source.body && source.key) return r2Object(/** @type {R2ModelObject} */ (value));
  }
  throw new AiInternalError(
    `${place} is not a model file. Use a URL, a Blob, bytes, an R2 object ({ bucket, key }) or, in Node, a path.`,
  );
}

/**
 * Converts a configured value, of which the elements may be a list: the files of a split model.
 *
 * @param {unknown} value
 * @param {string} place the value's place in the configuration, for error messages
 * @param {(value: unknown, place: string) => Source} [one] converts a file; see `toSource`
 * @returns {Source}
 * @throws {AiInternalError} if the value is not a model file, or an empty or too long list
 */
export function toModelSource(value, place, one = toSource) {
  if (!Array.isArray(value)) return one(value, place);
  if (value.length === 0 || value.length > MAX_PARTS) {
    throw new AiInternalError(`${place} is a list of ${value.length} files. A split model has 1 to ${MAX_PARTS}.`);
  }
  const files = value.map((file, index) => one(file, `${place}[${index}]`));
  if (files.length === 1) return files[0];
  const [first, ...others] = files;
  return {
    name: first.name,
    identity: JSON.stringify(files.map(({ identity, name }) => identity ?? name)),
    get sha256() {
      return first.sha256;
    },
    open: (offset) => first.open(offset),
    others,
    listed: true,
  };
}

/**
 * The names of all parts of a split model, in their order, if `name` is the name of one of them. Otherwise only `name`.
 *
 * @param {string} name
 */
export function partNames(name) {
  const [, , number, , count] = PART_NAME.exec(name) ?? [];
  if (!(Number(count) <= MAX_PARTS && Number(number) >= 1 && Number(number) <= Number(count))) return [name];
  return Array.from({ length: Number(count) }, (_, index) => name.replace(PART_NAME, `$1${String(index + 1).padStart(5, "0")}$3$4$5`));
}

/**
 * A source that is found by a name: an address, a path, a key. If it may be a part of a split model, the other parts are found in the same way.
 *
 * @param {string} name
 * @param {(name: string) => Source} open makes the source of a name
 * @returns {Source}
 */
export function named(name, open) {
  const others = partNames(name).filter((other) => other !== name);
  // Not a copy: what a source says may change when reading begins.
  return Object.assign(open(name), { others: others.map(open) });
}

/**
 * @param {"not-found" | "refused" | "changed" | "interrupted" | "busy"} kind whether a retry may help: see above
 * @param {string} message
 * @param {{waitMs?: number, status?: number, code?: string, url?: string}} [details]
 */
export function sourceError(kind, message, details = {}) {
  return Object.assign(new Error(message), { kind, ...details });
}

/**
 * A reader of a stream, and a function that reads the next piece. By itself workerd reads 4 KiB at a time, and into a buffer as much as there is.
 *
 * @param {ReadableStream} stream
 * @returns {{reader: {cancel(): Promise<void>}, next: () => Promise<ReadableStreamReadResult<any>>}}
 */
function readerOf(stream) {
  const fillsBuffers = typeof ReadableStreamBYOBReader === "function" && "readAtLeast" in ReadableStreamBYOBReader.prototype;
  try {
    if (fillsBuffers) {
      const reader = stream.getReader({ mode: "byob" });
      // The crate has copied a piece when it asks for the next one.
      let buffer = new ArrayBuffer(PIECE);
      return {
        reader,
        async next() {
          const result = await reader.read(new Uint8Array(buffer));
          buffer = result.value?.buffer ?? buffer;
          return result;
        },
      };
    }
  } catch {
    // A stream that is not made of bytes.
  }
  const reader = stream.getReader();
  return { reader, next: () => reader.read() };
}

/**
 * Converts a web stream to `{size, read, cancel}`.
 *
 * @param {ReadableStream} stream
 * @param {number | undefined} size length of the whole file in bytes
 * @param {number} [skip] number of bytes to skip at the start of the stream
 * @returns {ModelFileStream}
 */
export function fromStream(stream, size, skip = 0) {
  const { reader, next } = readerOf(stream);
  return {
    size,
    async read() {
      for (;;) {
        const { done, value } = await unstalled(next());
        if (done) return undefined;
        const chunk = value instanceof Uint8Array ? value : new Uint8Array(value);
        if (skip < chunk.length) {
          const rest = skip > 0 ? chunk.subarray(skip) : chunk;
          skip = 0;
          if (rest.length > 0) return rest;
        } else {
          skip -= chunk.length;
        }
      }
    },
    // Cancelling a stream that has already ended is not an error.
    cancel: () => void reader.cancel().catch(() => {}),
  };
}

/**
 * The result of a promise, or the error of a connection that stands still.
 *
 * @template T
 * @param {Promise<T>} promise
 * @returns {Promise<T>}
 */
async function unstalled(promise) {
  /** @type {any} a number in browsers and workerd, an object in Node */
  let timer;
  const stalled = new Promise((_, reject) => {
    const error = sourceError("interrupted", `no data for ${STALLED_AFTER_MS / 1000} s`);
    timer = setTimeout(() => reject(error), STALLED_AFTER_MS);
  });
  try {
    return await Promise.race([promise, stalled]);
  } finally {
    clearTimeout(timer);
  }
}

/**
 * A file over HTTP, or the files of a split model: only the last segment of the path differs.
 *
 * @param {typeof http} open
 * @param {string | URL} url
 * @param {Record<string, string>} [headers]
 * @param {string} [sha256] of the file at `url`
 */
function files(open, url, headers, sha256) {
  const [file, query] = halves(String(url));
  return named(file, (each) => open(each + query, headers, each === file ? sha256 : undefined));
}

/**
 * The addresses of all parts of a split model, in their order, if `url` is that of one of them. Otherwise only `url`.
 *
 * @param {string} url
 */
export function partUrls(url) {
  const [file, query] = halves(url);
  return partNames(file).map((each) => each + query);
}

/** An address without its query, in which each part of a split model may have a signature of its own. @param {string} url */
export const withoutQuery = (url) => halves(url)[0];

/** @param {string} url */
const halves = (url) => /** @type {RegExpExecArray} */ (/^([^?#]*)(.*)$/s.exec(url)).slice(1);

/**
 * A file over HTTP. `open` with an offset sends a range request, by which the crate resumes after a broken connection, and makes sure that the
 * server still has the file whose beginning was read.
 *
 * @param {string | URL} url
 * @param {Record<string, string>} [headers]
 * @param {string} [sha256] of the file
 * @returns {Source}
 */
export function http(url, headers = {}, sha256) {
  const name = String(url);
  /** @type {Version | undefined} the file whose beginning was read */
  let first;
  return {
    name,
    identity: httpIdentity(name, headers),
    sha256,
    async open(offset) {
      const { stream, version } = await download(name, headers, offset, first);
      if (offset === 0 || !first) first = version;
      return stream;
    },
  };
}

/**
 * Equal for equal requests only.
 *
 * @param {string} url
 * @param {Record<string, string>} headers
 */
export const httpIdentity = (url, headers) => JSON.stringify([url, Object.entries(headers).sort()]);

/**
 * Starts to read a file over HTTP.
 *
 * @param {string} url
 * @param {Record<string, string>} headers
 * @param {number} offset of the first byte
 * @param {Version} [first] the file whose beginning was read
 * @param {typeof globalThis.fetch} [fetch]
 * @returns {Promise<{stream: ModelFileStream, version: Version}>}
 * @throws an error with a `kind`: see above
 */
export async function download(url, headers, offset, first, fetch) {
  const condition = isForeign(url) ? undefined : (first?.etag ?? first?.modified);
  const range = offset > 0 ? { range: `bytes=${offset}-`, ...(condition && { "if-range": condition }) } : {};
  const response = await request(url, headers, range, { fetch });
  const { status } = response;
  try {
    if (!response.ok || !response.body) throw statusError(response);
    const version = versionOf(response);
    if (offset > 0 && first) checkSame(first, version);
    if (status === 206) checkRange(response, offset);
    return { stream: fromStream(response.body, version.size, status === 206 ? 0 : offset), version };
  } catch (error) {
    await response.body?.cancel().catch(() => {});
    throw error;
  }
}

/**
 * Whether a page asks another origin. Its server must then allow each header that is not one of a few, to which `range` belongs and `if-range`
 * does not. Whether the file is the same one shows in the answer, too.
 *
 * @param {string} url
 */
function isForeign(url) {
  const { location } = /** @type {{location?: {origin: string}}} */ (globalThis);
  return location !== undefined && URL.canParse(url) && new URL(url).origin !== location.origin;
}

/**
 * A GET that follows redirects.
 *
 * @param {string} url
 * @param {Record<string, string>} own headers for the URL's own origin: they may be secret, and another one does not get them
 * @param {Record<string, string>} range headers for every origin
 * @param {object} [options]
 * @param {typeof globalThis.fetch} [options.fetch]
 * @param {AbortSignal} [options.signal]
 * @param {(response: Response) => void} [options.onRedirect] called with each answer that leads elsewhere
 */
export async function request(url, own, range, { fetch = globalThis.fetch, signal, onRedirect = () => {} } = {}) {
  for (let redirects = 0; ; redirects += 1) {
    const headers = { ...own, ...range };
    const response = await unstalled(fetch(url, { headers, redirect: "manual", signal }));
    // A browser hides where a redirect leads, and follows up to 20 of them itself. It withholds `authorization` from other origins.
    if (/** @type {string} */ (response.type) === "opaqueredirect") return unstalled(fetch(url, { headers, signal }));
    const location = REDIRECTS.includes(response.status) && response.headers.get("location");
    if (!location) return response;
    onRedirect(response);
    await response.body?.cancel().catch(() => {});
    if (redirects === MAX_REDIRECTS) throw sourceError("refused", `there are more than ${MAX_REDIRECTS} redirects, the last one from ${url}`);
    const next = redirectTarget(location, url);
    if (next.origin !== new URL(url).origin) own = {};
    url = next.href;
  }
}

/**
 * @param {string} location
 * @param {string} from
 */
function redirectTarget(location, from) {
  const target = URL.canParse(location, from) ? new URL(location, from) : undefined;
  if (!target || !/^https?:$/.test(target.protocol)) throw sourceError("refused", `${from} redirects to ${location}, which is no HTTP address`);
  return target;
}

/** @param {Response} response */
export function statusError({ status, statusText, headers, url }) {
  const message = `HTTP ${status} ${statusText}`.trim();
  // For those who know more of this server than its status.
  const answer = { status, code: headers.get("x-error-code") ?? undefined, ...(url && { url }) };
  if (status === 404 || status === 410) return sourceError("not-found", message);
  // Overload and server errors are temporary; other errors are final. (416: the file is shorter than what was read of it.)
  if (status === 416) return sourceError("changed", message);
  if (status < 500 && status !== 429 && status !== 408) return sourceError("refused", message, answer);
  return sourceError("busy", message, { waitMs: waitOf(headers.get("retry-after")) });
}

/** Milliseconds that `Retry-After` asks for: seconds or a date. @param {string | null} value */
function waitOf(value) {
  if (!value) return 0;
  const wait = /^\d+$/.test(value.trim()) ? Number(value) * 1000 : Date.parse(value) - Date.now();
  return Number.isFinite(wait) ? Math.max(0, wait) : 0;
}

/**
 * What tells one version of a file from another.
 *
 * @typedef {object} Version
 * @property {string} [etag] only if it promises the same bytes
 * @property {string} [tag] the ETag as the server gave it
 * @property {string} [modified]
 * @property {number} [size]
 * @property {boolean} [mayBeStored] whether the server lets clients keep it
 *
 * @param {Response} response
 * @returns {Version}
 */
export function versionOf(response) {
  const etag = response.headers.get("etag");
  return {
    // A weak one does not promise the same bytes.
    etag: etag && !etag.startsWith("W/") ? etag : undefined,
    tag: etag ?? undefined,
    modified: response.headers.get("last-modified") ?? undefined,
    size: sizeOf(response),
    mayBeStored: !/\bno-store\b/i.test(response.headers.get("cache-control") ?? ""),
  };
}

/**
 * @param {Version} first
 * @param {Version} now
 */
export function checkSame(first, now) {
  for (const key of /** @type {const} */ (["etag", "modified", "size"])) {
    if (first[key] !== undefined && now[key] !== undefined && first[key] !== now[key]) {
      throw sourceError("changed", `the server has another version now (${key} was ${first[key]}, is ${now[key]})`);
    }
  }
}

/**
 * @param {Response} response with status 206
 * @param {number} offset
 */
export function checkRange(response, offset) {
  const start = /^bytes (\d+)-/.exec(response.headers.get("content-range") ?? "")?.[1];
  if (start === undefined) throw sourceError("interrupted", "the server answered a range request with several ranges or none");
  if (Number(start) !== offset) throw sourceError("interrupted", `the server answered with bytes from ${start}, not from ${offset}`);
}

/**
 * Length of the whole file in bytes, if the response has it.
 *
 * @param {Response} response
 */
function sizeOf(response) {
  const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
  // With a content encoding, content-length is not the length of the file.
  const length = response.headers.get("content-encoding") ? null : response.headers.get("content-length");
  const size = total ?? (response.status === 200 ? length : null);
  return size === null || size === undefined ? undefined : Number(size);
}

/** @type {WeakMap<object, Source>} */
const sources = new WeakMap();

/**
 * The source of a value that has no name of its own: the same one each time, so that it is called the same.
 *
 * @param {object} value
 * @param {() => Source} make
 */
function remembered(value, make) {
  const source = sources.get(value) ?? make();
  sources.set(value, source);
  return source;
}

/**
 * @param {Blob & {name?: string}} value
 * @returns {Source}
 */
function blob(value) {
  const name = value.name ?? `a Blob of ${value.size} bytes`;
  return { name: unique(name, value), identity: identityOf(value), open: async (offset) => fromStream(value.slice(offset).stream(), value.size) };
}

/**
 * @param {Uint8Array} value
 * @returns {Source}
 */
function bytes(value) {
  return {
    name: unique(`${value.length} bytes in memory`, value),
    identity: JSON.stringify([identityOf(value.buffer), value.byteOffset, value.length]),
    async open(offset) {
      return {
        size: value.length,
        async read() {
          const piece = value.subarray(offset, offset + PIECE);
          offset += piece.length;
          return piece.length > 0 ? piece : undefined;
        },
        cancel() {},
      };
    },
  };
}

/**
 * An object in an R2 bucket. `open` with an offset reads a range.
 *
 * @param {R2ModelSource["bucket"]} bucket
 * @param {string} key
 * @returns {Source}
 */
function r2(bucket, key) {
  return {
    name: `R2 object ${key}`,
    identity: JSON.stringify([identityOf(bucket), key]),
    async open(offset) {
      const object = await bucket.get(key, offset > 0 ? { range: { offset } } : undefined);
      if (!object) throw sourceError("not-found", `the bucket has no object "${key}"`);
      return fromStream(object.body, object.size);
    },
  };
}

/**
 * An R2 object that was already fetched. It can be read only once.
 *
 * @param {R2ModelObject} object
 * @returns {Source}
 */
function r2Object(object) {
  return {
    name: `R2 object ${object.key}`,
    identity: identityOf(object),
    async open(offset) {
      if (object.bodyUsed || offset > 0) throw sourceError("refused", "its body was already read; give { bucket, key } instead");
      return fromStream(object.body, object.size);
    },
  };
}

/**
 * A program's own source.
 *
 * @param {CustomModelSource} source
 * @returns {Source}
 */
function custom(source) {
  return {
    name: source.name,
    identity: identityOf(source),
    // May change when reading begins: a stored copy was verified before.
    get sha256() {
      return source.sha256;
    },
    open: (offset) => source.open(offset),
  };
}

/** @type {WeakMap<object, number>} */
const numbers = new WeakMap();
let count = 0;

/** @param {object} value */
function numberOf(value) {
  if (!numbers.has(value)) numbers.set(value, (count += 1));
  return numbers.get(value);
}

/** Equal for the same object only. @param {object} value */
const identityOf = (value) => `object ${numberOf(value)}`;

/**
 * A name that tells values with the same name apart, in messages.
 *
 * @param {string} name
 * @param {object} value
 */
function unique(name, value) {
  const number = numberOf(value);
  return count > 1 ? `${name} (${number})` : name;
}
