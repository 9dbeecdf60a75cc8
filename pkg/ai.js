// The `Ai` class with the interface of `env.AI`. It delegates to an engine in this thread or in a Web Worker.

import { batchCall, isBatch } from "./batch.js";
import { batchResponse, batchRoute, longestBody } from "./batch-http.js";
import { AiInternalError, abortError, aiError } from "./errors.js";
import { ADD_LORA } from "./loras.js";

/**
 * @import { Ai as PublicAi, AiOptions, ModelsParameters, TextGenerationInput } from "./index.d.ts"
 * @import { BatchRoute } from "./batch-http.js"
 * @import { Chunks, ComputedBy, Engine, LoadedModel } from "./internal.d.ts"
 */

/** The origin to which the binding sends its requests. `fetch` resolves relative URLs against it. */
const BINDING_ORIGIN = "https://workers-binding.ai";

/**
 * `run` is left out: index.d.ts gives it one signature per form of the answer.
 *
 * @typedef {Omit<PublicAi, "run">} PublicMembers
 */

/** @implements {PublicMembers} */
export class Ai {
  #engine;
  /** @type {ComputedBy["backend"] | null} */
  #backend = null;
  /** @type {ComputedBy["reason"]} */
  #backendReason = null;

  /** @type {string | null} */
  lastRequestId = null;
  /** @type {string | null} */
  aiGatewayLogId = null;
  /** @type {number | null} */
  lastRequestHttpStatusCode = null;
  /** @type {number | null} */
  lastRequestInternalStatusCode = null;

  /** @param {Engine} engine */
  constructor(engine) {
    this.#engine = engine;
  }

  /** The backend that computes, "cpu" or "webgpu"; `null` before a model is loaded. */
  get backend() {
    return this.#backend;
  }

  /** The reason why the backend is the CPU although the GPU was preferred; otherwise `null`. */
  get backendReason() {
    return this.#backendReason;
  }

  /** @param {Pick<LoadedModel, "backend" | "reason"> | null} computedBy `null` if no model answered */
  #computedBy(computedBy) {
    if (!computedBy?.backend) return;
    this.#backend = computedBy.backend;
    this.#backendReason = computedBy.reason;
  }

  /**
   * Loads the model file that serves the id `model` (without an argument, the default model), so that the first request does not wait.
   *
   * @param {string} [model]
   * @returns {Promise<LoadedModel>} the name of the file, and the backend
   * @throws {InferenceUpstreamError} if the model cannot be loaded
   */
  async load(model) {
    const loaded = await this.#engine.load(model);
    this.#computedBy(loaded);
    return loaded;
  }

  /**
   * Adds a LoRA adapter, in place of one of the same name.
   *
   * @param {string} name
   * @param {import("./index.d.ts").LoraAdapter & {id?: string}} lora
   */
  [ADD_LORA](name, lora) {
    this.#engine.addLora?.(name, lora);
  }

  /** Frees the models of this `Ai`, and ends its Web Worker if it has one. Later calls reject with an `AiInternalError`. */
  async close() {
    await this.#engine.close();
  }

  // Older runtimes do not have the symbol.
  async [Symbol.asyncDispose ?? Symbol.for("Symbol.asyncDispose")]() {
    await this.close();
  }

  /**
   * Answers a prompt or a conversation: see index.d.ts.
   *
   * @param {string} model
   * @param {TextGenerationInput} inputs
   * @param {AiOptions | null} [options]
   * @returns {Promise<any>} see index.d.ts
   * @throws {InferenceUpstreamError} if the request fails, unless `options.returnRawResponse` is set
   * @throws {AiInternalError} for inputs and options that are not supported
   * @throws {DOMException} `AbortError` if `options.signal` fires
   */
  async run(model, inputs, options = {}) {
    options ??= {};
    this.lastRequestId = "";
    refuseMisuse(inputs, options);
    const { signal, returnRawResponse } = options;
    if (signal?.aborted) throw abortError(signal);
    const id = crypto.randomUUID();
    try {
      if (isBatch(inputs)) return this.#batched(await batchCall(this.#engine, String(model), JSON.parse(toJson(inputs)), Boolean(options.queueRequest)), id, returnRawResponse);
      const answer = await this.#engine.generate(String(model), toJson(inputs), signal);
      this.#computedBy(answer.computedBy);
      const result = answer.stream ? byteStream(answer, signal) : await answer.object();
      this.#finished(id, 200);
      if (!returnRawResponse) return result;
      return result instanceof ReadableStream
        ? rawResponse(result, 200, "text/event-stream", id, answer.servedBy)
        : rawResponse(JSON.stringify(result), 200, "application/json", id, answer.servedBy);
    } catch (error) {
      if (!error?.internalCode) throw error;
      this.#finished(id, error.httpCode);
      if (returnRawResponse) return rawResponse(JSON.stringify(error.body), error.httpCode, "application/json", id);
      this.lastRequestInternalStatusCode = error.internalCode;
      throw error;
    }
  }

  /**
   * @param {object} result
   * @param {string} id
   * @param {boolean} [raw]
   */
  #batched(result, id, raw) {
    this.#finished(id, 200);
    return raw ? rawResponse(JSON.stringify(result), 200, "application/json", id) : result;
  }

  /**
   * The prompt of a request as the model reads it: see index.d.ts.
   *
   * @param {string} model
   * @param {TextGenerationInput} inputs
   * @throws {InferenceUpstreamError} as `run` does for this model and input
   */
  async tokenize(model, inputs) {
    return this.#engine.tokenize(String(model), toJson(inputs));
  }

  /**
   * @param {string} id
   * @param {number} status
   */
  #finished(id, status) {
    this.lastRequestId = id;
    this.lastRequestHttpStatusCode = status;
  }

  /**
   * Returns the models of the catalogue that match the filter `params`.
   *
   * @param {ModelsParameters | null} [params]
   */
  async models(params = {}) {
    return this.#engine.models(params ?? {});
  }

  /** Returns the loaded models, token counts and memory use, for tests and diagnostics. */
  async stats() {
    return this.#engine.stats();
  }

  /**
   * Always empty: there are no logs locally.
   *
   * @returns {[]}
   */
  getLogs() {
    return [];
  }

  /**
   * The HTTP surface: the binding's wire protocol, REST, and OpenAI-compatible. Errors are Responses too.
   *
   * @param {string | URL | Request} input
   * @param {RequestInit} [init]
   * @returns {Promise<Response>}
   * @throws {DOMException} `AbortError` if the signal fires before there is a response
   * @throws {TypeError} if no request can be made from the arguments, or its body has already been read
   */
  async fetch(input, init) {
    // A Request is used directly: in workerd, the signal of a copy does not fire when the client disconnects.
    const isRequest = input instanceof Request && init === undefined;
    const request = isRequest ? input : new Request(typeof input === "string" ? new URL(input, BINDING_ORIGIN) : input, init);
    if (request.bodyUsed) throw new TypeError("The request's body has already been read.");
    const { method, url, signal } = request;
    if (signal?.aborted) throw abortError(signal);
    const held = new HeldBody();
    try {
      const route = batchRoute(method, url);
      const { body, tooLarge, limit } = await bodyOf(request, this.#engine, held, route);
      if (signal?.aborted) throw abortError(signal);
      const headersSent = [...request.headers];
      const batch = limit && route && (await batchResponse(this.#engine, route, { headers: headersSent, body, limit }));
      if (batch) {
        held.release();
        return batch;
      }
      const answer = await this.#engine.fetch({ method, url, headers: headersSent, body: tooLarge ? undefined : body, tooLarge }, signal);
      const { status, headers } = answer;
      const free = () => {
        held.release();
        answer.free();
      };
      // The stream keeps a reference to the request: in Node, a collected request's signal no longer follows the caller's.
      if (answer.stream) return new Response(byteStream({ ...answer, free, request }, signal), { status, headers });
      free();
      // Some statuses do not allow a body, not even an empty one.
      return new Response(answer.body?.length ? answer.body : null, { status, headers });
    } catch (error) {
      held.release();
      if (!error?.internalCode) throw error;
      return failedResponse(error);
    }
  }

  /** @returns {never} */
  gateway() {
    throw notLocal("AI Gateway (gateway)");
  }

  /** @returns {never} */
  autorag() {
    throw notLocal("AutoRAG (autorag)");
  }

  /** @returns {never} */
  aiSearch() {
    throw notLocal("AI Search (aiSearch)");
  }

  /** @returns {never} */
  toMarkdown() {
    throw notLocal("Markdown conversion (toMarkdown)");
  }

  /** @returns {Promise<never>} */
  async websearch() {
    throw notLocal("Web search (websearch)");
  }
}

/** @param {string} feature */
function notLocal(feature) {
  return new AiInternalError(`${feature} is not available locally: workers-ai-local computes text and embeddings only.`);
}

/**
 * Throws for inputs and options that the local engine does not support.
 *
 * @param {object} inputs
 * @param {AiOptions} options
 */
function refuseMisuse(inputs, options) {
  if (options.websocket) throw notLocal("A WebSocket connection (options.websocket)");
  if (options.queueRequest && !isBatch(inputs)) throw new AiInternalError("options.queueRequest is for batches: run(model, { requests: [...] }, { queueRequest: true }).");
  /** @param {unknown} value */
  const isStream = (value) =>
    (typeof ReadableStream === "function" && value instanceof ReadableStream) || (typeof FormData === "function" && value instanceof FormData);
  if (isStream(inputs)) throw new AiInternalError("A stream or FormData is not a valid input for text generation. Send an object with prompt or messages.");
  for (const [key, value] of Object.entries(inputs ?? {})) {
    if (isStream(value) || isStream(value?.body)) throw new AiInternalError(`inputs.${key} is a stream or FormData, which text generation does not accept. Send text.`);
  }
}

/**
 * Serialises the input as the binding does: `JSON.stringify` drops functions and `undefined`, and escapes lone surrogates.
 *
 * @param {unknown} inputs
 */
function toJson(inputs) {
  try {
    return JSON.stringify(inputs) ?? "null";
  } catch (error) {
    throw aiError(5004, 400, `Invalid data: the input cannot be written as JSON: ${error.message}`);
  }
}

/** Bytes that the larger bodies of all requests of this thread may have together. */
const MAX_HELD_BYTES = 64 << 20;
/** A body of up to this many bytes is read without waiting for others. */
const SMALL_BODY = 64 << 10;

/**
 * A body in memory, until its request has been answered, or until nothing refers to the request any more: if its stream never ends and is
 * garbage, so is the request. Bodies that find no room are read later.
 */
class HeldBody {
  static #free = MAX_HELD_BYTES;
  /**
   * Resumes the bodies that wait for room, in their order.
   *
   * @type {(() => void)[]}
   */
  static #waiting = [];
  /**
   * Gives back the room of bodies that are garbage. workerd has it from the compatibility date 2025-05-05 on.
   *
   * @type {FinalizationRegistry<{bytes: number}> | undefined}
   */
  static #garbage = typeof FinalizationRegistry === "function" ? new FinalizationRegistry((room) => HeldBody.#resize(room, 0)) : undefined;

  /** Apart from the body, which it outlives. */
  #room = { bytes: 0 };

  /**
   * Makes room for a body before more of it is read than a small one has.
   *
   * @param {number} most the most bytes that it may have
   * @param {AbortSignal} [signal]
   */
  async reserve(most, signal) {
    while (HeldBody.#free < most) {
      await new Promise((resolve, reject) => {
        const aborted = () => reject(abortError(signal));
        signal?.addEventListener("abort", aborted, { once: true });
        HeldBody.#waiting.push(() => {
          signal?.removeEventListener("abort", aborted);
          resolve(undefined);
        });
      });
    }
    HeldBody.#garbage?.register(this, this.#room);
    this.keep(most);
  }

  /**
   * Gives back the room that the body does not need.
   *
   * @param {number} bytes
   */
  keep(bytes) {
    HeldBody.#resize(this.#room, bytes);
  }

  release() {
    if (this.#room.bytes > 0) this.keep(0);
  }

  /**
   * @param {{bytes: number}} room
   * @param {number} bytes
   */
  static #resize(room, bytes) {
    HeldBody.#free += room.bytes - bytes;
    room.bytes = bytes;
    for (const resume of HeldBody.#waiting.splice(0)) resume();
  }
}

/**
 * Reads a request's body, up to `limit`: the number of bytes that the handler accepts, or those of a batch. Of a longer body the rest is not read, so it
 * is never completely in memory. `tooLarge`: the handler does not accept it.
 *
 * @param {Request} request
 * @param {Engine} engine
 * @param {HeldBody} held makes room for it
 * @param {BatchRoute} [route]
 * @returns {Promise<{body?: Uint8Array, tooLarge: boolean, limit?: number}>}
 */
async function bodyOf(request, engine, held, route) {
  // In Firefox, `Request.body` is undefined. There, the whole body is in memory anyway.
  const stream = request.body === undefined ? (await request.blob()).stream() : request.body;
  if (!stream) return { tooLarge: false };
  const accepted = await engine.maxBodyBytes();
  const { signal, headers } = request;
  const stated = Number(headers.get("content-length"));
  const limit = longestBody(route, accepted, stated);
  const reader = stream.getReader();
  const stopReading = () => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", stopReading, { once: true });
  try {
    const chunks = [];
    let length = 0;
    while (length <= limit && !(stated > limit)) {
      const { done, value } = await reader.read();
      if (done) {
        if (length > SMALL_BODY) held.keep(length);
        return { body: new Uint8Array(await new Blob(chunks).arrayBuffer()), tooLarge: length > accepted, limit };
      }
      if (length <= SMALL_BODY && length + value.length > SMALL_BODY) await held.reserve(limit, signal);
      chunks.push(value);
      length += value.length;
    }
    return { tooLarge: true, limit };
  } finally {
    // Also after an error. A body that was read to its end is not affected.
    stopReading();
    signal?.removeEventListener("abort", stopReading);
  }
}

/**
 * A byte stream of server-sent events. It is pull-driven: while nobody reads, nothing is computed.
 *
 * @param {Chunks & {request?: Request}} answer
 * @param {AbortSignal} [signal]
 */
function byteStream(answer, signal) {
  let ended = false;
  const end = () => {
    if (ended) return;
    ended = true;
    signal?.removeEventListener("abort", onAbort);
    answer.free();
  };
  /** @type {() => void} */
  let onAbort;
  return new ReadableStream(
    {
      type: "bytes",
      start(controller) {
        onAbort = () => {
          if (ended) return;
          controller.error(abortError(signal));
          end();
        };
        signal?.addEventListener("abort", onAbort, { once: true });
      },
      async pull(controller) {
        try {
          const bytes = await answer.chunk();
          if (ended) return;
          if (bytes === undefined) {
            controller.close();
            // A pending BYOB read is only resolved by this.
            controller.byobRequest?.respond(0);
            end();
          } else {
            controller.enqueue(bytes);
          }
        } catch (error) {
          if (ended) return;
          end();
          throw error;
        }
      },
      cancel: end,
    },
    { highWaterMark: 0 },
  );
}

/**
 * @param {string | ReadableStream} body
 * @param {number} status
 * @param {string} contentType
 * @param {string} id
 * @param {string} [servedBy]
 */
function rawResponse(body, status, contentType, id, servedBy) {
  /** @type {Record<string, string>} */
  const headers = { "content-type": contentType, "cf-ai-req-id": id };
  // The file that computed the answer. It may be the default model's, not the requested model's. File names may contain any character.
  if (servedBy) headers["workers-ai-local-model"] = encodeURI(servedBy);
  return new Response(body, { status, headers });
}

/**
 * The response after the engine itself failed. The surface is then unknown, so the body has the error in the formats of all surfaces.
 *
 * @param {{internalCode: number, httpCode: number, body: {message: string}}} error
 */
function failedResponse({ internalCode: code, httpCode, body }) {
  const { message } = body;
  const all = { ...body, result: {}, success: false, errors: [{ code, message }], messages: [], error: { message, type: "server_error", code } };
  return Response.json(all, { status: httpCode });
}
