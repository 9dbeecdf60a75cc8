// The playground's server: static files, on this machine only. `www/` at /, `pkg/` at /pkg/, the model at /models/.

import { createReadStream } from "node:fs";
import { stat } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { pipeline } from "node:stream/promises";
import { DEFAULT_MODEL } from "../pkg/default-model.js";
import { HOST } from "./lib/ports.mjs";
import { inProject } from "./lib/project.mjs";
import { UserError } from "./lib/report.mjs";

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
  "cache-control": "no-cache",
  "accept-ranges": "bytes",
};

/**
 * @param {object} [options]
 * @param {number} [options.port] any free port where absent
 * @param {string} [options.modelPath] the file served as /models/<the default model's name>
 * @param {string} [options.wwwFolder] instead of `www/`, for tests with pages of their own
 */
export async function startPlayground({ port = 0, modelPath, wwwFolder = inProject("www") } = {}) {
  const folders = { "/pkg/": inProject("pkg"), "/": wwwFolder };

  /** The file behind a path, or `null`; never one outside the served folders. */
  const locate = (pathname) => {
    if (modelPath && pathname === `/models/${DEFAULT_MODEL.file}`) return modelPath;
    const [prefix, folder] = Object.entries(folders).find(([prefix]) => pathname.startsWith(prefix)) ?? [];
    if (!folder || pathname.includes("\0")) return null;
    const file = path.join(folder, pathname.slice(prefix.length) || "index.html");
    return file.startsWith(folder + path.sep) ? file : null;
  };

  const server = createServer((request, response) => {
    answer(request, response, locate).catch((error) => {
      // A reader that went away mid-file is no fault of ours.
      if (error.code !== "ERR_STREAM_PREMATURE_CLOSE") console.error(`playground: ${request.url}: ${error.message}`);
      response.destroy();
    });
  });
  await new Promise((resolve, reject) => {
    server.once("error", (error) => reject(new UserError(`the playground cannot listen on port ${port} (${error.code})`)));
    server.listen(port, HOST, resolve);
  });
  return {
    url: `http://${HOST}:${server.address().port}`,
    close: () =>
      new Promise((resolve) => {
        server.close(resolve);
        server.closeAllConnections();
      }),
  };
}

async function answer(request, response, locate) {
  const refuse = (status, text, headers = {}) => {
    response.writeHead(status, { ...HEADERS, "content-type": "text/plain; charset=utf-8", ...headers });
    response.end(request.method === "HEAD" ? undefined : `${text}\n`);
  };
  if (request.method !== "GET" && request.method !== "HEAD") {
    return refuse(405, "GET or HEAD only", { allow: "GET, HEAD" });
  }
  const pathname = pathOf(request.url);
  const file = pathname && locate(pathname);
  const found = file ? await stat(file).catch(() => null) : null;
  if (!found?.isFile()) return refuse(404, `no ${pathname ?? "such address"}`);

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
  if (range === "unsatisfiable") return refuse(416, "no such range", { "content-range": `bytes */${found.size}` });

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
