// The playground's files over HTTP: `www/` at /, `pkg/` at /pkg/, the model at /models/. For `serve`, and for `npm start`.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { fileURLToPath } from "node:url";
import { DEFAULT_MODEL } from "../default-model.js";

const PACKAGE = fileURLToPath(new URL("../../", import.meta.url));

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
  // Both together make a page "cross-origin isolated", without which a browser gives it no shared memory.
  "cross-origin-opener-policy": "same-origin",
  "cross-origin-embedder-policy": "require-corp",
  // Which asks it of every file in turn.
  "cross-origin-resource-policy": "same-origin",
  "cache-control": "no-cache",
  "accept-ranges": "bytes",
};

/** The path at which the playground's page asks for its model. */
export const MODEL_PATHNAME = `/models/${DEFAULT_MODEL.file}`;

/**
 * Gives a function that answers a request with a file, and says whether there was one: where there is none, it has not
 * answered.
 *
 * @param {object} [options]
 * @param {string} [options.modelPath] the file served as /models/<the default model's name>
 * @param {string} [options.wwwFolder] instead of `www/`, for tests with pages of their own
 */
export function staticFiles({ modelPath, wwwFolder = path.join(PACKAGE, "www") } = {}) {
  const folders = { "/pkg/": path.join(PACKAGE, "pkg"), "/": wwwFolder };

  /** The file behind a path, or `null`; never one outside the served folders. */
  const locate = (pathname) => {
    if (modelPath && pathname === MODEL_PATHNAME) return modelPath;
    const [prefix, folder] = Object.entries(folders).find(([prefix]) => pathname.startsWith(prefix)) ?? [];
    if (!folder || pathname.includes("\0")) return null;
    const file = path.join(folder, pathname.slice(prefix.length) || "index.html");
    return file.startsWith(folder + path.sep) ? file : null;
  };

  return async (request, response) => {
    if (request.method !== "GET" && request.method !== "HEAD") return false;
    const pathname = pathOf(request.url);
    const file = pathname && locate(pathname);
    const found = file ? await stat(file).catch(() => null) : null;
    if (!found?.isFile()) return false;
    await send(request, response, file, found);
    return true;
  };
}

/** An answer of one line. */
export function refuse(request, response, status, text, headers = {}) {
  response.writeHead(status, { ...HEADERS, "content-type": "text/plain; charset=utf-8", ...headers });
  response.end(request.method === "HEAD" ? undefined : `${text}\n`);
}

async function send(request, response, file, found) {
  const etag = `"${found.size.toString(16)}-${Math.floor(found.mtimeMs).toString(16)}"`;
  const headers = {
    ...HEADERS,
    etag,
    "content-type": TYPES[path.extname(file).toLowerCase()] ?? "application/octet-stream",
  };
  if (request.headers["if-none-match"] === etag) {
    response.writeHead(304, headers).end();
    return;
  }
  // A range counts only while the file is the one whose beginning the reader has.
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

function pathOf(url) {
  try {
    return decodeURIComponent(new URL(url, "http://localhost").pathname);
  } catch {
    return null;
  }
}

/** One range of bytes, both ends included; `null` for none or a form that may be ignored (several ranges, other units). */
function rangeOf(header, size) {
  const parts = /^bytes=(\d*)-(\d*)$/.exec(header ?? "");
  if (!parts || (parts[1] === "" && parts[2] === "")) return null;
  const [first, last] = [parts[1], parts[2]].map((text) => (text === "" ? null : Number(text)));
  const start = first ?? Math.max(0, size - last);
  const end = first === null || last === null ? size - 1 : Math.min(last, size - 1);
  if (first !== null && last !== null && last < first) return null;
  return start < size && end >= start ? { start, end } : "unsatisfiable";
}
