// Batches: requests that are queued together, computed in the background while the host lives, and asked for later by their id.

import { BatchRun, attempt } from "./batch-run.js";
import { aiError } from "./errors.js";

/**
 * @import { Engine } from "./internal.d.ts"
 * @import { BatchQueued, BatchResult, BatchResponse } from "./index.d.ts"
 * @typedef {{input: string, named: {external_reference?: unknown}}} Request its input as JSON, and what its response is named by
 */

/** The largest batch in bytes of JSON, as the service has it, and the most requests. */
export const MAX_BYTES = 10_000_000;
const MAX_REQUESTS = 1_000;
/** The most batches that are kept, for how long after their end, and for how long if they do not end. */
const MAX_BATCHES = 100;
const KEPT_MS = 60 * 60_000;
const UNFINISHED_KEPT_MS = 24 * 60 * 60_000;

/** A batch, with the responses that there are. */
export class Batch {
  id = crypto.randomUUID();
  #begun = Date.now();
  /** When it was complete. @type {number | undefined} */
  #ended;
  /** @type {(BatchResponse | undefined)[]} */
  responses;
  /** What computes it. @type {BatchRun | undefined} */
  run;

  /**
   * @param {string} model
   * @param {Request[]} requests
   */
  constructor(model, requests) {
    this.model = model;
    this.requests = requests;
    this.responses = Array.from(requests, () => undefined);
  }

  /**
   * @param {number} index
   * @param {BatchResponse} response
   */
  answered(index, response) {
    this.responses[index] = response;
    if (this.responses.every((each) => each !== undefined)) this.#ended = Date.now();
  }

  isComplete() {
    return this.#ended !== undefined;
  }

  /** Whether it is not kept any longer. */
  isOver() {
    return this.#ended === undefined ? Date.now() - this.#begun > UNFINISHED_KEPT_MS : Date.now() - this.#ended > KEPT_MS;
  }

  /**
   * Computes what has no response yet, in place of an earlier run.
   *
   * @param {Engine} engine
   */
  begin(engine) {
    this.run = new BatchRun(engine, this, (run) => this.run === run && batches.has(this.id) && !this.isOver());
    this.run.start();
  }
}

/**
 * All batches of this thread, by their ids, the oldest first.
 *
 * @type {Map<string, Batch>}
 */
const batches = new Map();

/** The fields of which every input has at least one, unless it asks for a batch. */
const INPUTS = ["prompt", "messages", "input", "text", "contexts", "requests"];

/**
 * Whether an input belongs to a batch: it queues one, or asks for one.
 *
 * @param {any} inputs
 */
export const isBatch = (inputs) => Array.isArray(inputs?.requests) || isPoll(inputs);

/** @param {any} inputs */
const isPoll = (inputs) => typeof inputs?.request_id === "string" && INPUTS.every((field) => inputs[field] === undefined);

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
  const bytes = new TextEncoder().encode(JSON.stringify(requests)).length;
  if (bytes > MAX_BYTES) throw aiError(3006, 413, `Request is too large: a batch has at most ${MAX_BYTES} bytes. Send several smaller batches.`);
  makeRoom();
  const batch = new Batch(model, requests.map(readRequest));
  if (!(await isListed(engine, model))) {
    // A script or the real service may know the id. If not, that is an error at once, not one of each request.
    const first = await attempt(engine, batch, 0);
    if (first?.error?.startsWith(UNKNOWN)) throw aiError(5007, 400, first.error.slice(UNKNOWN.length));
    if (first) batch.answered(0, first);
  }
  batches.set(batch.id, batch);
  batch.begin(engine);
  return { status: /** @type {const} */ ("queued"), request_id: batch.id, model };
}

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
 * Whether an engine knows a model id before it asks a script or the service.
 *
 * @param {Engine} engine
 * @param {string} model
 */
async function isListed(engine, model) {
  const id = encodeURIComponent(model);
  const listing = await engine.fetch({ method: "GET", url: `/v1/models/${id}`, headers: [], tooLarge: false });
  listing.free();
  if (listing.status !== 200 || !engine.strict) return listing.status === 200;
  // 5007 is said before the input is read, and nobody is asked about an input that cannot be read.
  const refusal = await engine.fetch({ method: "POST", url: `/client/v4/accounts/local/ai/run/${id}`, headers: [], tooLarge: false });
  refusal.free();
  return JSON.parse(new TextDecoder().decode(refusal.body)).errors[0].code !== 5007;
}

/**
 * Drops batches that are not kept any longer, and complete ones if there are too many.
 *
 * @throws {InferenceUpstreamError} 3040 if there are too many that are not complete
 */
function makeRoom() {
  for (const [id, batch] of batches) {
    if (batch.isOver() || (batch.isComplete() && batches.size >= MAX_BATCHES)) batches.delete(id);
  }
  if (batches.size >= MAX_BATCHES) throw aiError(3040, 429, `Out of capacity: ${batches.size} batches are waiting. Try again later.`);
}

/**
 * @param {Engine} engine
 * @param {string} id
 */
async function poll(engine, id) {
  const batch = batches.get(id);
  if (!batch || batch.isOver()) {
    batches.delete(id);
    throw aiError(3042, 404, `There is no batch ${id}. Batches are kept for an hour after their end, and for a day if they do not end, while this program runs`);
  }
  const { run } = batch;
  // In workerd, a run ends with the request that began it. Of requests that ask at the same time, one begins it again.
  if (run && !(await run.isAlive()) && batch.run === run) batch.begin(engine);
  const responses = batch.responses.filter((response) => response !== undefined);
  if (batch.isComplete()) return { responses, usage: usageOf(responses) };
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
