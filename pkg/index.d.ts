// Types of the package, the same in workerd, browsers and Node.
//
// They use the platform's own `Response`, `ReadableStream`, `Blob`, `URL` and `AbortSignal`, from whichever library a
// project has (DOM, @cloudflare/workers-types, @types/node).

// ── Configuration ──

/**
 * Where a GGUF file is:
 * - a string: a URL, in a browser one relative to the page too, in Node also a path;
 * - a `URL`, or `{ url, headers }`;
 * - a `Blob` or `File`;
 * - the bytes themselves;
 * - an object in an R2 bucket, `{ bucket, key }`, or an object that was already fetched from one (read once);
 * - a source of one's own (not in a browser's page, where files are read by a Web Worker).
 *
 * The file is read from its beginning to its end, tensor by tensor. It is never whole in memory.
 */
export type ModelSource =
  | string
  | URL
  | HttpModelSource
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | R2ModelSource
  | R2ModelObject
  | CustomModelSource;

/** A file over HTTP. A download that breaks off is taken up again where the server knows ranges. */
export interface HttpModelSource {
  url: string | URL;
  /** Sent with each request, for instance `authorization`. */
  headers?: Record<string, string>;
}

/** A file in an R2 bucket. `bucket` is the binding. */
export interface R2ModelSource {
  bucket: {
    get(key: string, options?: { range?: { offset: number } }): Promise<R2ModelObject | null>;
  };
  key: string;
}

/** What `bucket.get(key)` gives. */
export interface R2ModelObject {
  key: string;
  /** Length in bytes. */
  size: number;
  body: ReadableStream;
  bodyUsed: boolean;
}

/** A file that a program reads in its own way. */
export interface CustomModelSource {
  /** For messages. Two files must not have the same name: the loaded model is known by it. */
  name: string;
  /** Starts reading at a byte; called again where a read failed. */
  open(offset: number): Promise<ModelFileStream>;
}

export interface ModelFileStream {
  /** Length of the whole file in bytes, where it is known. */
  size?: number;
  /** The next bytes, of any length but 0; `undefined` at the end. */
  read(): Promise<Uint8Array | undefined>;
  /** No more bytes are wanted. */
  cancel(): unknown;
}

/** How far the load of a model is. */
export interface ModelProgress {
  /** The model id that was asked for; `"download"` while Node puts the default model into its cache. */
  model: string;
  /**
   * What is being done, in this order:
   * - `"download"`: Node puts the default model into its cache;
   * - `"weights"`: the file is read;
   * - `"compile"`: only on the GPU: its kernels, which are compiled while the file is read, are waited for;
   * - `"check"`: only on the GPU: each kernel is compared with a plain one. One that is wrong leads to `"weights"` again, for the CPU.
   */
  phase: "download" | "weights" | "compile" | "check";
  /** Bytes so far; all of them in the phases after `"weights"`. */
  loaded: number;
  /** Bytes of the whole file; `null` where they are not known. */
  total: number | null;
  /** In the phases `"compile"` and `"check"`: kernels that are through, and of how many. */
  kernels?: { ready: number; total: number };
}

/**
 * A build of the crate:
 * - `"simd128"` computes in one thread, in every engine with WebAssembly SIMD;
 * - `"threads"` computes in several: in Node, and in a page that is cross-origin isolated;
 * - `"relaxed"` and `"relaxed-threads"` are the same with relaxed SIMD, which is faster on ARM.
 */
export type Build = "simd128" | "relaxed" | "threads" | "relaxed-threads";

export interface AiConfig {
  /** Model id → its weights. Ids that are not in the catalogue are welcome. */
  models?: Record<string, ModelSource>;
  /**
   * The stand-in: answers for every id of the catalogue that has no weights of its own. Default: a small model
   * (`DEFAULT_MODEL`), downloaded once and then kept.
   */
  default?: ModelSource;
  /** Refuse ids without weights of their own (error 5007) instead. Default: `false`. */
  strict?: boolean;
  /**
   * KV caches kept for each model, at least 1: so many answers are computed at once, and so many conversations go on
   * without reading their beginning again. Default: 4.
   */
  caches?: number;
  /** Requests accepted at once for each model, at least 1; one more is answered with error 3040. Default: 64. */
  queue?: number;
  /** Pages of which origins may read what `fetch` answers: these, or with `true` or `"*"` all. Default: none. */
  cors?: boolean | "*" | string[];
  /**
   * `"auto"` computes on the GPU where WebGPU has a real one that computes rightly, and on the CPU otherwise (`backendReason`
   * tells why). `"webgpu"` takes an adapter that a CPU plays too, and fails without any. In Node, WebGPU comes from the package
   * `webgpu`, which a project installs beside this one. Default: `"auto"`.
   */
  backend?: "auto" | Backend;
  /**
   * What computes on the CPU; all give the same text. `"auto"` takes the fastest build that runs here, and another one is refused
   * with `AiInternalError` where it does not run. An engine serves all `Ai`s of a thread (in a page, each has one of its
   * own): the first one decides, and one that asks for another build is refused. Default: `"auto"`.
   */
  build?: "auto" | Build;
  /**
   * Threads that compute, 1 to 64, where a build for several can run. 1 takes a build for one, unless `build` says
   * otherwise. Default: the number of cores up to 4; of more cores half, at most 8.
   */
  threads?: number;
  /** Told how a load goes on, many times a second. */
  onProgress?: (progress: ModelProgress) => void;
  /** Told what a developer should know, for instance that a stand-in answers. Default: `console.warn`. */
  onWarning?: (text: string) => void;
}

// ── Input ──

/** One turn of a conversation. */
export interface ChatMessage {
  /** `"system"`, `"user"`, `"assistant"` or `"tool"`; what else there may be is the model's template's to know. */
  role: string;
  /** At most 131,072 characters. An assistant's turn that only calls tools may have none. */
  content?: string | TextPart[] | null;
  /** Who speaks; on a tool's turn, the tool's name. */
  name?: string;
  /** On an assistant's turn: the calls it made. */
  tool_calls?: ToolCallMessage[];
  /** On a tool's turn: the call it answers. */
  tool_call_id?: string;
}

/** Part of a message's content. */
export interface TextPart {
  type: "text";
  text: string;
}

/** A call as messages carry it. */
export interface ToolCallMessage {
  id: string;
  type: "function";
  function: {
    name: string;
    /** JSON text. */
    arguments: string;
  };
}

/** A tool that the model may call, in the short form. */
export interface FlatTool {
  name: string;
  description?: string;
  /** JSON schema of the arguments. */
  parameters?: object;
}

/** A tool that the model may call, as OpenAI writes it. */
export interface FunctionTool {
  type: "function";
  function: FlatTool;
}

/** How the model deals with tools: as it likes; not at all; it calls one at least; it calls this one. */
export type ToolChoice = "auto" | "none" | "required" | { type: "function"; function: { name: string } };

/**
 * How the answer is to be formed. With JSON, `response` is an object that fits the schema. `json_schema` is a schema, or
 * OpenAI's `{ name, schema, strict }`; one outside the supported subset is error 5006.
 */
export type ResponseFormat = { type: "text" } | { type: "json_object" } | { type: "json_schema"; json_schema: object };

/** Fields that go with a prompt and with messages. */
export interface TextGenerationParameters {
  /** Answer with a stream of server-sent events instead of one object. Default: `false`. */
  stream?: boolean;
  /**
   * Most tokens of the answer, from 0. Together with the prompt it must fit into the model's context window (else
   * error 5021). Default: the model's, 256 for most; what is left of the window, if that is less.
   */
  max_tokens?: number;
  /** OpenAI's name of `max_tokens`, which comes first. */
  max_completion_tokens?: number;
  /** How freely the next token is drawn, 0 to 5. 0 always takes the likeliest. Default: 0.6. */
  temperature?: number;
  /** Draw among the likeliest tokens that together have this probability, 0 to 2; from 1 on all of them. Default: all. */
  top_p?: number;
  /** Draw among so many of the likeliest tokens, an integer from 1 to 50. Default: all. */
  top_k?: number;
  /** An integer from 1 to 9,999,999,999. Same seed, same text, in every runtime. Default: another one each time. */
  seed?: number;
  /**
   * Makes tokens of the prompt and the answer so far less likely, by division, 0 to 2: above 1 repeats less, below 1
   * more. 0 and 1 are off. Default: off.
   */
  repetition_penalty?: number;
  /** Subtracted from a token's score for each time the answer has it, −2 to 2. Default: 0. */
  frequency_penalty?: number;
  /** Subtracted from a token's score once the answer has it, −2 to 2. Default: 0. */
  presence_penalty?: number;
  /** The answer ends before the first of these texts. */
  stop?: string | string[];
  /** Name of a LoRA adapter. None is known in this version: error 5005. */
  lora?: string;
  /** Tools that the model may call. A call always fits the tool's `parameters`. */
  tools?: (FlatTool | FunctionTool)[];
  /** Whether tools are called: `"none"` leaves `tools` out of account. Default: `"auto"`. */
  tool_choice?: ToolChoice;
  /** Accepted and not used. */
  functions?: { name: string; code: string }[];
  /** Default: text. With JSON, running out of `max_tokens` is error 5024. */
  response_format?: ResponseFormat;
  /** For models that read images. A text model answers with error 5006. */
  image?: number[] | string;
  /** Passed to the model's chat template. */
  reasoning_effort?: string | null;
  /** Variables for the model's chat template. */
  chat_template_kwargs?: Record<string, unknown>;

  // OpenAI's common options: accepted, and without effect on a single answer.
  n?: number;
  logit_bias?: Record<string, number> | null;
  logprobs?: boolean | null;
  top_logprobs?: number | null;
  parallel_tool_calls?: boolean;
  stream_options?: { include_usage?: boolean } | null;
  metadata?: Record<string, string> | null;
  store?: boolean | null;
  user?: string;
}

/** A question, or a text to continue. */
export interface PromptInput extends TextGenerationParameters {
  /** 1 to 131,072 characters. Becomes a user's turn, unless `raw`. */
  prompt: string;
  /** Continue `prompt` as it stands, without a chat template. Default: `false`. */
  raw?: boolean;
  messages?: undefined;
}

/** A conversation, to be answered with the next turn. */
export interface MessagesInput extends TextGenerationParameters {
  messages: ChatMessage[];
  /** Has no meaning here. */
  raw?: boolean;
  prompt?: undefined;
}

/**
 * What a model is asked: a `prompt` or `messages`, never both. It is sent as JSON: `undefined` and functions are left
 * out, `null` counts as absent. Fields that are not listed are ignored.
 */
export type TextGenerationInput = PromptInput | MessagesInput;

// ── Output ──

/** Exact counts of tokens. */
export type TextGenerationUsage = {
  prompt_tokens: number;
  completion_tokens: number;
  /** Both together. */
  total_tokens: number;
  prompt_tokens_details: {
    /** Tokens of the prompt that an earlier request had already computed. */
    cached_tokens: number;
  };
};

/** Why an answer ended: the model's end, or a `stop` text; the limit of tokens; a call. */
export type FinishReason = "stop" | "length" | "tool_calls";

/** A call that the model makes, flat and complete. */
export type ToolCall = {
  name: string;
  arguments: Record<string, unknown>;
  /** The same call as messages carry it. */
  id?: string;
  type?: "function";
  function?: {
    name: string;
    /** JSON text. */
    arguments: string;
  };
};

/** The answer as one object. */
export type TextGenerationOutput = {
  /** The text; in JSON mode, the object; `null` where the model calls tools instead. */
  response: string | object | null;
  /** Calls that the model makes, where tools were offered. */
  tool_calls?: ToolCall[];
  usage: TextGenerationUsage;
  finish_reason: FinishReason;
};

/** A call in a stream. */
export type ToolCallEvent = {
  /** Which of the answer's calls it is. */
  index: number;
  id: string;
  type: "function";
  function: {
    name: string;
    /** JSON text. */
    arguments: string;
  };
};

/**
 * One event of a stream, behind `data: `. Every event has `response`, the next piece of the text; the last event has
 * `usage` and `finish_reason` too. After it comes `data: [DONE]`.
 */
export type TextGenerationEvent = {
  response: string;
  tool_calls?: ToolCallEvent[];
  usage?: TextGenerationUsage;
  finish_reason?: FinishReason;
};

/** Options of `run`. What Cloudflare's binding knows beside these is accepted and ignored. */
export interface AiOptions {
  /** Ends the computation: before the start, in the middle, and while a stream is read. `run` throws `AbortError`. */
  signal?: AbortSignal;
  /**
   * Answer with a `Response`: JSON or `text/event-stream`, with the headers `cf-ai-req-id` and
   * `workers-ai-local-model` (the file that answered). Errors come as a `Response` too. Default: `false`.
   */
  returnRawResponse?: boolean;
  /** Accepted and ignored. */
  extraHeaders?: object;
  /** Accepted and ignored. */
  gateway?: object;
  /** Accepted and ignored. */
  tags?: string[];
  /** Accepted and ignored. */
  prefix?: string;
  /** Accepted and ignored. */
  rejectIfBusy?: boolean;
  /** Accepted and ignored. */
  sessionOptions?: object;
  /** Not local: throws `AiInternalError`. */
  queueRequest?: false;
  /** Not local: throws `AiInternalError`. */
  websocket?: false;
}

/** What computes. */
export type Backend = "cpu" | "webgpu";

/** A filter over the catalogue. */
export type ModelsParameters = {
  /** Second part of the id: `"meta"`. */
  author?: string;
  /** Part of an id or a description. */
  search?: string;
  /** 1: ids that begin with `@cf/`; 2: with `@hf/`. */
  source?: number;
  /** Name or id of a task. Only Text Generation has models here. */
  task?: string;
  /** From 1. */
  page?: number;
  /** Default: all of them. */
  per_page?: number;
  /** No model here is experimental. */
  hide_experimental?: boolean;
};

/** One model of the catalogue. */
export type ModelListing = {
  /** A UUID. */
  id: string;
  source: number;
  /** The id that `run` takes. */
  name: string;
  description: string;
  task: { id: string; name: string; description: string };
  tags: string[];
  /** For instance `{ property_id: "context_window", value: "3072" }`, in tokens. */
  properties: { property_id: string; value: string }[];
};

/** What was done on the GPU since the model was loaded. */
export interface GpuCounters {
  adapter: string;
  submissions: number;
  dispatches: number;
  bytesUploaded: number;
  bytesReadBack: number;
  buffersCreated: number;
  /** Of all buffers that there are: weights, context, scratch. */
  bytesAllocated: number;
}

/** What is loaded and how much was computed. */
export interface AiStats {
  build: Build;
  /** Threads that compute, with the calling one. Worker threads come in while the first model is loaded. */
  threads: number;
  models: {
    /** The file. */
    name: string;
    backend: Backend;
    /** Why it is the CPU although the GPU would have been taken; otherwise `null`. */
    reason: string | null;
    /** What was done on the GPU, where that is what computes. */
    gpu?: GpuCounters;
    /** Requests that are not finished. */
    active: number;
    /** Tokens that went through the model so far, of prompts and of answers. */
    tokens: number;
  }[];
  /**
   * Bytes of the WebAssembly memory, which all models of a thread share. It grows and never shrinks, so this is also
   * the most that was needed so far.
   */
  memoryBytes: number;
}

// ── The class ──

/** Cloudflare's `env.AI` for text generation, computed where it is made. Nothing is loaded before the first request. */
export class Ai {
  constructor(config?: AiConfig);

  /** Id of the last request, as in its `cf-ai-req-id` header; `""` while it runs, `null` before the first. */
  lastRequestId: string | null;
  /** Always `null`: no gateway stands in between. */
  aiGatewayLogId: string | null;
  /** HTTP status of the last request. */
  lastRequestHttpStatusCode: number | null;
  /** Code of the last error, for instance 5007. */
  lastRequestInternalStatusCode: number | null;

  /**
   * No call of a program: with it, this class stands wherever @cloudflare/workers-types' `Ai` is expected, whose
   * answers depend on a list of models that is not ours.
   *
   * @hidden
   */
  run(model: never, inputs: never, options: never): Promise<any>;
  /**
   * Answers a prompt or a conversation, as a `Response`.
   *
   * @param model an id of the catalogue or of the configuration, for instance `"@cf/meta/llama-3.1-8b-instruct"`
   */
  run(model: string, inputs: TextGenerationInput, options: AiOptions & { returnRawResponse: true }): Promise<Response>;
  /**
   * Answers a prompt or a conversation, as a stream of server-sent events: see `TextGenerationEvent`. It is computed as
   * it is read; cancelling it ends the computation.
   *
   * @param model an id of the catalogue or of the configuration, for instance `"@cf/meta/llama-3.1-8b-instruct"`
   * @throws InferenceUpstreamError `"CODE: text"`
   */
  run(model: string, inputs: TextGenerationInput & { stream: true }, options?: AiOptions & { returnRawResponse?: false }): Promise<ReadableStream<Uint8Array>>;
  /**
   * Answers a prompt or a conversation, as one object.
   *
   * @param model an id of the catalogue or of the configuration, for instance `"@cf/meta/llama-3.1-8b-instruct"`
   * @throws InferenceUpstreamError `"CODE: text"`
   */
  run(model: string, inputs: TextGenerationInput & { stream?: false }, options?: AiOptions & { returnRawResponse?: false }): Promise<TextGenerationOutput>;
  /** Answers a prompt or a conversation; in which form is decided as the program runs. */
  run(model: string, inputs: TextGenerationInput, options?: AiOptions): Promise<TextGenerationOutput | ReadableStream<Uint8Array> | Response>;

  /** The catalogue, filtered. */
  models(params?: ModelsParameters): Promise<ModelListing[]>;

  /**
   * Loads a model, so that the first request does not wait for it.
   *
   * @param model the default model where absent
   * @returns the file that serves this id, and what computes it
   */
  load(model?: string): Promise<{ model: string; backend: Backend; reason: string | null }>;

  /** What computes; `null` before a model is loaded. */
  get backend(): Backend | null;

  /** Why it is the CPU although the GPU would have been taken; otherwise `null`. */
  get backendReason(): string | null;

  /** What is loaded, how much was computed, and how much memory it took. */
  stats(): Promise<AiStats>;

  /** There are no logs. */
  getLogs(): [];

  /**
   * The HTTP surface: REST (`POST /client/v4/accounts/:account/ai/run/:model`), OpenAI-compatible
   * (`POST /v1/chat/completions`, `GET /v1/models`) and the wire of Cloudflare's own binding. Errors are responses too. A
   * stream is computed as it is read; cancelling it, or the request's `signal`, ends the computation.
   *
   * @param input a path alone is enough, for instance `"/v1/models"`
   * @throws DOMException `AbortError`, where the signal fires before there is a response
   */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;

  // What env.AI has and no computer does alone: each throws `AiInternalError`.

  /** Not local. */
  gateway(gatewayId: string): never;
  /** Not local. */
  autorag(autoragId: string): never;
  /** Not local. */
  aiSearch(): never;
  /** Not local. */
  websearch(request: unknown): Promise<never>;
  /** Not local. */
  toMarkdown(): never;
  /** Not local. */
  toMarkdown(files: unknown, options?: unknown): Promise<never>;
}

// ── Errors ──

/** A failed request. `name` is `"AiError"`, `message` is `"CODE: text"`. */
export class InferenceUpstreamError extends Error {
  constructor(message: string, details?: { internalCode?: number; httpCode?: number; description?: string; body?: object });
  readonly name: "AiError";
  /** The code alone, for instance 5007. Only here: the live binding's errors have a message and nothing else. */
  readonly internalCode?: number;
  /** The HTTP status that goes with it. */
  readonly httpCode?: number;
  /** The text alone. */
  readonly description?: string;
  /** The error as it stands in a raw response. */
  readonly body?: object;
}

/** The class is used in a way that is not possible, or for what is not local. */
export class AiInternalError extends Error {
  constructor(message: string);
  readonly name: "AiInternalError";
}

/** The small model that answers when no other is configured. */
export const DEFAULT_MODEL: {
  /** The id under which it can be asked for by itself. */
  readonly id: string;
  /** Name of its file. */
  readonly file: string;
  readonly url: string;
  /** Bytes. */
  readonly size: number;
  /** Hexadecimal. */
  readonly sha256: string;
};
