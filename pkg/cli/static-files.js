// Serves the playground's files over HTTP, for `serve` and `npm start`: `www/` at /, `pkg/` at /pkg/, the model at /models/.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { DEFAULT_MODEL } from "../default-model.js";
import { partNames } from "../source.js";

/**
 * @import { Stats } from "node:fs"
 * @import { IncomingMessage, ServerResponse } from "node:http"
 */

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));

/** @type {Record<string, string>} */
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".mjs": "text/javascript; charset=utf-8",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".png": "image/png",
  ".ico": "image/x-icon",
  ".wasm": "application/wasm",
};

const HEADERS = {
  // These two headers make a page "cross-origin isolated", which browsers require for shared memory.
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  // A cross-origin isolated page requires this header on every file.
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-cache",
  "accept-ranges": "bytes",
};

/**
 * Only pages of this server may show these two in a frame. What the sandbox runs has an origin of its own, however the page was opened.
 *
 * @type {Record<string, string>}
 */
const POLICIES = {
  "index.html": "frame-ancestors 'self'",
  "sandbox.html": "sandbox allow-scripts; frame-ancestors 'self'",
};

const MODELS = "/models/";

/** The path at which a browser asks for the server's model, whatever its name is. */
export const MODEL_PATHNAME = MODELS + DEFAULT_MODEL.file;

/** The path of a model's file by its name, see `servedFiles`. @param {string} name */
export const modelPathname = (name) => MODELS + encodeURIComponent(name);

/**
 * The files of a model and the names by which they are served: their own, unless those do not tell from one which others there are.
 *
 * @param {string | string[]} model the path of its file, of which the others are found by its name; or all paths, the first one first
 * @returns {[name: string, file: string][]}
 */
export function servedFiles(model) {
  const files = [model].flat();
  const names = files.map((file) => path.basename(file));
  const parts = partNames(names[0]);
  if (files.length === 1) return parts.map((name) => [name, name === names[0] ? files[0] : path.join(path.dirname(files[0]), name)]);
  const areParts = parts.length === files.length && parts.every((part) => names.includes(part));
  const number = (/** @type {number} */ index) => String(index).padStart(5, "0");
  const stem = names[0].replace(/\.gguf$/i, "");
  return files.map((file, index) => [areParts ? names[index] : `${stem}-${number(index + 1)}-of-${number(files.length)}.gguf`, file]);
}

/** Whether a path, see `pathOf`, is that of a file of the playground or of the package, which are public. @param {string} pathname */
export const isPagePart = (pathname) => pathname === "/" || /^\/(pkg|vendor)\//.test(pathname) || /^\/[\w-]+\.(html|js|css|svg)$/.test(pathname);

/**
 * Returns a handler that answers a request with a file. It resolves to `false`, without a response, if there is no such file.
 *
 * @param {object} [options]
 * @param {string | string[]} [options.modelPath] the file served as /models/<the default model's name> and by its own name; if it is a part of a
 *   split model, all parts are served by theirs, see `servedFiles`
 * @param {string} [options.wwwFolder] a folder instead of `www/`, for tests with other pages
 * @returns {(request: IncomingMessage, response: ServerResponse) => Promise<boolean>}
 */
export function staticFiles({ modelPath, wwwFolder = path.join(PACKAGE, "www") } = {}) {
  const models = new Map(modelPath ? servedFiles(modelPath) : []);
  // A single path may be that of a later part.
  const [given] = [modelPath].flat();
  const [first] = [...models].find(([, file]) => file === given) ?? [...models.keys()];
  const folders = { "/pkg/": path.join(PACKAGE, "pkg"), "/": wwwFolder };

  /**
   * The file for a path, or `null`. Never a file outside the served folders.
   *
   * @param {string} pathname
   */
  const locate = (pathname) => {
    if (first !== undefined && pathname === MODEL_PATHNAME) return models.get(first) ?? null;
    const model = pathname.startsWith(MODELS) ? models.get(pathname.slice(MODELS.length)) : undefined;
    if (model) return model;
    const [prefix, folder] = Object.entries(folders).find(([prefix]) => pathname.startsWith(prefix)) ?? [];
    if (!prefix || !folder || pathname.includes("\0")) return null;
    const file = path.join(folder, pathname.slice(prefix.length) || "index.html");
    return file.startsWith(folder + path.sep) ? file : null;
  };

  return async (request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") return false;
    const pathname = pathOf(request.url ?? "/");
    const file = pathname ? locate(pathname) : null;
    const found = file ? await stat(file).catch(() => null) : null;
    if (!file || !found?.isFile()) return false;
    // By this name a client finds the other parts, and knows which model it is.
    /** @type {Record<string, string>} */
    const own = pathname === MODEL_PATHNAME && first !== undefined && first !== DEFAULT_MODEL.file ? { "content-location": modelPathname(first) } : {};
    const policy = path.dirname(file) === wwwFolder ? POLICIES[path.basename(file)] : undefined;
    if (policy) own["content-security-policy"] = policy;
    await send(request, response, file, found, own);
    return true;
  };
}

/**
 * Sends a response whose body is one line of text.
 *
 * @param {IncomingMessage} request
 * @param {ServerResponse} response
 * @param {number} status
 * @param {string} text
 * @param {Record<string, string>} [headers]
 */
export function refuse(request, response, status, text, headers = {}) {
  response.writeHead(status, { ...HEADERS, "content-type": "text/plain; charset=utf-8", ...headers });
  response.end(request.method === "HEAD" ? undefined : `${text}\n`);
}

/**
 * @param {IncomingMessage} request
 * @param {ServerResponse} response
 * @param {string} file
 * @param {Stats} found
 * @param {Record<string, string>} more headers
 */
async function send(request, response, file, found, more) {
  const etag = `"${found.size.toString(16)}-${Math.floor(found.mtimeMs).toString(16)}"`;
  /** @type {Record<string, string | number>} */
  const headers = {
    ...HEADERS,
    ...more,
    etag,
    "content-type": TYPES[path.extname(file).toLowerCase()] ?? "application/octet-stream",
  };
  if (request.headers["if-none-match"] === etag) {
    response.writeHead(304, headers).end();
    return;
  }
  // If-Range: the range applies only if the file is still the version whose start the client has.
  const sameFile = (request.headers["if-range"] ?? etag) === etag;
  const range = sameFile ? rangeOf(request.headers.range, found.size) : null;
  if (range === "unsatisfiable") {
    return refuse(request, response, 416, "no such range", { "content-range": `bytes */${found.size}` });
  }

  const { start, end } = range ?? { start: 0, end: found.size - 1 };
  headers["content-length"] = end - start + 1;
  if (range) headers["content-range"] = `bytes ${start}-${end}/${found.size}`;
  response.writeHead(range ? 206 : 200, headers);
  if (request.method === "HEAD" || found.size === 0) return response.end();
  await pipeline(createReadStream(file, { start, end }), response);
}

/**
 * The path of a request as files and access are looked up by it: decoded, without `..`; `null` if it is not valid.
 *
 * @param {string} url
 */
export function pathOf(url) {
  try {
    return decodeURIComponent(new URL(url, "http://localhost").pathname);
  } catch {
    return null;
  }
}

/**
 * Parses a range of bytes, both ends inclusive; `null` if there is none or it may be ignored (several ranges, other units).
 *
 * @param {string | undefined} header
 * @param {number} size
 */
function rangeOf(header, size) {
  const parts = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (!parts || (parts[1] === "" && parts[2] === "")) return null;
  const [first, last] = [parts[1], parts[2]].map((text) => (text === "" ? null : Number(text)));
  const start = first ?? Math.max(0, size - (last ?? 0));
  const end = first === null || last === null ? size - 1 : Math.min(last, size - 1);
  if (first !== null && last !== null && last < first) return null;
  return start < size && end >= start ? { start, end } : "unsatisfiable";
}
