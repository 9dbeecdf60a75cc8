// What `serve` answers about itself, under /local/: which model it runs and how (the playground shows it), and the tokens of a prompt.

import { computing } from "../computing.js";
import { MAX_BODY_BYTES } from "../node-http.js";

/**
 * @import { IncomingMessage, ServerResponse } from "node:http"
 * @import { Ai, Backend } from "../index.d.ts"
 *
 * @typedef {object} Answering a model that answers for ids
 * @property {string} file the name of its file
 * @property {string} source what a program gives to use the same model; "" for the default one
 * @property {number | null} context tokens that prompt and answer may have together; `null` before it is loaded
 *
 * @typedef {object} Status what `GET /local/status` answers
 * @property {"loading" | "ok"} status
 * @property {string} model the name of the model's file
 * @property {string} source what a program gives to use the same model; "" for the default one
 * @property {string} id the model id that was loaded at the start
 * @property {Record<string, Answering>} models the ids with a model of their own; "*": all other ids
 * @property {string} weights where a browser finds the model, to compute it itself: a name, or an address on this server; "" for the default one
 * @property {Backend | null} backend
 * @property {string | null} reason why the backend is this one: the GPU that computes, or why none does although it was preferred
 * @property {string | null} build
 * @property {number | null} threads
 * @property {number | null} memoryBytes
 * @property {number | null} context tokens that prompt and answer may have together
 * @property {{phase: string, loaded: number, total: number | null} | null} progress of the loading
 * @property {{endpoint?: string}} hub where names are looked up
 *
 * @typedef {(request: IncomingMessage, response: ServerResponse, pathname: string) => Promise<boolean>} LocalApi resolves to `false`, without a
 *   response, for other paths
 */

/**
 * @param {Pick<Ai, "stats" | "backend" | "backendReason">} ai
 * @param {Omit<Status, "reason" | "build" | "threads" | "memoryBytes" | "progress">} known
 * @param {import("../index.d.ts").ModelProgress | null} progress
 * @returns {Promise<Status>}
 */
export async function statusOf(ai, known, progress) {
  const { why, build, threads, memoryBytes } = await computing(ai);
  const nothing = { build: null, threads: null, memoryBytes: null };
  return {
    ...known,
    reason: why,
    ...(known.backend ? { build, threads, memoryBytes } : nothing),
    progress: progress && known.status === "loading" ? { phase: progress.phase, loaded: progress.loaded, total: progress.total } : null,
  };
}

/**
 * @param {Pick<Ai, "tokenize">} ai
 * @param {() => Promise<Status>} status
 * @returns {LocalApi}
 */
export function localApi(ai, status) {
  return async (request, response, pathname) => {
    const { method } = request;
    if (pathname === "/local/status" && (method === "GET" || method === "HEAD")) {
      send(response, 200, await status());
      return true;
    }
    if (pathname !== "/local/tokenize" || method !== "POST") return false;
    const input = await inputOf(request);
    if (!input) {
      send(response, 400, failure(5006, 'the body must be JSON such as {"model": "@cf/…", "messages": […]}'));
      return true;
    }
    const { model, ...rest } = input;
    try {
      send(response, 200, await ai.tokenize(String(model), /** @type {any} */ (rest)));
    } catch (error) {
      send(response, error.httpCode ?? 400, failure(error.internalCode ?? 5006, error.message));
    }
    return true;
  };
}

/**
 * @param {number} code
 * @param {string} message
 */
const failure = (code, message) => ({ success: false, result: null, errors: [{ code, message }], messages: [] });

/**
 * @param {ServerResponse} response
 * @param {number} status
 * @param {object} body
 */
function send(response, status, body) {
  response.writeHead(status, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(`${JSON.stringify(body)}\n`);
}

/**
 * The object in a request's body; `null` if there is none.
 *
 * @param {IncomingMessage} request
 * @returns {Promise<Record<string, any> | null>}
 */
async function inputOf(request) {
  const chunks = [];
  let bytes = 0;
  for await (const chunk of request) {
    bytes += chunk.length;
    // The rest is read, so that the answer arrives, but not kept.
    if (bytes <= MAX_BODY_BYTES) chunks.push(chunk);
  }
  if (bytes > MAX_BODY_BYTES) return null;
  try {
    const value = JSON.parse(Buffer.concat(chunks).toString());
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : null;
  } catch {
    return null;
  }
}
