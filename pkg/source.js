// Model files: any configured source → `{ name, open(offset) }`. The crate reads the streams that `open` returns.
//
// The `kind` of an error says whether a retry may help: "not-found" and "refused" are final, "interrupted" is not.

import { AiInternalError } from "./errors.js";

/** @import { CustomModelSource, HttpModelSource, ModelFileStream, R2ModelObject, R2ModelSource } from "./index.d.ts" */

/** Bytes per read from a buffer. The crate copies each piece, so a large buffer must not be one piece. */
const PIECE = 1 << 20;

/**
 * Converts a configured value to a source.
 *
 * @param {unknown} value a URL (string or URL), `{url, headers}`, a Blob, bytes, `{bucket, key}` of R2, an R2 object, or an
 *   object with `name` and `open(offset)`
 * @param {string} place the value's place in the configuration, for error messages
 * @returns {CustomModelSource}
 * @throws {AiInternalError} if the value is none of these
 */
export function toSource(value, place) {
  if (typeof value === "string" || value instanceof URL) return http(value);
  if (typeof Blob === "function" && value instanceof Blob) return blob(value);
  if (value instanceof ArrayBuffer) return bytes(new Uint8Array(value));
  if (ArrayBuffer.isView(value)) return bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if (value && typeof value === "object") {
    const source = /** @type {Partial<CustomModelSource & HttpModelSource & R2ModelSource & R2ModelObject>} */ (value);
    if (typeof source.open === "function") return /** @type {CustomModelSource} */ (value);
    if (source.url) return http(source.url, source.headers);
    if (typeof source.bucket?.get === "function" && source.key) return r2(source.bucket, source.key);
    if (source.body && source.key) return r2Object(/** @type {R2ModelObject} */ (value));
  }
  throw new AiInternalError(
    `${place} is not a model file. Use a URL, a Blob, bytes, an R2 object ({ bucket, key }) or, in Node, a path.`,
  );
}

/**
 * @param {"not-found" | "refused" | "interrupted"} kind whether a retry may help: see above
 * @param {string} message
 */
export function sourceError(kind, message) {
  return Object.assign(new Error(message), { kind });
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
  const reader = stream.getReader();
  return {
    size,
    async read() {
      for (;;) {
        const { done, value } = await reader.read();
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
 * A file over HTTP. `open` with an offset sends a range request, by which the crate resumes after a broken connection.
 *
 * @param {string | URL} url
 * @param {Record<string, string>} [headers]
 * @returns {CustomModelSource}
 */
export function http(url, headers = {}) {
  const name = String(url);
  return {
    name,
    async open(offset) {
      const response = await fetch(name, { headers: offset > 0 ? { ...headers, range: `bytes=${offset}-` } : headers });
      const { status } = response;
      if (!response.ok || !response.body) {
        await response.body?.cancel();
        const message = `HTTP ${status} ${response.statusText}`.trim();
        if (status === 404 || status === 410) throw sourceError("not-found", message);
        // Overload and server errors are temporary; other errors are final.
        throw sourceError(status >= 500 || status === 429 || status === 408 ? "interrupted" : "refused", message);
      }
      return fromStream(response.body, sizeOf(response), status === 206 ? 0 : offset);
    },
  };
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

/**
 * @param {Blob & {name?: string}} value
 * @returns {CustomModelSource}
 */
function blob(value) {
  const name = value.name ?? `a Blob of ${value.size} bytes`;
  return { name: unique(name, value), open: async (offset) => fromStream(value.slice(offset).stream(), value.size) };
}

/**
 * @param {Uint8Array} value
 * @returns {CustomModelSource}
 */
function bytes(value) {
  return {
    name: unique(`${value.length} bytes in memory`, value),
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
 * @returns {CustomModelSource}
 */
function r2(bucket, key) {
  return {
    name: `R2 object ${key}`,
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
 * @returns {CustomModelSource}
 */
function r2Object(object) {
  return {
    name: `R2 object ${object.key}`,
    async open(offset) {
      if (object.bodyUsed || offset > 0) throw sourceError("refused", "its body was already read; give { bucket, key } instead");
      return fromStream(object.body, object.size);
    },
  };
}

/** @type {WeakMap<object, number>} */
const numbers = new WeakMap();
let count = 0;
/**
 * Makes names unique: the crate identifies a file by its name, so different values must not have the same one.
 *
 * @param {string} name
 * @param {object} value
 */
function unique(name, value) {
  if (!numbers.has(value)) numbers.set(value, (count += 1));
  return count > 1 ? `${name} (${numbers.get(value)})` : name;
}
