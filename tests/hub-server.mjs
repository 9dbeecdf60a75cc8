// A server that behaves like the Hugging Face hub and its CDN, with what can go wrong: gated repositories, broken connections, files that change,
// wrong bytes, and a server that asks to wait.

import { createHash } from "node:crypto";
import { createServer } from "node:http";
import { listening } from "../scripts/lib/ports.mjs";

/** The token that has access to gated repositories, and one that has none. */
export const TOKEN = "hf_test";
export const POOR_TOKEN = "hf_test_without_access";

const CORS = {
  "access-control-allow-origin": "*",
  "access-control-allow-headers": "*",
  "access-control-expose-headers": "X-Repo-Commit,X-Error-Code,X-Error-Message,ETag,Link,Accept-Ranges,Content-Range,X-Linked-Size,X-Linked-ETag",
};
const COMMIT = "0123456789abcdef0123456789abcdef01234567";

export const sha256Of = (bytes) => createHash("sha256").update(bytes).digest("hex");

/**
 * Starts both servers.
 *
 * @param {Record<string, {gated?: boolean, private?: boolean, revisions?: string[], files: Record<string, Uint8Array>}>} repositories by `owner/repo`;
 *   may be changed later
 * @param {object} [faults] may be changed later
 * @param {(request: {path: string, from: number, count: number}) => {cutAfter?: number, cutAfterMs?: number, status?: number, headers?: Record<string, string>, bytes?:
 *   Uint8Array, etag?: string, ranges?: boolean} | undefined} [faults.cdn] what goes wrong with a request to the CDN: the connection is cut after so
 *   many bytes, another answer, other bytes, another version
 * @param {(request: {path: string, count: number}) => {status: number, headers?: Record<string, string>} | undefined} [faults.hub]
 * @param {number} [faults.pageSize] files on a page of a listing
 * @returns {Promise<{url: string, cdn: string, asked: {to: "hub" | "cdn", path: string, headers: Record<string, string>}[], faults: typeof faults,
 *   close(): Promise<void>}>}
 */
export async function startHub(repositories, faults = {}) {
  const asked = [];
  const counts = { hub: 0, cdn: 0 };
  const cdn = await listening(createServer((request, response) => answerCdn(request, response)));
  const hub = await listening(createServer((request, response) => answerHub(request, response)));

  function answerHub(request, response) {
    if (request.method === "OPTIONS") return void response.writeHead(204, CORS).end();
    asked.push({ to: "hub", path: request.url, headers: request.headers });
    counts.hub += 1;
    const { pathname, searchParams } = new URL(request.url, "http://hub");
    const fault = faults.hub?.({ path: pathname, count: counts.hub });
    if (fault) return void response.writeHead(fault.status, { ...CORS, ...fault.headers }).end("fault");
    const [, name, revision] = /^\/api\/models\/([^/]+\/[^/]+)\/tree\/([^/]+)$/.exec(pathname) ?? [];
    if (name) return list(request, response, name, decodeURIComponent(revision), searchParams);
    const [, repository, at, file] = /^\/([^/]+\/[^/]+)\/resolve\/([^/]+)\/(.+)$/.exec(pathname) ?? [];
    if (repository) return resolve(request, response, repository, decodeURIComponent(at), decodeURIComponent(file));
    refuse(response, 404, "", "Page not found");
  }

  /** What the hub says to somebody without access; `true` if it did. */
  function withoutAccess(request, response, name, toFiles) {
    const { authorization } = request.headers;
    const token = authorization?.replace("Bearer ", "");
    const repository = repositories[name];
    if (token !== undefined && token !== TOKEN && token !== POOR_TOKEN) return refuse(response, 401, "", "Invalid credentials in Authorization header");
    // To strangers it does not tell what is missing from what is private.
    if (!repository) return token ? refuse(response, 404, "RepoNotFound", "Repository not found") : refuse(response, 401, "RepoNotFound", "Repository not found");
    if (repository.private && token !== TOKEN) return refuse(response, token ? 404 : 401, "RepoNotFound", "Repository not found");
    if (toFiles && repository.gated && token !== TOKEN) return refuse(response, token ? 403 : 401, "GatedRepo", `Access to model ${name} is restricted`);
    return false;
  }

  function list(request, response, name, revision, parameters) {
    if (withoutAccess(request, response, name, false)) return;
    const { files, revisions = ["main"] } = repositories[name];
    if (!revisions.includes(revision) && revision !== COMMIT) return refuse(response, 404, "RevisionNotFound", `Invalid rev id: ${revision}`);
    const all = [{ type: "directory", oid: "1", size: 0, path: "a-folder" }, ...Object.entries(files).map(([path, bytes]) => entryOf(path, bytes))];
    const from = Number(parameters.get("cursor") ?? 0);
    const size = faults.pageSize ?? 1000;
    const next = from + size < all.length ? { link: `<${hub.url}/api/models/${name}/tree/${encodeURIComponent(revision)}?recursive=true&cursor=${from + size}>; rel="next"` } : {};
    response.writeHead(200, { ...CORS, "content-type": "application/json", ...next }).end(JSON.stringify(all.slice(from, from + size)));
  }

  function resolve(request, response, name, revision, path) {
    if (withoutAccess(request, response, name, true)) return;
    const { files, revisions = ["main"] } = repositories[name];
    if (!revisions.includes(revision) && revision !== COMMIT) return refuse(response, 404, "RevisionNotFound", `Invalid rev id: ${revision}`);
    const bytes = files[path];
    if (!bytes) return refuse(response, 404, "EntryNotFound", "Entry not found");
    const about = { ...CORS, "x-repo-commit": COMMIT, "accept-ranges": "bytes" };
    // Small files are in the repository itself.
    if (!isLfs(path)) return void response.writeHead(200, { ...about, etag: `"${gitIdOf(bytes)}"`, "content-length": bytes.length }).end(bytes);
    const digest = sha256Of(bytes);
    const location = `${cdn.url}/${name}/${digest}/${encodeURIComponent(path)}?signature=1`;
    response.writeHead(302, { ...about, location, "x-linked-etag": `"${digest}"`, "x-linked-size": bytes.length }).end(`Found. Redirecting to ${location}`);
  }

  function answerCdn(request, response) {
    if (request.method === "OPTIONS") return void response.writeHead(204, CORS).end();
    asked.push({ to: "cdn", path: request.url, headers: request.headers });
    counts.cdn += 1;
    const [, name, , path] = /^\/([^/]+\/[^/]+)\/([^/]+)\/([^?]+)/.exec(request.url) ?? [];
    const from = Number(/^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] ?? 0);
    const fault = faults.cdn?.({ path: decodeURIComponent(path), from, count: counts.cdn }) ?? {};
    if (fault.status) return void response.writeHead(fault.status, { ...CORS, ...fault.headers }).end("fault");
    const bytes = fault.bytes ?? repositories[name].files[decodeURIComponent(path)];
    const etag = fault.etag ?? `"${sha256Of(bytes)}"`;
    if (request.headers["if-none-match"] === etag) return void response.writeHead(304, { ...CORS, etag }).end();
    const part = fault.ranges !== false && request.headers.range !== undefined && (request.headers["if-range"] ?? etag) === etag;
    if (part && from >= bytes.length) return void response.writeHead(416, { ...CORS, "content-range": `bytes */${bytes.length}` }).end();
    const sent = part ? bytes.subarray(from) : bytes;
    response.writeHead(part ? 206 : 200, { ...CORS, etag, "accept-ranges": "bytes", "content-length": sent.length, ...(part && { "content-range": `bytes ${from}-${bytes.length - 1}/${bytes.length}` }) });
    if (fault.cutAfter === undefined || fault.cutAfter >= sent.length) return void response.end(sent);
    // A client may lose what it has not read yet when the connection ends, unless that takes a while.
    response.write(sent.subarray(0, fault.cutAfter), () => setTimeout(() => response.destroy(), fault.cutAfterMs ?? 2));
    if (fault.cutAfter === 0) response.destroy();
  }

  return {
    url: hub.url,
    cdn: cdn.url,
    asked,
    faults,
    close: async () => void (await Promise.all([hub.close(), cdn.close()])),
  };
}

const isLfs = (path) => /\.(gguf|safetensors|bin)$/.test(path);
const gitIdOf = (bytes) => createHash("sha1").update(`blob ${bytes.length}\0`).update(bytes).digest("hex");

function entryOf(path, bytes) {
  const entry = { type: "file", oid: gitIdOf(bytes), size: bytes.length, path };
  return isLfs(path) ? { ...entry, lfs: { oid: sha256Of(bytes), size: bytes.length, pointerSize: 134 }, xetHash: "0".repeat(64) } : entry;
}

function refuse(response, status, code, message) {
  response.writeHead(status, { ...CORS, "content-type": "application/json", ...(code && { "x-error-code": code, "x-error-message": message }) }).end(JSON.stringify({ error: message }));
  return true;
}
