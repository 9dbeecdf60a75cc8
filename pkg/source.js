// Model files: whatever a configuration gives → `{ name, open(offset) }`, whose streams the crate reads.
//
// An error says in `kind` whether trying again may help: "not-found" and "refused" are final.

import { AiInternalError } from "./errors.js";

/** Bytes are handed out in pieces, so that a large buffer is never copied at once. */
const PIECE = 1 << 20;

/**
 * @param {unknown} value a URL (string or URL), `{url, headers}`, a Blob, bytes, `{bucket, key}` of R2, an R2 object, or an
 *   object with `name` and `open(offset)`
 * @param {string} place where in the configuration it stands, for messages
 */
export function toSource(value, place) {
  if (typeof value === "string" || value instanceof URL) return http(value);
  if (typeof Blob === "function" && value instanceof Blob) return blob(value);
  if (value instanceof ArrayBuffer) return bytes(new Uint8Array(value));
  if (ArrayBuffer.isView(value)) return bytes(new Uint8Array(value.buffer, value.byteOffset, value.byteLength));
  if (value && typeof value === "object") {
    if (typeof value.open === "function") return value;
    if (value.url) return http(value.url, value.headers);
    if (typeof value.bucket?.get === "function" && value.key) return r2(value.bucket, value.key);
    if (value.body && value.key) return r2Object(value);
  }
  throw new AiInternalError(
    `${place} is no model file: give a URL, a Blob, bytes, an R2 object ({ bucket, key }) or, in Node, a path.`,
  );
}

/** An error that says whether trying again may help. */
export function sourceError(kind, message) {
  return Object.assign(new Error(message), { kind });
}

/** `{size, read, cancel}` over a web stream; the first `skip` bytes are passed over. */
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
    // Cancelling what is already at its end is no error.
    cancel: () => void reader.cancel().catch(() => {}),
  };
}

/** A file over HTTP, taken up again by range where a connection breaks. */
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
        // Overload and faults of a server pass; refusals do not.
        throw sourceError(status >= 500 || status === 429 || status === 408 ? "interrupted" : "refused", message);
      }
      return fromStream(response.body, sizeOf(response), status === 206 ? 0 : offset);
    },
  };
}

/** Length of the whole file, where the response tells it. */
function sizeOf(response) {
  const total = /\/(\d+)$/.exec(response.headers.get("content-range") ?? "")?.[1];
  // The length of an encoded body is not the file's.
  const length = response.headers.get("content-encoding") ? null : response.headers.get("content-length");
  const size = total ?? (response.status === 200 ? length : null);
  return size === null || size === undefined ? undefined : Number(size);
}

function blob(value) {
  const name = value.name ?? `a Blob of ${value.size} bytes`;
  return { name: unique(name, value), open: async (offset) => fromStream(value.slice(offset).stream(), value.size) };
}

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

/** An object in an R2 bucket, read by ranges. */
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

/** An R2 object that was already fetched: it can be read once. */
function r2Object(object) {
  return {
    name: `R2 object ${object.key}`,
    async open(offset) {
      if (object.bodyUsed || offset > 0) throw sourceError("refused", "its body was already read; give { bucket, key } instead");
      return fromStream(object.body, object.size);
    },
  };
}

/** The crate knows a file by its name: two different values must not have the same one. */
const numbers = new WeakMap();
let count = 0;
function unique(name, value) {
  if (!numbers.has(value)) numbers.set(value, (count += 1));
  return count > 1 ? `${name} (${numbers.get(value)})` : name;
}
