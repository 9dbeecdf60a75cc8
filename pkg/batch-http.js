// Batches over HTTP: over REST and at the binding's wire.

import { MAX_BYTES, batchCall, isBatch } from "./batch.js";
import { aiError } from "./errors.js";

/**
 * @import { Engine } from "./internal.d.ts"
 * @typedef {{rest: string | undefined, queue: boolean}} BatchRoute a path whose requests may be about a batch. `rest`: over REST, the model's
 *   id as the path has it. `queue`: the query says that it is a batch
 */

/**
 * What the method and the URL of a request say about a batch; `undefined`: it cannot be about one.
 *
 * @param {string} method
 * @param {string} url
 * @returns {BatchRoute | undefined}
 */
export function batchRoute(method, url) {
  if (method !== "POST") return undefined;
  const { pathname, searchParams } = new URL(url);
  const rest = /^\/client\/v4\/accounts\/[^/]+\/ai\/run\/(.+?)\/?$/.exec(pathname)?.[1];
  if (rest === undefined && pathname !== "/run" && pathname !== "/ai-gateway/run") return undefined;
  return { rest, queue: rest !== undefined && searchParams.get("queueRequest") === "true" };
}

/**
 * The longest body that is read. A batch may be longer than other requests, but only where the query or the stated length asks for it: room for a body
 * is reserved before it is read.
 *
 * @param {BatchRoute | undefined} route
 * @param {number} most the longest body of other requests
 * @param {number} stated the length that the request states, or NaN
 */
export const longestBody = (route, most, stated) => (route && (route.queue || stated > most) ? Math.max(most, MAX_BYTES) : most);

/** The text of a body that may be one of a batch, to be looked at only then. */
const NEEDLES = /"(requests|request_id)"\s*:/;

/**
 * The response to a request about a batch, also if it fails; `undefined` if it is about none.
 *
 * @param {Engine} engine
 * @param {BatchRoute} route
 * @param {{headers: [string, string][], body?: Uint8Array, limit: number}} request `limit`: the longest body that was read; there is no body if it
 *   is longer
 * @returns {Promise<Response | undefined>}
 */
export async function batchResponse(engine, route, { headers, body, limit }) {
  const call = body ? callOf(route, headers, body) : limit >= MAX_BYTES && tooLong;
  if (!call) return undefined;
  const sent = { "cf-ai-req-id": crypto.randomUUID(), ...(await corsHeaders(engine, headers)) };
  const isRest = route.rest !== undefined;
  try {
    const result = await call(engine);
    return Response.json(isRest ? { result, success: true, errors: [], messages: [] } : result, { headers: sent });
  } catch (error) {
    if (!error?.internalCode) throw error;
    const { internalCode: code, httpCode: status, body } = error;
    return Response.json(isRest ? { result: {}, success: false, errors: [{ code, message: body.message }], messages: [] } : body, { status, headers: sent });
  }
}

/** @returns {never} */
function tooLong() {
  throw aiError(3006, 413, `Request is too large: the body has more than ${MAX_BYTES} bytes, the most that a batch may have. Send several smaller batches, or a shorter conversation.`);
}

/**
 * What a body asks for; `undefined` if it is not about a batch. Over REST the query or the input asks for the queue, at the binding's wire the options do.
 *
 * @param {BatchRoute} route
 * @param {[string, string][]} headers
 * @param {Uint8Array} body
 * @returns {((engine: Engine) => Promise<object>) | undefined}
 */
function callOf({ rest, queue }, headers, body) {
  const text = new TextDecoder().decode(body);
  if (!NEEDLES.test(text)) return undefined;
  try {
    const value = JSON.parse(text);
    const inputs = rest === undefined ? value?.inputs : value;
    if (!isBatch(inputs)) return undefined;
    const model = rest === undefined ? (headerOf(headers, "cf-consn-model-id") ?? "").replace(/^[^@]*:(?=@)/, "") : decodeURIComponent(rest);
    const options = rest === undefined ? value.options : value;
    return (engine) => batchCall(engine, model, inputs, queue || options?.queueRequest === true);
  } catch {
    // What is wrong with it is for the crate to say.
    return undefined;
  }
}

/**
 * The headers that let a page of another origin read a response: those of any response of the crate, which knows the origins.
 *
 * @param {Engine} engine
 * @param {[string, string][]} headers of the request
 */
async function corsHeaders(engine, headers) {
  const origin = headerOf(headers, "origin");
  const response = await engine.fetch({ method: "GET", url: "/v1/models/any", headers: origin === undefined ? [] : [["origin", origin]], tooLarge: false });
  response.free();
  return Object.fromEntries(response.headers.filter(([name]) => name === "vary" || name.startsWith("access-control-")));
}

/**
 * @param {[string, string][]} headers
 * @param {string} wanted in lower case
 */
const headerOf = (headers, wanted) => headers.find(([name]) => name.toLowerCase() === wanted)?.[1];
