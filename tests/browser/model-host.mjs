// A server of pages, of the package and of model files, as the tests of a browser's stored models need them: files with ETags, which are replaced,
// cut and slowed down, and one of any size that is made up on request.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { listening } from "../../scripts/lib/ports.mjs";
import { parseHeader, writeHeader } from "../gguf-fixtures.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const PKG = fileURLToPath(new URL("../../pkg/", import.meta.url));
const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html" };
const CORS = { "access-control-allow-origin": "*", "access-control-allow-headers": "*", "access-control-expose-headers": "*" };
const ID = "@cf/meta/llama-3.1-8b-instruct";
/** Bytes that are written at once. */
const STEP = 1 << 20;
const F32 = 0;

/**
 * A file of the host.
 *
 * @typedef {object} HostedFile
 * @property {number} size
 * @property {(from: number, to: number) => Uint8Array} read
 * @property {Record<string, string>} headers
 * @property {number} [cutAt] the first connection that comes to this byte is cut there
 * @property {number} [pause] milliseconds after each step
 * @property {number} [delay] milliseconds before the answer
 * @property {boolean} [ranges] whether it answers to ranges; default: yes
 */

/**
 * @param {Uint8Array} bytes
 * @param {Record<string, string>} headers
 * @returns {HostedFile}
 */
export const fileOf = (bytes, headers = { etag: '"1"' }) => ({ size: bytes.length, read: (from, to) => bytes.subarray(from, to), headers });

/**
 * A model that says `says`, with a matrix of about `padding` bytes in front that nothing uses. Its bytes are made up, and not in memory.
 *
 * @param {number} padding
 * @param {string[]} says
 */
export function paddedModel(padding, says) {
  const { bytes } = scriptedModel({ script: says });
  const { entries, tensors, dataStart } = parseHeader(bytes);
  const rows = Math.ceil(padding / 4096);
  const length = rows * 4096;
  const moved = tensors.map((tensor) => ({ ...tensor, offset: tensor.offset + BigInt(length) }));
  const head = writeHeader({ entries, tensors: [{ name: "padding.weight", dims: [1024n, BigInt(rows)], type: F32, offset: 0n }, ...moved] });
  const rest = bytes.subarray(dataStart);
  const [restAt, size] = [head.length + length, head.length + length + rest.length];
  /** Bytes that depend on their place, with a period that divides no piece. */
  const filler = Buffer.from(Uint8Array.from({ length: 3 * STEP + 251 }, (_, at) => (at * 7919) >> 7));
  const read = (from, to) => {
    if (from < head.length) return head.subarray(from, Math.min(to, head.length));
    if (from >= restAt) return rest.subarray(from - restAt, to - restAt);
    const at = (from - head.length) % filler.length;
    return filler.subarray(at, at + Math.min(to, restAt) - from);
  };
  return { size, read, headers: { etag: '"1"' } };
}

/** All bytes of a file. @param {HostedFile} file */
export function bytesOf({ size, read }) {
  const pieces = [];
  for (let at = 0; at < size; at += pieces.at(-1).length) pieces.push(read(at, Math.min(size, at + STEP)));
  return Buffer.concat(pieces);
}

/**
 * Starts the host. `/` is an empty page, `/pkg/` the package, other paths are those of `files`.
 *
 * @param {Map<string, HostedFile | string>} files may be changed later; texts are scripts
 * @returns {Promise<{url: string, asked: {method: string, path: string, range?: string, condition?: string, authorization?: string}[], close(): Promise<void>}>}
 *   `asked`: the requests for `files`
 */
export async function startModelHost(files) {
  const asked = [];
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    if (request.method === "OPTIONS") return response.writeHead(204, CORS).end();
    const file = files.get(pathname);
    if (typeof file === "object") {
      const { range, authorization, "if-range": condition } = request.headers;
      asked.push({ method: request.method, path: pathname, ...(range && { range }), ...(condition && { condition }), ...(authorization && { authorization }) });
      if (file.delay) await sleep(file.delay);
      return send(request, response, file);
    }
    const page = pathname === "/" ? "<!doctype html><link rel=icon href='data:,'>" : file;
    const body = page ?? (pathname.startsWith("/pkg/") ? await readFile(path.join(PKG, pathname.slice(5))).catch(() => undefined) : undefined);
    const type = TYPES[pathname === "/" ? ".html" : path.extname(pathname)] ?? "application/octet-stream";
    response.writeHead(body === undefined ? 404 : 200, { ...CORS, "content-type": type, "cache-control": "no-cache" }).end(body);
  });
  return { ...(await listening(server)), asked };
}

/**
 * @param {import("node:http").IncomingMessage} request
 * @param {import("node:http").ServerResponse} response
 * @param {HostedFile} file
 */
async function send(request, response, file) {
  const { size, headers } = file;
  const condition = request.headers["if-range"];
  const range = file.ranges !== false && (condition === undefined || condition === headers.etag) ? /^bytes=(\d+)-$/.exec(request.headers.range ?? "")?.[1] : undefined;
  const start = Number(range ?? 0);
  response.writeHead(range ? 206 : 200, { ...CORS, ...headers, "content-length": size - start, ...(range && { "content-range": `bytes ${start}-${size - 1}/${size}` }) });
  if (request.method === "HEAD") return response.end();
  for (let at = start; at < size && !response.destroyed; ) {
    const { cutAt = Infinity, pause } = file;
    if (at >= cutAt) {
      file.cutAt = undefined;
      // Later, because what a client has not read yet may be lost with the connection.
      await sleep(1000);
      return void response.destroy();
    }
    const piece = file.read(at, Math.min(size, at + STEP, cutAt));
    await new Promise((resolve) => response.write(piece, resolve));
    at += piece.length;
    if (pause) await sleep(pause);
  }
  response.end();
}

/**
 * What a new `Ai` of a page answers, or its error; and its warnings.
 *
 * @param {import("playwright-core").Page} page
 * @param {unknown} source of its model; none for the default model
 * @param {object} [options]
 * @param {object} [options.config] of the `Ai`
 * @param {string} [options.before] a script that runs in the engine's Web Worker first
 */
export const answerIn = (page, source, { config = {}, before } = {}) =>
  page.evaluate(
    async ({ id, source, config, before }) => {
      const { Ai } = await import("/pkg/browser.js");
      const script = `${before}\nawait import("${location.origin}/pkg/browser-worker.js");`;
      const worker = before && (() => new Worker(URL.createObjectURL(new Blob([script], { type: "text/javascript" })), { type: "module" }));
      const warnings = [];
      const ai = new Ai({ ...(source && { default: source }), threads: 1, ...(worker && { worker }), ...config, onWarning: (text) => warnings.push(text) });
      const result = await ai.run(id, { prompt: "Hi" }).then(({ response }) => ({ response }), ({ message }) => ({ error: message }));
      await ai.close();
      return { ...result, warnings: warnings.filter((text) => !text.includes("no local weights")) };
    },
    { id: ID, source, config, before },
  );

/** @param {import("playwright-core").Page} page */
export const listIn = (page) => page.evaluate(async () => (await import("/pkg/browser.js")).Ai.models.list());

/** @param {import("playwright-core").Page} page @param {string} name */
export const deleteIn = (page, name) => page.evaluate(async (name) => (await import("/pkg/browser.js")).Ai.models.delete(name), name);
