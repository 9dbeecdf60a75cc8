// The server of this page as the place that computes: `workers-ai-local serve`, over its HTTP interface.

/**
 * @import { Answering, Facts, Place } from "./browser-place.js"
 * @typedef {object} Status what `GET /local/status` answers: see docs/http.md
 * @property {"loading" | "ok" | "failed"} status
 * @property {string} [error]
 * @property {string} model
 * @property {string} id
 * @property {Record<string, Answering>} models
 * @property {string} weights
 * @property {Facts["backend"]} backend
 * @property {string | null} reason
 * @property {string | null} build
 * @property {number | null} threads
 * @property {number | null} memoryBytes
 * @property {{loaded: number, total: number | null, phase: any} | null} progress
 * @property {{endpoint?: string}} hub
 */

const LOADING_EVERY_MS = 250;

/** The key of a server with `--key`, for as long as this tab is open. */
const KEY = "workers-ai-local:key";

/** The server wants a key, or another one. */
export class KeyNeeded extends Error {}

/** @param {string} key */
export function useKey(key) {
  try {
    sessionStorage.setItem(KEY, key);
  } catch {
    // Asked for again after a reload.
  }
  given = key;
}

/** @type {string | null} */
let given = null;

/** Whether the user has given a key. */
export const hasKey = () => authorization() !== undefined;

/** The headers of requests to a server with a key. */
export function authorization() {
  try {
    given ??= sessionStorage.getItem(KEY);
  } catch {
    // There is none.
  }
  return given ? { authorization: `Bearer ${given}` } : undefined;
}

/**
 * What the server of this page is: `null` if it only has files.
 *
 * @returns {Promise<Status | null>}
 * @throws {KeyNeeded}
 */
export async function findServer() {
  const response = await fetch("/local/status", { headers: authorization() }).catch(() => null);
  if (response?.status === 401) throw new KeyNeeded(given ? "This server has another key." : "This server answers only with its key, which whoever started it knows.");
  const isStatus = response?.status === 200 && response.headers.get("content-type")?.startsWith("application/json");
  return isStatus ? response.json() : null;
}

/**
 * Waits until the server has loaded its model.
 *
 * @param {Status} status
 * @param {{onProgress: (progress: any) => void, signal: AbortSignal}} options
 * @returns {Promise<Place>}
 * @throws {Error} with a message for the user
 */
export async function openServer(status, { onProgress, signal }) {
  while (status.status === "loading") {
    if (status.progress) onProgress(status.progress);
    await new Promise((resolve) => setTimeout(resolve, LOADING_EVERY_MS));
    signal.throwIfAborted();
    const now = await findServer();
    if (!now) throw new Error("The server does not answer any more. Start it again, then try again.");
    status = now;
  }
  if (status.status === "failed") throw new Error(status.error);
  /** @type {Place} */
  const place = {
    kind: "server",
    facts: factsOf(status),
    answering: (model) => (Object.hasOwn(status.models, model) ? { ...status.models[model], own: true } : status.models["*"]),
    run,
    tokenize: async (model, input) => (await post("/local/tokenize", { model, ...input })).json(),
    models: async () => (await (await ask("/client/v4/accounts/local/ai/models/search?task=Text%20Generation&per_page=1000")).json()).result,
    async refresh() {
      status = (await findServer()) ?? status;
      return factsOf(status);
    },
    close: async () => {},
  };
  return place;
}

/**
 * @param {Status} status
 * @returns {Facts}
 */
function factsOf({ model, id, backend, reason, build, threads, memoryBytes }) {
  return { file: model, id, backend, why: reason, build, threads, threadsWhy: null, memoryBytes };
}

/**
 * As `env.AI.run`.
 *
 * @param {string} model
 * @param {object} input
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>}
 */
async function run(model, input, signal) {
  const response = await post(`/client/v4/accounts/local/ai/run/${pathOf(model)}`, input, signal);
  if (response.headers.get("content-type")?.startsWith("text/event-stream")) return response.body;
  return (await response.json()).result;
}

/**
 * A model id as the end of a path. What a typed Worker asks for must not lead to other paths of this server.
 *
 * @param {string} model
 */
function pathOf(model) {
  const segments = String(model).split("/");
  if (segments.some((segment) => segment === "." || segment === "..")) throw Object.assign(new Error(`5007: No such model ${model} or task`), { name: "AiError" });
  return segments.map((segment) => encodeURIComponent(segment).replaceAll("%40", "@")).join("/");
}

/**
 * @param {string} path
 * @param {object} body
 * @param {AbortSignal} [signal]
 */
const post = (path, body, signal) => ask(path, { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body), signal });

/**
 * @param {string} path
 * @param {RequestInit} [init]
 * @returns {Promise<Response>} a successful one
 * @throws {Error} with the server's own text
 */
async function ask(path, init = {}) {
  let response;
  try {
    response = await fetch(path, { ...init, headers: { ...init.headers, ...authorization() } });
  } catch (error) {
    init.signal?.throwIfAborted();
    throw new Error("The server does not answer. Start it again with `workers-ai-local serve`, then ask again.", { cause: error });
  }
  if (response.ok) return response;
  const body = await response.text();
  throw Object.assign(new Error(errorText(body) ?? `The server answers with status ${response.status}. ${body.slice(0, 300)}`), { name: "AiError" });
}

/**
 * "CODE: text", as the binding's errors have it.
 *
 * @param {string} body
 */
function errorText(body) {
  try {
    const [{ code, message }] = JSON.parse(body).errors;
    return /^\d+: /.test(message) ? message : `${code}: ${message}`;
  } catch {
    return null;
  }
}
