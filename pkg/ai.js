// The `Ai` class as programs know it from `env.AI`, over an engine (in this thread, or in a Web Worker).

import { AiInternalError, abortError, aiError } from "./errors.js";

/** Where the binding sends its requests; a path alone is taken as one of it. */
const BINDING_ORIGIN = "https://workers-binding.ai";

export class Ai {
  #engine;
  #backend = null;
  #backendReason = null;

  lastRequestId = null;
  aiGatewayLogId = null;
  lastRequestHttpStatusCode = null;
  lastRequestInternalStatusCode = null;

  /** @param {object} engine see local-engine.js */
  constructor(engine) {
    this.#engine = engine;
  }

  /** What computes ("cpu", "webgpu"), once a model is loaded. */
  get backend() {
    return this.#backend;
  }

  /** Why it is the CPU although the GPU would have been taken; otherwise `null`. */
  get backendReason() {
    return this.#backendReason;
  }

  #computedBy({ backend, reason }) {
    this.#backend = backend;
    this.#backendReason = reason;
  }

  /** Loads the model that serves `model` (the default one without it), so that the first request does not wait. */
  async load(model) {
    const loaded = await this.#engine.load(model);
    this.#computedBy(loaded);
    return loaded;
  }

  async run(model, inputs, options = {}) {
    options ??= {};
    this.lastRequestId = "";
    refuseMisuse(inputs, options);
    const { signal, returnRawResponse } = options;
    if (signal?.aborted) throw abortError(signal);
    const id = crypto.randomUUID();
    try {
      const answer = await this.#engine.generate(String(model), toJson(inputs), signal);
      this.#computedBy(answer.computedBy);
      const result = answer.stream ? byteStream(answer, signal) : await answer.object();
      this.#finished(id, 200);
      if (!returnRawResponse) return result;
      return answer.stream
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

  #finished(id, status) {
    this.lastRequestId = id;
    this.lastRequestHttpStatusCode = status;
  }

  async models(params = {}) {
    return this.#engine.models(params ?? {});
  }

  /** What is loaded and how much was computed; for tests and for the curious. */
  async stats() {
    return this.#engine.stats();
  }

  getLogs() {
    return [];
  }

  /**
   * The HTTP surface: the binding's wire, REST and OpenAI-compatible. Errors are Responses too; only an abort and a
   * request that cannot be made are thrown.
   */
  async fetch(input, init) {
    // A Request stays itself: in workerd, a copy does not follow its client's signal.
    const isRequest = input instanceof Request && init === undefined;
    const request = isRequest ? input : new Request(typeof input === "string" ? new URL(input, BINDING_ORIGIN) : input, init);
    if (request.bodyUsed) throw new TypeError("The request's body has been read already.");
    const { method, url, signal } = request;
    if (signal?.aborted) throw abortError(signal);
    try {
      const { body, tooLarge } = await bodyOf(request, this.#engine);
      if (signal?.aborted) throw abortError(signal);
      const answer = await this.#engine.fetch({ method, url, headers: [...request.headers], body, tooLarge }, signal);
      const { status, headers } = answer;
      // The stream holds the request: once that is collected, its signal no longer follows the caller's (Node).
      if (answer.stream) return new Response(byteStream({ ...answer, request }, signal), { status, headers });
      answer.free();
      // Some statuses allow no body, not even an empty one.
      return new Response(answer.body?.length ? answer.body : null, { status, headers });
    } catch (error) {
      if (!error?.internalCode) throw error;
      return failedResponse(error);
    }
  }

  gateway() {
    throw notLocal("AI Gateway (gateway)");
  }

  autorag() {
    throw notLocal("AutoRAG (autorag)");
  }

  aiSearch() {
    throw notLocal("AI Search (aiSearch)");
  }

  toMarkdown() {
    throw notLocal("Markdown conversion (toMarkdown)");
  }

  async websearch() {
    throw notLocal("Web search (websearch)");
  }
}

function notLocal(what) {
  return new AiInternalError(`${what} is not available locally: workers-ai-local computes text generation only.`);
}

function refuseMisuse(inputs, options) {
  if (options.websocket) throw notLocal("A WebSocket connection (options.websocket)");
  if (options.queueRequest) throw notLocal("The batch queue (options.queueRequest)");
  const isStream = (value) =>
    (typeof ReadableStream === "function" && value instanceof ReadableStream) || (typeof FormData === "function" && value instanceof FormData);
  if (isStream(inputs)) throw new AiInternalError("A stream or FormData is no input for text generation: send an object with prompt or messages.");
  for (const [key, value] of Object.entries(inputs ?? {})) {
    if (isStream(value) || isStream(value?.body)) throw new AiInternalError(`inputs.${key} is a stream or FormData, which text generation does not take: send text.`);
  }
}

/** Input as the binding sends it: `JSON.stringify` drops functions and `undefined`, and escapes lone surrogates. */
function toJson(inputs) {
  try {
    return JSON.stringify(inputs) ?? "null";
  } catch (error) {
    throw aiError(5004, 400, `Invalid data: the input cannot be written as JSON: ${error.message}`);
  }
}

/**
 * A request's body, of which never more than the handler takes is held in memory; one that is longer is `tooLarge`, and
 * its rest is not read.
 */
async function bodyOf(request, engine) {
  // Firefox gives requests no stream; what they were made of is in memory already.
  const stream = request.body === undefined ? (await request.blob()).stream() : request.body;
  if (!stream) return { tooLarge: false };
  const limit = await engine.maxBodyBytes();
  const { signal, headers } = request;
  const reader = stream.getReader();
  const leave = () => void reader.cancel().catch(() => {});
  signal?.addEventListener("abort", leave, { once: true });
  try {
    const chunks = [];
    let length = 0;
    let tooLarge = Number(headers.get("content-length")) > limit;
    while (!tooLarge) {
      const { done, value } = await reader.read();
      if (done) return { body: new Uint8Array(await new Blob(chunks).arrayBuffer()), tooLarge };
      chunks.push(value);
      length += value.length;
      tooLarge = length > limit;
    }
    leave();
    return { tooLarge: true };
  } finally {
    signal?.removeEventListener("abort", leave);
  }
}

/** Server-sent events as bytes, computed as they are read: nobody reading means that nothing is computed. */
function byteStream(answer, signal) {
  let ended = false;
  const end = () => {
    if (ended) return;
    ended = true;
    signal?.removeEventListener("abort", onAbort);
    answer.free();
  };
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
            // A reader that brought its own buffer is answered only so.
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

function rawResponse(body, status, contentType, id, servedBy) {
  const headers = { "content-type": contentType, "cf-ai-req-id": id };
  // Which file answered: with a stand-in, not the model that was asked for. File names may hold any character.
  if (servedBy) headers["workers-ai-local-model"] = encodeURI(servedBy);
  return new Response(body, { status, headers });
}

/** The engine itself failed, so nothing knows the surface any more: a body in which the clients of each find the error. */
function failedResponse({ internalCode: code, httpCode, body }) {
  const { message } = body;
  const all = { ...body, result: {}, success: false, errors: [{ code, message }], messages: [], error: { message, type: "server_error", code } };
  return Response.json(all, { status: httpCode });
}
