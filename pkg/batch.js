// Batches: requests that are queued together, computed in the background while the host lives, and asked for later by their id.

import { aiError } from "./errors.js";

/**
 * @import { Engine } from "./internal.d.ts"
 * @import { BatchQueued, BatchResult, BatchResponse } from "./index.d.ts"
 */

/** The largest batch in bytes of JSON, as the service has it, and the most requests. */
const MAX_BYTES = 10_000_000;
const MAX_REQUESTS = 1_000;
/** The most batches that are kept, and for how long after their end. */
const MAX_BATCHES = 100;
const KEPT_MS = 60 * 60_000;
/** Requests of a batch that are computed at the same time. The engine computes them in one batch of sequences. */
const TOGETHER = 4;
/** Without an answer for so long, a batch is begun again where it is: in workerd, its work may have ended with the request that began it. */
const STALLED_MS = 60_000;

/**
 * @typedef {object} Request
 * @property {string} input as JSON
 * @property {{external_reference?: unknown}} named what its response is named by
 *
 * @typedef {object} Batch
 * @property {string} model
 * @property {Request[]} requests
 * @property {(BatchResponse | undefined)[]} responses
 * @property {number} next the first request that nobody computes yet
 * @property {number} progress when there was an answer last
 * @property {number} runs how often it was begun
 */

/**
 * All batches of this thread, by their ids, the oldest first.
 *
 * @type {Map<string, Batch>}
 */
const batches = new Map();

/** @param {Batch} batch */
const isComplete = ({ responses }) => responses.every((response) => response !== undefined);

/**
 * Whether an input belongs to a batch: it queues one, or asks for one.
 *
 * @param {any} inputs
 */
export const isBatch = (inputs) => Array.isArray(inputs?.requests) || typeof inputs?.request_id === "string";

/**
 * Queues a batch (`{requests}`), or returns what is known about one (`{request_id}`).
 *
 * @param {Engine} engine
 * @param {string} model
 * @param {any} inputs
 * @param {boolean} queue whether the caller asked for a queue
 * @returns {Promise<BatchQueued | BatchResult>}
 * @throws {InferenceUpstreamError} 5006 for a batch that cannot be queued, 5007 for an unknown model, 3040 if there are too many, 3042 for an unknown id
 */
export async function batchCall(engine, model, inputs, queue) {
  return inputs.requests === undefined ? poll(engine, inputs.request_id) : submit(engine, model, inputs.requests, queue);
}

/**
 * @param {Engine} engine
 * @param {string} model
 * @param {any[]} requests
 * @param {boolean} queue
 */
async function submit(engine, model, requests, queue) {
  if (!queue) throw aiError(5006, 400, "'/requests' is a batch, which is queued: set the option queueRequest to true");
  if (requests.length === 0) throw aiError(5006, 400, "'/requests' has no entries");
  if (requests.length > MAX_REQUESTS) throw aiError(5006, 400, `'/requests' has ${requests.length} entries, at most ${MAX_REQUESTS} are allowed`);
  const strange = requests.findIndex((request) => typeof request !== "object" || request === null || Array.isArray(request));
  if (strange >= 0) throw aiError(5006, 400, `Type mismatch of '/requests/${strange}', 'object' expected`);
  const read = requests.map(readRequest);
  const bytes = read.reduce((sum, { input }) => sum + encoder.encode(input).length, 0);
  if (bytes > MAX_BYTES) throw aiError(3006, 413, `Request is too large: a batch has at most ${MAX_BYTES} bytes`);
  dropOld();
  if (batches.size >= MAX_BATCHES) throw aiError(3040, 429, `Out of capacity: ${batches.size} batches are waiting. Try again later.`);
  const id = crypto.randomUUID();
  const responses = Array.from(requests, () => undefined);
  /** @type {Batch} */
  const batch = { model, requests: read, responses, next: 0, progress: Date.now(), runs: 0 };
  if (!(await isListed(engine, model))) {
    // A script or the real service may know the id. If not, that is an error at once, not one of each request.
    batch.next = 1;
    const first = await answered(engine, batch, 0);
    if (first.error?.startsWith(UNKNOWN)) throw aiError(5007, 400, first.error.slice(UNKNOWN.length));
    batch.responses[0] = first;
  }
  batches.set(id, batch);
  begin(engine, batch);
  return { status: /** @type {const} */ ("queued"), request_id: id, model };
}

const encoder = new TextEncoder();

/**
 * @param {Record<string, unknown>} request
 * @returns {Request}
 */
const readRequest = ({ external_reference, ...input }) => ({
  input: JSON.stringify({ ...input, stream: false }),
  named: external_reference === undefined ? {} : { external_reference },
});

/** What the message of an error about an unknown model begins with. */
const UNKNOWN = "5007: ";

/**
 * Whether a model is in the catalogue or the configuration.
 *
 * @param {Engine} engine
 * @param {string} model
 */
async function isListed(engine, model) {
  const listing = await engine.fetch({ method: "GET", url: `https://workers-binding.ai/v1/models/${encodeURIComponent(model)}`, headers: [], tooLarge: false });
  listing.free();
  return listing.status === 200;
}

/** Drops batches that were complete for long, and the oldest complete ones if there are too many. */
function dropOld() {
  for (const [id, batch] of batches) {
    if (isComplete(batch) && (Date.now() - batch.progress > KEPT_MS || batches.size >= MAX_BATCHES)) batches.delete(id);
  }
}

/**
 * Computes the requests that nobody computes yet, some of them at the same time.
 *
 * @param {Engine} engine
 * @param {Batch} batch
 */
function begin(engine, batch) {
  batch.runs += 1;
  const run = batch.runs;
  const work = async () => {
    while (batch.next < batch.requests.length && batch.runs === run) {
      const index = batch.next;
      batch.next += 1;
      const response = await answered(engine, batch, index);
      batch.responses[index] ??= response;
      batch.progress = Date.now();
    }
  };
  for (let count = 0; count < TOGETHER; count += 1) void work();
}

/**
 * @param {Engine} engine
 * @param {Batch} batch
 * @param {number} index
 * @returns {Promise<BatchResponse>}
 */
async function answered(engine, { model, requests }, index) {
  const { input, named } = requests[index];
  try {
    const result = await (await engine.generate(model, input)).object();
    return { id: index, result, success: true, ...named };
  } catch (error) {
    return { id: index, result: {}, success: false, error: String(error?.message ?? error), ...named };
  }
}

/**
 * @param {Engine} engine
 * @param {string} id
 */
function poll(engine, id) {
  const batch = batches.get(id);
  if (!batch) throw aiError(3042, 404, `There is no batch ${id}. Batches are kept for an hour after their end, while this program runs`);
  const responses = batch.responses.filter((response) => response !== undefined);
  if (responses.length === batch.responses.length) return { responses, usage: usageOf(responses) };
  if (Date.now() - batch.progress > STALLED_MS) {
    batch.next = batch.responses.indexOf(undefined);
    batch.progress = Date.now();
    begin(engine, batch);
  }
  return { status: responses.length > 0 ? /** @type {const} */ ("running") : /** @type {const} */ ("queued"), request_id: id, model: batch.model };
}

/**
 * The token counts of all answers together.
 *
 * @param {BatchResponse[]} responses
 */
function usageOf(responses) {
  const usage = { prompt_tokens: 0, completion_tokens: 0, total_tokens: 0 };
  for (const { result } of responses) {
    const counts = /** @type {any} */ (result)?.usage ?? {};
    usage.prompt_tokens += counts.prompt_tokens ?? counts.input_tokens ?? 0;
    usage.completion_tokens += counts.completion_tokens ?? counts.output_tokens ?? 0;
  }
  usage.total_tokens = usage.prompt_tokens + usage.completion_tokens;
  return usage;
}

/**
 * @typedef {{model: string, inputs: any, queue: boolean, enveloped: boolean}} BatchRequest over HTTP. `enveloped`: over REST
 */

/**
 * The response to an HTTP request about a batch, also to one that fails.
 *
 * @param {Engine} engine
 * @param {BatchRequest} batch
 */
export async function batchResponse(engine, { model, inputs, queue, enveloped }) {
  const headers = { "cf-ai-req-id": crypto.randomUUID() };
  try {
    const result = await batchCall(engine, model, inputs, queue);
    return Response.json(enveloped ? { result, success: true, errors: [], messages: [] } : result, { headers });
  } catch (error) {
    if (!error?.internalCode) throw error;
    const { internalCode: code, httpCode: status, body } = error;
    return Response.json(enveloped ? { result: {}, success: false, errors: [{ code, message: body.message }], messages: [] } : body, { status, headers });
  }
}

/** The text of a body that may be one of a batch, to be looked at only then. */
const NEEDLES = /"(requests|request_id)"\s*:/;

/**
 * The batch that an HTTP request is about; `undefined` if it is about none. Over REST the query asks for the queue, at the binding's wire the
 * options do.
 *
 * @param {{method: string, url: string, headers: [string, string][], body?: Uint8Array}} request
 * @returns {BatchRequest | undefined}
 */
export function batchOf({ method, url, headers, body }) {
  if (method !== "POST" || !body) return undefined;
  const { pathname, searchParams } = new URL(url);
  const rest = /^\/client\/v4\/accounts\/[^/]+\/ai\/run\/(.+?)\/?$/.exec(pathname);
  const wire = pathname === "/run" || pathname === "/ai-gateway/run";
  if (!rest && !wire) return undefined;
  const text = new TextDecoder().decode(body);
  if (!NEEDLES.test(text)) return undefined;
  try {
    const value = JSON.parse(text);
    const inputs = rest ? value : value?.inputs;
    if (!isBatch(inputs)) return undefined;
    const header = headers.find(([name]) => name.toLowerCase() === "cf-consn-model-id")?.[1] ?? "";
    const model = rest ? decodeURIComponent(rest[1]) : header.replace(/^[^@]*:(?=@)/, "");
    const queue = rest ? searchParams.get("queueRequest") === "true" || value.queueRequest === true : value.options?.queueRequest === true;
    return { model, inputs, queue, enveloped: Boolean(rest) };
  } catch {
    // What is wrong with it is for the handler to say.
    return undefined;
  }
}
