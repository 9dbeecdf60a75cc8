// Types of the package, identical in workerd, browsers and Node.
//
// `Response`, `ReadableStream`, `Blob`, `URL` and `AbortSignal` are the platform's own types, from the library that the project uses (DOM,
// @cloudflare/workers-types or @types/node).

// ── Configuration ──

/**
 * A model: one GGUF file, or the list of the files (at most 1,024) of a model that llama.cpp's `gguf-split` has split, in any order.
 *
 * A split model whose files lie beside each other under the names that `gguf-split` gives them, `…-00001-of-00003.gguf`, needs no list: a URL, a
 * path or a key of any one of them stands for all. In a URL, query and headers are the same for all of them; URLs that are signed for one
 * file each must be listed. So must files without a name: Blobs, bytes, custom sources.
 */
export type ModelSource = ModelFile | readonly ModelFile[];

/**
 * An embedding model: of the kind BERT, three files in the layout of Hugging Face, `model.safetensors`, `config.json` and `tokenizer.json`; or one GGUF
 * file, of BERT, EmbeddingGemma, or a decoder such as Qwen3-Embedding.
 */
export type EmbeddingSource = ModelFile | { weights: ModelFile; config?: ModelFile; tokenizer?: ModelFile };

/**
 * The location of a GGUF file:
 * - a string: a URL, which in a browser may be relative to the page; in Node also a path; or a name: `hf:owner/repo`, `hf:owner/repo:Q4_K_M`,
 *   `hf:owner/repo/file.gguf` on the Hugging Face hub (with `@revision` behind the repository if it is not `main`), or that of a curated model, for
 *   instance `llama-3.2-1b`;
 * - a `URL`, or `{ url, headers }`;
 * - a `Blob` or `File`;
 * - the bytes themselves;
 * - an object in an R2 bucket, `{ bucket, key }`, or an R2 object that was already fetched (can be read only once, so neither in a list nor for a model beyond 4 GiB on the CPU);
 * - a custom source (not in a browser's page, where a Web Worker reads the files).
 *
 * The file is read sequentially, tensor by tensor. The whole file is never in memory at once.
 */
export type ModelFile =
  | string
  | URL
  | HttpModelSource
  | Blob
  | ArrayBuffer
  | ArrayBufferView
  | R2ModelSource
  | R2ModelObject
  | CustomModelSource;

/** A file over HTTP. An interrupted download is resumed if the server supports range requests. Node stores it nowhere, unlike a URL that is given as a string. */
export interface HttpModelSource {
  url: string | URL;
  /**
   * Headers of each request, for instance `authorization`. Where the server redirects to another origin, they are not sent to it (a browser
   * withholds `authorization` only).
   */
  headers?: Record<string, string>;
  /**
   * The file's SHA-256, as 64 hexadecimal digits. It is compared while the file is read: another file is error 5004. For a split model, give a
   * list with the one of each file.
   */
  sha256?: string;
}

/** A file in an R2 bucket. `bucket` is the R2 binding. */
export interface R2ModelSource {
  bucket: {
    get(key: string, options?: { range?: { offset: number } }): Promise<R2ModelObject | null>;
  };
  key: string;
}

/** The result of `bucket.get(key)`. */
export interface R2ModelObject {
  key: string;
  /** Length in bytes. */
  size: number;
  body: ReadableStream;
  bodyUsed: boolean;
}

/** A custom source: a file that the program itself reads. */
export interface CustomModelSource {
  /** Name of the file, also used in messages. Different files must have different names, because a loaded model is identified by it. */
  name: string;
  /** The file's SHA-256, as 64 hexadecimal digits: see `HttpModelSource`. */
  sha256?: string;
  /** Starts to read at the byte `offset`. Called again with another offset after a failed read. */
  open(offset: number): Promise<ModelFileStream>;
}

/** An open file of a custom source. */
export interface ModelFileStream {
  /** Length of the whole file in bytes, if known. */
  size?: number;
  /** Returns the next bytes, at least one; `undefined` at the end of the file. */
  read(): Promise<Uint8Array | undefined>;
  /** Ends the reading before the end of the file. */
  cancel(): unknown;
}

/** The progress of loading a model. */
export interface ModelProgress {
  /** The requested model id; `"download"` while Node downloads a model into its cache. */
  model: string;
  /**
   * The current phase, in this order:
   * - `"download"`: Node downloads a model into its cache, or another process does;
   * - `"weights"`: the file is read;
   * - `"compile"` (only on the GPU): waits for the kernels, which are compiled while the file is read;
   * - `"check"` (only on the GPU): compares each kernel with a reference implementation. After a wrong result, `"weights"` follows again,
   *   for the CPU.
   */
  phase: "download" | "weights" | "compile" | "check";
  /** Bytes read so far, of all files of the model; in the phases after `"weights"`, all bytes. */
  loaded: number;
  /** Length of the whole file in bytes, or of all files of a split model; `null` if unknown, as while the headers of a split model are read. */
  total: number | null;
  /** In the phases `"compile"` and `"check"`: the number of finished kernels, and of all kernels. */
  kernels?: { ready: number; total: number };
}

/**
 * A WebAssembly build of the crate:
 * - `"simd128"` uses one thread and runs in every engine with WebAssembly SIMD;
 * - `"threads"` uses several threads and runs in Node and in cross-origin isolated pages;
 * - `"relaxed"` and `"relaxed-threads"` are like these two, but with relaxed SIMD, which is faster on ARM;
 * - `"wasm64"` and `"wasm64-threads"` are like the first two, but with 64-bit memory, of which an engine has up to 16 GiB instead of 4. They
 *   compute on the CPU only.
 */
export type Build = "simd128" | "relaxed" | "threads" | "relaxed-threads" | "wasm64" | "wasm64-threads";

/** A dedicated Web Worker, as the DOM library defines it. */
export interface StartedWorker {
  postMessage(message: any, transfer: any): void;
  terminate(): void;
  addEventListener(type: string, listener: (event: any) => void, options?: any): void;
  removeEventListener(type: string, listener: (event: any) => void, options?: any): void;
}

/**
 * The files of a LoRA adapter: a GGUF file of the type "adapter", or `adapter_config.json` and `adapter_model.safetensors`, as PEFT writes them. A
 * string that ends in `/`, or in Node the path of a folder, stands for the two files in it. So does `hf:owner/repo` if the repository has both; otherwise
 * it stands for the repository's GGUF file.
 */
export type LoraSource = ModelFile | { config: ModelFile; weights: ModelFile };

/** A LoRA adapter: small matrices of rank up to 64 beside those of a model, in F32, F16 or BF16. */
export interface LoraAdapter {
  /** The id of the model that it was trained for. Requests to others fail with error 5005. Default: it is tried with the model of the request. */
  model?: string;
  source: LoraSource;
}

/** The Hugging Face hub, from which models with names such as `hf:owner/repo:Q4_K_M` come. */
export interface HubConfig {
  /** A mirror, also of the default models. Default: `HF_ENDPOINT` in Node, otherwise `https://huggingface.co`. */
  endpoint?: string;
  /** A token for repositories that are gated or private. No other origin than the endpoint's gets it. Default: `HF_TOKEN` in Node, unless a configuration file says the endpoint. */
  token?: string;
}

/** A model that is stored on this device. */
export interface CachedModel {
  /** The name by which it was fetched first, for instance `hf:owner/repo:Q4_K_M`, or its address. */
  name: string;
  /** The address of its file; of a split model, of its first. */
  url: string;
  /** Stored bytes. */
  bytes: number;
  /** Bytes of the whole model, if they are known. */
  size?: number;
  /** Whether all of it is stored. The download of what is not continues when the model is asked for. */
  complete: boolean;
  /** The SHA-256 of its file, if it is one and complete. */
  sha256?: string;
  /** When it was used last. */
  used: Date;
}

/** The models that are stored on this device: in Node in the user's cache folder, in a browser in the storage of the page's origin. */
export interface AiModels {
  /** What is stored, the last used first. */
  list(): Promise<CachedModel[]>;
  /**
   * Removes a model. In Node, a process that downloads it meanwhile gets an error that says so; in a browser, the model answers there and is not kept.
   *
   * @param name a name by which it was fetched, or its address
   * @returns whether it was stored
   */
  delete(name: string): Promise<boolean>;
}

/** The configuration of an `Ai`. */
export interface AiConfig {
  /**
   * Only in Node: the configuration file of the project, `workers-ai-local.json` or `"workers-ai-local"` in package.json (`true`: the nearest one from
   * the current folder upwards; a string: its path). What it says is added to these options, which win. Default: `false`; `true` for the command line
   * and the entries for development.
   */
  config?: boolean | string;
  /** Model files by model id. The ids need not be in the catalogue. The value for an embedding model is an `EmbeddingSource`. */
  models?: Record<string, ModelSource | EmbeddingSource>;
  /**
   * The fallback model: it answers for every id of the catalogue that has no model file in `models`. Default: a small model
   * (`DEFAULT_MODEL`), which is downloaded once and then cached.
   */
  default?: ModelSource;
  /**
   * The embedding model that answers for every such id that has no files in `models`. Default: a small model (all-MiniLM-L6-v2, 91 MB, vectors of 384
   * numbers), which is downloaded when the first embedding is asked for, and then cached.
   */
  defaultEmbeddings?: EmbeddingSource;
  /** Where models with names such as `hf:owner/repo` come from. */
  hub?: HubConfig;
  /** LoRA adapters by the names that requests give as `lora`. Each is loaded when the first request names it, after its model. */
  loras?: Record<string, LoraAdapter>;
  /**
   * In browsers: whether model files from URLs are kept in the origin's storage, from which later loads read them. See `Ai.models`. Default: `true`.
   */
  cache?: boolean;
  /** Reject ids without a model file in `models` (error 5007) instead of using the fallback model. Default: `false`. */
  strict?: boolean;
  /**
   * Number of KV caches per model, at least 1. This is the maximum number of answers that are computed at the same time, and of
   * conversations that can continue without prefill of their earlier turns. Default: 4.
   */
  caches?: number;
  /** Maximum number of unfinished requests per model, at least 1. Further requests fail with error 3040. Default: 64. */
  queue?: number;
  /** The origins whose pages may read the responses of `fetch`; `true` or `"*"` for all. Default: none. */
  cors?: boolean | "*" | string[];
  /**
   * `"auto"` uses the GPU if WebGPU has a hardware adapter that passes the self-check, otherwise the CPU (`backendReason` says why).
   * `"webgpu"` requires WebGPU and fails where there is none; unlike `"auto"`, it accepts software adapters (SwiftShader, llvmpipe). In
   * Node, WebGPU requires the package `webgpu`, which must be installed in the project. Default: `"auto"`.
   */
  backend?: "auto" | Backend;
  /**
   * The WebAssembly build to use, which also computes on the CPU. All builds generate the same text. `"auto"` selects the fastest build
   * that runs here, and for a model that needs more than 4 GiB on the CPU a second one with 64-bit memory; any other value throws `AiInternalError` if that build does not run here. All `Ai`s in a thread share one engine (in
   * a page, each `Ai` has its own): the first `Ai` selects the build, and a later one that requests another build (but for one with 64-bit memory) throws
   * `AiInternalError`. Default: `"auto"`.
   */
  build?: "auto" | Build;
  /**
   * Number of threads that compute, 1 to 64, if a multithreaded build can run. 1 selects a build for one thread, unless `build` is set.
   * Default: the number of cores up to 4; half of more cores, at most 8.
   */
  threads?: number;
  /**
   * Answers for unit tests, in place of the models': the first entry that matches a request answers it, and no model is loaded. A request that
   * nothing matches fails with error 5004 and what was asked, unless `record` or `remote` is set too.
   */
  script?: ScriptEntry[];
  /**
   * A folder of recorded answers, relative to the current directory (only in Node). A request that is recorded there gets the same answer again,
   * without a model. `mode`:
   * - `"auto"`: other requests are answered for real, and recorded;
   * - `"replay"`: other requests fail with error 5004;
   * - `"record"`: every request is answered for real, and recorded anew.
   *
   * Default: `"replay"` if the environment variable `CI` is set, otherwise `"auto"`.
   */
  record?: string | { folder: string; mode?: "auto" | "replay" | "record" };
  /**
   * Model ids whose requests go to the real Workers AI: `"always"`, or `"when-missing"` if `models` has no file for the id. `"*"` stands for all
   * other ids. Not in browsers, where everybody could read the token.
   */
  remote?: Record<string, "always" | "when-missing">;
  /**
   * The account for `remote`. Default in Node: the environment variables `CLOUDFLARE_ACCOUNT_ID`, `CLOUDFLARE_API_TOKEN` and
   * `CLOUDFLARE_API_BASE_URL`, or the older `CF_ACCOUNT_ID` and `CF_API_TOKEN`, as for wrangler.
   */
  account?: ServiceAccount;
  /**
   * In a page, where a bundler does not find the package's Web Worker by itself: the address of the bundled `workers-ai-local/browser-worker`,
   * a function that starts it, or the started Web Worker, which then serves one `Ai`. A script of another origin is imported from a Blob, and
   * must allow it by CORS. Ignored elsewhere. Default: `browser-worker.js` beside this package's entry.
   */
  worker?: string | URL | StartedWorker | (() => StartedWorker | Promise<StartedWorker>);
  /** The same for the Web Worker that a page starts for models that need 64-bit memory: the bundled `workers-ai-local/browser-wide-worker`. */
  wideWorker?: AiConfig["worker"];
  /**
   * In browsers, where the `.wasm` files are not beside the bundled code: the address of a folder that is a copy of this package's
   * `pkg/wasm/`, or the address of each build's file. Ignored elsewhere. Default: where this package's modules are.
   */
  wasmUrl?: string | URL | { [build in Build | "embeddings"]?: string | URL };
  /** Called many times a second while a model loads. */
  onProgress?: (progress: ModelProgress) => void;
  /** Called with warnings for developers, for instance that the fallback model answers for an id. Default: `console.warn`. */
  onWarning?: (text: string) => void;
}

/** An account of Cloudflare, whose token may use Workers AI. */
export interface ServiceAccount {
  id?: string;
  token?: string;
  /** Default: `"https://api.cloudflare.com/client/v4"`. */
  url?: string;
}

/** A scripted answer. `text` and `calls`, or `text` and `error`, may come together: the text comes first. */
export interface ScriptAnswer {
  /** What the model thinks before it answers, which clients get as `reasoning_content`. In pieces like `text`. */
  reasoning?: string | string[];
  /** The answer's text. A stream brings a list piece by piece, a string word by word. */
  text?: string | string[];
  /** A value whose JSON is the answer's text, for JSON mode. */
  json?: unknown;
  /** Calls of tools that the request offers. */
  calls?: { name: string; arguments?: object }[];
  /** A code of Workers AI such as 3040, or any error. */
  error?: number | { code: number; message: string; status?: number };
  /** Milliseconds before each piece. Default: 0. */
  delay?: number;
  /** Token counts. Default: the number of words, and of pieces and calls. */
  usage?: { prompt_tokens?: number; completion_tokens?: number };
  /** Default: `"stop"`, or what calls and limits make of it. */
  finish_reason?: "stop" | "length";
}

/** An entry of a script: what it matches and its answer, or a function that answers for an id of the catalogue or returns nothing. */
export type ScriptEntry =
  | (ScriptAnswer & {
      /** The model ids that it answers for; one that is not in the catalogue must be given as a string. Default: all of the catalogue. */
      model?: string | RegExp;
      /**
       * The requests that it answers: a string equals what the user said last, a regular expression matches it; an object has fields of the
       * input, with regular expressions for strings where wanted. Default: all.
       */
      input?: string | RegExp | object | ((input: any, model: string) => boolean);
      /** How many requests it answers. Default: all. */
      times?: number;
    })
  | ((model: string, input: any) => ScriptAnswer | undefined | void | Promise<ScriptAnswer | undefined | void>);

// ── Input ──

/** One turn of a conversation. */
export interface ChatMessage {
  /** `"system"`, `"user"`, `"assistant"` or `"tool"`; the model's chat template decides whether it supports other roles. */
  role: string;
  /** At most 131,072 characters. Optional in an assistant turn that only calls tools. */
  content?: string | (TextPart | RefusalPart)[] | null;
  /** In an assistant turn without content: why the model gave none. The model reads it as the turn's text. */
  refusal?: string | null;
  /** Name of the speaker; in a tool turn, the tool's name. */
  name?: string;
  /** In an assistant turn: its tool calls. */
  tool_calls?: ToolCallMessage[];
  /** In a tool turn: the id of the call that it answers. */
  tool_call_id?: string;
}

/** A part of a message's content. */
export interface TextPart {
  type: "text";
  text: string;
}

/** A part of an assistant turn's content in which the model refused. The model reads it as text. */
export interface RefusalPart {
  type: "refusal";
  refusal: string;
}

/** A tool call in a message, in OpenAI's format. */
export interface ToolCallMessage {
  id: string;
  type: "function";
  function: {
    name: string;
    /** The arguments as JSON text. */
    arguments: string;
  };
}

/** A tool that the model may call, in the flat form. */
export interface FlatTool {
  name: string;
  description?: string;
  /** JSON Schema of the arguments. */
  parameters?: object;
}

/** A tool that the model may call, in OpenAI's form. */
export interface FunctionTool {
  type: "function" | (string & {});
  function: FlatTool;
}

/** Whether the model calls tools: it decides itself, never, at least one, or exactly the named one; or which of the tools it may call at all. */
export type ToolChoice =
  | "auto"
  | "none"
  | "required"
  | { type: "function"; function: { name: string } }
  | { type: "allowed_tools"; allowed_tools: { mode: "auto" | "required"; tools: Record<string, unknown>[] } };

/**
 * The format of the answer. In the JSON formats, `response` is an object that matches the schema. `json_schema` is a JSON Schema, or
 * OpenAI's `{ name, schema, strict }`. A schema outside the supported subset is error 5006.
 */
export type ResponseFormat = { type: "text" } | { type: "json_object" } | { type: "json_schema"; json_schema: object };

/** Fields for both forms of input, a prompt and messages. */
export interface TextGenerationParameters {
  /** Return a stream of server-sent events instead of one object. Default: `false`. */
  stream?: boolean | null;
  /**
   * Maximum number of tokens in the answer, at least 0. Prompt and answer together must fit into the model's context window (otherwise
   * error 5021). Default: the model's own default, 256 for most models, or the rest of the window if that is less.
   */
  max_tokens?: number | null;
  /** OpenAI's name for `max_tokens`. If both are present, `max_tokens` applies. */
  max_completion_tokens?: number | null;
  /** Sampling temperature, 0 to 5. At 0, the likeliest token is always chosen. Default: 0.6. */
  temperature?: number | null;
  /** Sample only from the likeliest tokens whose probabilities add up to this value, 0 to 2; from 1 on, from all tokens. Default: all. */
  top_p?: number | null;
  /** Sample only from this number of the likeliest tokens, an integer from 1 to 50. Default: all. */
  top_k?: number | null;
  /** An integer from 1 to 9,999,999,999. The same seed gives the same text in every runtime. Default: random. */
  seed?: number | null;
  /**
   * Multiplicative penalty on tokens of the prompt and of the answer so far, 0 to 2: above 1 there is less repetition, below 1 more. 0
   * and 1 are off. Default: off.
   */
  repetition_penalty?: number | null;
  /** Subtracted from a token's logit once per occurrence in the answer so far, −2 to 2. Default: 0. */
  frequency_penalty?: number | null;
  /** Subtracted from a token's logit if it occurs in the answer so far, −2 to 2. Default: 0. */
  presence_penalty?: number | null;
  /** Stop strings: the answer ends before the first occurrence of any of them. */
  stop?: string | string[] | null;
  /**
   * The name of a LoRA adapter (`loras` in the configuration) with which the answer is computed, usually with `raw: true`. Error 5005 if there is
   * no such adapter, or if it does not fit the model.
   */
  lora?: string | null;
  /** Tools that the model may call. The arguments of a call always match the tool's `parameters`. */
  tools?: (FlatTool | FunctionTool)[] | null;
  /** Whether the model calls tools; with `"none"`, `tools` is ignored. Default: `"auto"`. */
  tool_choice?: ToolChoice | null;
  /** Those with code are accepted and ignored; those without, OpenAI's older form, are `tools`. */
  functions?: ({ name: string; code: string } | FlatTool)[] | null;
  /** Default: text. In the JSON formats, reaching `max_tokens` before the object is complete is error 5024. */
  response_format?: ResponseFormat | null;
  /** A JSON Schema that the answer fits, if there is no `response_format`. The answer stays text in every shape. */
  guided_json?: object | null;
  /** For models that accept images. Text models return error 5006. */
  image?: number[] | string | null;
  /**
   * How much a reasoning model thinks before it answers: `null` and `"none"` for not at all, if the model can do without. The chat template gets the
   * model's own name for it; what a model of the catalogue does not know becomes what the service makes of it.
   */
  reasoning_effort?: string | null;
  /** Additional variables for the model's chat template, for instance `{ enable_thinking: false }`. */
  chat_template_kwargs?: Record<string, unknown> | null;
  /** A text that the answer probably contains, for instance code that is to be changed a little. The answer is the same, but comes sooner. */
  prediction?: { type: "content"; content: string | TextPart[] } | null;
  /** Tokens of the model file's vocabulary, by number, and what is added to their logits: -100 (never) to 100 (always). */
  logit_bias?: Record<string, number> | null;

  // Only for answers that are chat completions. `ChatCompletionsModel` lists their ids; in `fetch`, /v1/chat/completions gives them for all models.

  /** Number of answers, 1 to 4, which are computed together. Default: 1. */
  n?: number | null;
  /** Report the log probability of each token of the answer, before temperature and penalties. Default: `false`. */
  logprobs?: boolean | null;
  /** With `logprobs`: the number of likeliest tokens, 0 to 20, that are also reported at each position. */
  top_logprobs?: number | null;

  // OpenAI's common options. Unless a comment says otherwise, they are accepted, but have no effect on a single answer.
  /** Whether one answer may contain several tool calls. Default: `true`. */
  parallel_tool_calls?: boolean | null;
  stream_options?: { include_usage?: boolean } | null;
  metadata?: Record<string, unknown> | null;
  store?: boolean | null;
  user?: string | null;
}

/** Input with a prompt: a question, or a text to continue. */
export interface PromptInput extends TextGenerationParameters {
  /** 1 to 131,072 characters. It becomes a user turn of the chat template, unless `raw` is set. */
  prompt: string;
  /** Continue `prompt` itself, without a chat template. Default: `false`. */
  raw?: boolean | null;
  messages?: null;
}

/** Input with a conversation, which the model answers with the next turn. */
export interface MessagesInput extends TextGenerationParameters {
  messages: ChatMessage[];
  /** Has no effect with `messages`. */
  raw?: boolean | null;
  prompt?: null;
}

/**
 * The input of `run`: either `prompt` or `messages`. It is serialised as JSON: `undefined` and functions are dropped, and `null` counts as
 * absent. Fields that are not listed are ignored.
 */
export type TextGenerationInput = PromptInput | MessagesInput;

// ── Output ──

/** The ids of the catalogue that take an input of OpenAI's Responses API too. Over `fetch`, /v1/responses takes it for all models. */
export type ResponsesModel = "@cf/openai/gpt-oss-120b" | "@cf/openai/gpt-oss-20b";

/** An item of a response's input: a message, a call of the model, what the function returned, or what the model thought. */
export type ResponsesInputItem =
  | { type?: "message"; role: "user" | "assistant" | "system" | "developer"; content: string | ({ type: "input_text" | "output_text"; text: string } | { type: "refusal"; refusal: string })[] }
  | { type: "function_call"; call_id: string; name: string; arguments: string }
  | { type: "function_call_output"; call_id: string; output: string | { type: "input_text"; text: string }[] }
  | { type: "reasoning"; summary?: { type: "summary_text"; text: string }[]; content?: { type: "reasoning_text"; text: string }[] };

/**
 * The input of the Responses API. `previous_response_id`, `conversation`, `prompt` and `background` are error 5006: nothing is kept here.
 */
export type ResponsesInput = {
  input: string | ResponsesInputItem[];
  /** A system message. */
  instructions?: string | null;
  stream?: boolean | null;
  max_output_tokens?: number | null;
  temperature?: number | null;
  top_p?: number | null;
  tools?: { type: "function"; name: string; description?: string | null; parameters?: object | null; strict?: boolean | null }[];
  tool_choice?:
    | "auto"
    | "none"
    | "required"
    | { type: "function"; name: string }
    | { type: "allowed_tools"; mode: "auto" | "required"; tools: { type: "function"; name: string }[] };
  parallel_tool_calls?: boolean | null;
  reasoning?: { effort?: string | null; summary?: string | null } | null;
  text?: { format?: { type: "text" } | { type: "json_object" } | { type: "json_schema"; name: string; schema: object; strict?: boolean | null } };
  /** `"message.output_text.logprobs"` for log probabilities; others are ignored. */
  include?: string[] | null;
  top_logprobs?: number | null;
};

/** Exact counts of tokens. */
export type TextGenerationUsage = {
  prompt_tokens: number;
  completion_tokens: number;
  /** The sum of both. */
  total_tokens: number;
  prompt_tokens_details: {
    /** Tokens of the prompt that were still in a KV cache from an earlier request. */
    cached_tokens: number;
  };
  /** Present if the model thought before it answered. */
  completion_tokens_details?: {
    /** Tokens of the answer that are thoughts. */
    reasoning_tokens: number;
  };
};

/** Why the answer ended: the model ended it or a stop string occurred; `max_tokens` was reached; the model called tools. */
export type FinishReason = "stop" | "length" | "tool_calls";

/** A complete tool call of the model, in the flat form. */
export type ToolCall<Arguments = string> = {
  name: string;
  arguments: Record<string, unknown>;
  /** `id`, `type` and `function` are the same call in OpenAI's format, for use in messages. */
  id: string;
  type: "function";
  function: {
    name: string;
    /** The arguments as JSON text; those of Llama 4 Scout as an object. */
    arguments: Arguments;
  };
};

/** The answer as one object. */
export type TextGenerationOutput<Arguments = string> = {
  /** The text; in JSON mode, the object; `null` if the model calls tools and says nothing else. */
  response: string | object | null;
  /** The model's tool calls. Present if the input has `tools`. */
  tool_calls?: ToolCall<Arguments>[];
  usage: TextGenerationUsage;
  finish_reason: FinishReason;
  /** What a reasoning model thought before it answered; `reasoning` is the same. */
  reasoning_content?: string;
  reasoning?: string;
};

/** A tool call in a stream. */
export type ToolCallEvent = {
  /** Number of the call within the answer, from 0. */
  index: number;
  id: string;
  type: "function";
  function: {
    name: string;
    /** The arguments as JSON text. */
    arguments: string;
  };
};

/**
 * The JSON after `data: ` in one event of a stream. Every event has `response`, the next piece of the text. The last event also has `usage`
 * and `finish_reason`; `data: [DONE]` follows it.
 */
export type TextGenerationEvent = {
  response: string;
  /** The next piece of what a reasoning model thinks; `reasoning` is the same. */
  reasoning_content?: string;
  reasoning?: string;
  tool_calls?: ToolCallEvent[];
  usage?: TextGenerationUsage;
  finish_reason?: FinishReason;
};

/** The ids of the catalogue whose answers are OpenAI's chat completions, from `run` too. */
export type ChatCompletionsModel =
  | "@cf/aisingapore/gemma-sea-lion-v4-27b-it"
  | "@cf/deepseek-ai/deepseek-v4-flash-0731"
  | "@cf/deepseek-ai/deepseek-v4-pro-0813"
  | "@cf/google/gemma-4-26b-a4b-it"
  | "@cf/moonshotai/kimi-k2.5"
  | "@cf/moonshotai/kimi-k2.6"
  | "@cf/moonshotai/kimi-k2.7-code"
  | "@cf/nvidia/nemotron-3-120b-a12b"
  | "@cf/openai/gpt-oss-120b"
  | "@cf/openai/gpt-oss-20b"
  | "@cf/qwen/qwen3-30b-a3b-fp8"
  | "@cf/qwen/qwen3.8-27b"
  | "@cf/swiss-ai/apertus-v1.5-8b"
  | "@cf/utter-project/eurollm-9b-it"
  | "@cf/zai-org/glm-4.7-flash"
  | "@cf/zai-org/glm-5.2"
  | "@cf/zai-org/glm-5.3"
  | "@cf/zai-org/glm-5.3-flash";

/** The log probability of a token. */
export type TokenLogprob = {
  token: string;
  /** Natural logarithm. */
  logprob: number;
  bytes: number[] | null;
};

/** One answer of a chat completion. */
export type ChatCompletionChoice = {
  index: number;
  message: {
    role: "assistant";
    /** The text, in JSON mode the JSON; `null` if the model calls tools and says nothing else. */
    content: string | null;
    refusal: null;
    /** What a reasoning model thought before it answered; `reasoning` is the same. */
    reasoning_content?: string;
    reasoning?: string;
    /** Present if the model calls tools. */
    tool_calls?: ToolCallMessage[];
  };
  finish_reason: FinishReason;
  logprobs: { content: (TokenLogprob & { top_logprobs: TokenLogprob[] })[]; refusal: null } | null;
};

/** A chat completion: the answer of a `ChatCompletionsModel` as one object. */
export type ChatCompletion = {
  id: string;
  object: "chat.completion";
  /** Unix time in seconds. */
  created: number;
  model: string;
  choices: ChatCompletionChoice[];
  usage: TextGenerationUsage;
};

/** The answer of some models to a `prompt`. */
export type TextCompletion = Omit<ChatCompletion, "object" | "choices"> & {
  object: "text_completion";
  choices: { index: number; text: string; finish_reason: FinishReason; logprobs: ChatCompletionChoice["logprobs"]; reasoning_content?: string; reasoning?: string }[];
};

/**
 * The JSON after `data: ` in one event of a `ChatCompletionsModel`'s stream. The last one has no choices, but the token counts;
 * `data: [DONE]` follows it.
 */
export type ChatCompletionChunk = {
  id: string;
  object: "chat.completion.chunk";
  created: number;
  model: string;
  choices: {
    index: number;
    delta: { role?: "assistant"; content?: string; reasoning_content?: string; reasoning?: string; tool_calls?: ToolCallEvent[] };
    finish_reason: FinishReason | null;
    logprobs: ChatCompletionChoice["logprobs"];
  }[];
  usage?: TextGenerationUsage | null;
};

/**
 * A batch: requests that are queued together with the option `queueRequest: true`, and computed in the background while the program runs (in
 * workerd, while its requests last and when it is asked for). At most 1,000 requests, 10 MB of JSON and 100 batches; results are kept for an hour,
 * and what is not complete for a day.
 */
export type BatchInput = {
  /** Inputs of the model, of text generation or embeddings. `external_reference` comes back with the answer. Streams are not possible. */
  requests: ((TextGenerationInput | ResponsesInput | TextEmbeddingsInput) & { external_reference?: string })[];
};

/** What is known about a batch that is not complete. */
export type BatchQueued = {
  status: "queued" | "running";
  /** The id with which `run(model, { request_id })` asks for the batch. */
  request_id: string;
  model: string;
};

/** The answer to one request of a batch. */
export type BatchResponse = {
  /** Number of the request in the batch, from 0. */
  id: number;
  /** What `run` returns for the request; `{}` if it failed. */
  result: object;
  success: boolean;
  /** `"CODE: text"`, if it failed. */
  error?: string;
  external_reference?: unknown;
};

/** A complete batch. */
export type BatchResult = {
  responses: BatchResponse[];
  usage: { prompt_tokens: number; completion_tokens: number; total_tokens: number };
};

/** A response: the answer to an input of the Responses API as one object. */
export type ResponsesOutput = {
  id: string;
  object: "response";
  /** Unix time in seconds. */
  created_at: number;
  model: string;
  /** `"incomplete"`: `max_output_tokens` was reached. */
  status: "completed" | "incomplete";
  incomplete_details: { reason: "max_output_tokens" } | null;
  error: null;
  output: (
    | { id: string; type: "reasoning"; status: "completed"; summary: []; content: { type: "reasoning_text"; text: string }[] }
    | { id: string; type: "message"; role: "assistant"; status: "completed"; content: { type: "output_text"; text: string; annotations: []; logprobs: TokenLogprob[] }[] }
    | { id: string; type: "function_call"; status: "completed"; call_id: string; name: string; arguments: string }
  )[];
  /** The text of all messages. */
  output_text: string;
  usage: {
    input_tokens: number;
    input_tokens_details: { cached_tokens: number };
    output_tokens: number;
    output_tokens_details: { reasoning_tokens: number };
    total_tokens: number;
  };
};

/** Fields for all inputs of embedding models. A text has at least one character; what is beyond the model's positions is cut off. */
export interface TextEmbeddingsParameters {
  /**
   * How the vectors of a text's tokens become one, in models of the kind BERT: their mean, or that of the first token. Other models have a way of their
   * own. Default: `"mean"`.
   */
  pooling?: "mean" | "cls" | null;
  /** Accepted and ignored: texts that are too long are always cut off. */
  truncate_inputs?: boolean | null;
}

/** Texts to embed, at most 100 in all of the fields. At least one field is required. */
export type TextsInput = TextEmbeddingsParameters & {
  text?: string | string[] | null;
  /** What is searched for. Its vectors come first. Models such as `qwen3-embedding-0.6b` read an instruction before each. */
  queries?: string | string[] | null;
  /** What is searched in. Its vectors follow those of `queries`. */
  documents?: string | string[] | null;
  /** The instruction before each of `queries`. Default: the one for web search with which Qwen3-Embedding was trained. */
  instruction?: string | null;
  contexts?: null;
} & ({ text: string | string[] } | { queries: string | string[] } | { documents: string | string[] });

/** Contexts to embed, at most 100, or to compare with a query: the input of `bge-m3`, which the other models take too. */
export interface ContextsInput extends TextEmbeddingsParameters {
  contexts: { text: string }[];
  /** With a query, the answer is how near each context is to it. */
  query?: string | null;
}

/** The input of an embedding model. */
export type TextEmbeddingsInput = TextsInput | ContextsInput;

/** The answer of an embedding model to texts. The vectors have unit length. */
export type TextEmbeddingsOutput = {
  /** The number of texts, and the length of a vector. */
  shape: [texts: number, dimensions: number];
  /** A vector for each text, in their order. */
  data: number[][];
  /** Absent if the model has a pooling of its own. */
  pooling?: "mean" | "cls";
};

/** The answer to contexts without a query: their vectors. */
export type ContextsOutput = Omit<TextEmbeddingsOutput, "data"> & { response: number[][] };

/** The answer to contexts with a query. */
export type ContextScores = {
  /** The contexts, the nearest first. */
  response: {
    /** Number of the context in the input, from 0. */
    id: number;
    /** The cosine of its vector and the query's. */
    score: number;
  }[];
};

/** Options of `run`. Other options of Cloudflare's binding are accepted and ignored. */
export interface AiOptions {
  /** Aborts the request before it starts, while it runs, or while its stream is read. `run` then throws `AbortError`. */
  signal?: AbortSignal;
  /**
   * Return a `Response` with JSON or `text/event-stream`, and with the headers `cf-ai-req-id` and `workers-ai-local-model` (the file that
   * computed the answer). Errors are returned as a `Response` too. Default: `false`.
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
  /** Queue a batch: see `BatchInput`. */
  queueRequest?: boolean;
  /** Not available locally: throws `AiInternalError`. */
  websocket?: false;
}

/** The device that computes: the CPU, or the GPU through WebGPU. */
export type Backend = "cpu" | "webgpu";

/** A filter for the catalogue. */
export type ModelsParameters = {
  /** Second part of the id: `"meta"`. */
  author?: string;
  /** Substring of an id or a description. */
  search?: string;
  /** 1: ids that start with `@cf/`; 2: ids that start with `@hf/`. */
  source?: number;
  /** Name or id of a task. Text Generation and Text Embeddings have models. */
  task?: string;
  /** Number of the page, from 1. */
  page?: number;
  /** Models per page. Default: all. */
  per_page?: number;
  /** Leave out the models that the service calls beta. */
  hide_experimental?: boolean;
};

/** One model of the catalogue. */
export type ModelListing = {
  /** A UUID. */
  id: string;
  source: number;
  /** The model id for `run`. */
  name: string;
  description: string;
  task: { id: string; name: string; description: string };
  tags: string[];
  /** For instance `{ property_id: "context_window", value: "3072" }`, in tokens. */
  properties: { property_id: string; value: string }[];
};

/** Counters of a model's work on the GPU since it was loaded. */
export interface GpuCounters {
  /** The WebGPU adapter. */
  adapter: string;
  submissions: number;
  dispatches: number;
  bytesUploaded: number;
  bytesReadBack: number;
  buffersCreated: number;
  /** Size of all current buffers in bytes: weights, KV caches and scratch. */
  bytesAllocated: number;
}

/** The loaded models, token counts and memory use. */
export interface AiStats {
  /** The build that serves models of up to 4 GiB, and those on the GPU. */
  build: Build;
  /** Number of threads that compute, including the calling one. Worker threads start while the first model is loaded. */
  threads: number;
  models: {
    /** Name of the model file. */
    name: string;
    /** The build that serves it. */
    build: Build;
    backend: Backend;
    /** The reason why the backend is the CPU although the GPU was preferred; otherwise `null`. */
    reason: string | null;
    /** Present if the backend is the GPU. */
    gpu?: GpuCounters;
    /** Number of unfinished requests. */
    active: number;
    /** Number of tokens computed so far, in prompts and answers. */
    tokens: number;
  }[];
  /**
   * Size of the WebAssembly memory in bytes, which all models of a thread share, with that of `wide`. It never shrinks, so this is also the peak
   * so far.
   */
  memoryBytes: number;
  /** The build with 64-bit memory, once a model has needed it. */
  wide?: { build: Build; threads: number; memoryBytes: number };
}

/** A prompt as the model reads it. */
export interface TokenizedPrompt {
  /** Ids in the vocabulary of the model file. */
  tokens: number[];
  /** The text of each token, names of control tokens included. `\ufffd` stands for bytes that are only a part of a character. */
  pieces: string[];
  text: string;
}

// ── The class ──

/** Cloudflare's `env.AI` for text generation, computed locally. Nothing is loaded before the first request. */
export class Ai {
  /** The models that are stored on this device: see `AiModels`. In Node and in browsers. */
  static readonly models: AiModels;

  /** @throws AiInternalError if the configuration is invalid */
  constructor(config?: AiConfig);

  /** Id of the last request, as in its `cf-ai-req-id` header; `""` while it runs, `null` before the first request. */
  lastRequestId: string | null;
  /** Always `null`: there is no AI Gateway. */
  aiGatewayLogId: string | null;
  /** HTTP status of the last request. */
  lastRequestHttpStatusCode: number | null;
  /** Code of the last error, for instance 5007. */
  lastRequestInternalStatusCode: number | null;

  /**
   * Not for use. This overload makes the class assignable to the type `Ai` of @cloudflare/workers-types, whose return types depend on a
   * list of models that this package does not have.
   *
   * @hidden
   */
  run(model: never, inputs: never, options: never): Promise<any>;
  /**
   * Queues a batch. Ask for it later with `run(model, { request_id })`.
   *
   * @throws InferenceUpstreamError `"CODE: text"`, if it cannot be queued
   */
  run(model: string, inputs: BatchInput, options: AiOptions & { queueRequest: true; returnRawResponse?: false }): Promise<BatchQueued>;
  /**
   * Returns the answers of a batch, or that it is not complete yet.
   *
   * @throws InferenceUpstreamError 3042, if there is no such batch
   */
  run(model: string, inputs: { request_id: string }, options?: AiOptions & { returnRawResponse?: false }): Promise<BatchQueued | BatchResult>;
  /**
   * Answers an input with a `Response`. Failed requests are a `Response` too.
   *
   * @param model an id from the catalogue or the configuration, for instance `"@cf/meta/llama-3.1-8b-instruct"`
   * @throws AiInternalError for inputs and options that are not supported locally
   * @throws DOMException `AbortError`, if the signal fires
   */
  run(model: string, inputs: TextGenerationInput | TextEmbeddingsInput, options: AiOptions & { returnRawResponse: true }): Promise<Response>;
  run(model: ResponsesModel, inputs: ResponsesInput, options: AiOptions & { returnRawResponse: true }): Promise<Response>;
  /**
   * Answers a prompt or a conversation with a stream of server-sent events: see `TextGenerationEvent`. The answer is computed only while
   * the stream is read. Cancelling the stream ends the computation.
   *
   * @param model an id from the catalogue or the configuration, for instance `"@cf/meta/llama-3.1-8b-instruct"`
   * @throws InferenceUpstreamError `"CODE: text"`, if the request fails; a failure during the stream errors the stream
   * @throws AiInternalError for inputs and options that are not supported locally
   * @throws DOMException `AbortError`, if the signal fires
   */
  run(model: string, inputs: TextGenerationInput & { stream: true }, options?: AiOptions & { returnRawResponse?: false }): Promise<ReadableStream<Uint8Array>>;
  /** Answers an input of the Responses API, with a stream of its events or with one object. */
  run(model: ResponsesModel, inputs: ResponsesInput & { stream: true }, options?: AiOptions & { returnRawResponse?: false }): Promise<ReadableStream<Uint8Array>>;
  run(model: ResponsesModel, inputs: ResponsesInput & { stream?: false | null }, options?: AiOptions & { returnRawResponse?: false }): Promise<ResponsesOutput>;
  /** Answers a prompt or a conversation with a chat completion: the form of the newer models. */
  run(
    model: "@cf/qwen/qwen3-30b-a3b-fp8" | "@cf/aisingapore/gemma-sea-lion-v4-27b-it",
    inputs: PromptInput & { stream?: false | null },
    options?: AiOptions & { returnRawResponse?: false },
  ): Promise<TextCompletion>;
  run(model: ChatCompletionsModel, inputs: TextGenerationInput & { stream?: false | null }, options?: AiOptions & { returnRawResponse?: false }): Promise<ChatCompletion>;
  /** Answers a prompt or a conversation with one object, in which the arguments of calls are objects. */
  run(
    model: "@cf/meta/llama-4-scout-17b-16e-instruct",
    inputs: TextGenerationInput & { stream?: false | null },
    options?: AiOptions & { returnRawResponse?: false },
  ): Promise<TextGenerationOutput<Record<string, unknown>>>;
  /**
   * Answers a prompt or a conversation with one object.
   *
   * @param model an id from the catalogue or the configuration, for instance `"@cf/meta/llama-3.1-8b-instruct"`
   * @throws InferenceUpstreamError `"CODE: text"`, if the request fails
   * @throws AiInternalError for inputs and options that are not supported locally
   * @throws DOMException `AbortError`, if the signal fires
   */
  run(model: string, inputs: TextGenerationInput & { stream?: false | null }, options?: AiOptions & { returnRawResponse?: false }): Promise<TextGenerationOutput>;
  /**
   * Embeds texts.
   *
   * @param model the id of an embedding model, for instance `"@cf/baai/bge-base-en-v1.5"`
   */
  run(model: string, inputs: TextsInput, options?: AiOptions & { returnRawResponse?: false }): Promise<TextEmbeddingsOutput>;
  /** Compares contexts with a query, or embeds them. */
  run(model: string, inputs: ContextsInput & { query: string }, options?: AiOptions & { returnRawResponse?: false }): Promise<ContextScores>;
  run(model: string, inputs: ContextsInput & { query?: null }, options?: AiOptions & { returnRawResponse?: false }): Promise<ContextsOutput>;
  run(model: string, inputs: TextEmbeddingsInput, options?: AiOptions & { returnRawResponse?: false }): Promise<TextEmbeddingsOutput | ContextScores | ContextsOutput>;
  /** Answers an input of the Responses API. `inputs.stream` and `options.returnRawResponse` determine the form at run time. */
  run(model: ResponsesModel, inputs: ResponsesInput, options?: AiOptions): Promise<ResponsesOutput | ReadableStream<Uint8Array> | Response>;
  /** Answers a prompt or a conversation. `inputs.stream` and `options.returnRawResponse` determine the form at run time. */
  run(model: string, inputs: TextGenerationInput, options?: AiOptions): Promise<TextGenerationOutput | ChatCompletion | TextCompletion | ReadableStream<Uint8Array> | Response>;

  /**
   * Returns the text that the model would continue (the conversation in its chat template, with tools) and its tokens. Computes no answer.
   *
   * @throws InferenceUpstreamError `"CODE: text"`, as `run` does for this model and input
   */
  tokenize(model: string, inputs: TextGenerationInput): Promise<TokenizedPrompt>;
  /** Returns the models of the catalogue that match the filter. */
  models(params?: ModelsParameters): Promise<ModelListing[]>;
  /**
   * Frees the models of this `Ai`; in a page also its Web Worker, which ends answers in progress. Later calls reject with an
   * `AiInternalError`. Without it, an `Ai` that nothing refers to is freed by garbage collection.
   */
  close(): Promise<void>;

  /**
   * Loads the model that serves an id, so that the first request does not wait for it.
   *
   * @param model a model id. Default: the default model's
   * @returns `model`: the name of the file that serves this id; `backend`: the backend that computes it, `null` if a script
   *   answers; `reason`: see `backendReason`
   * @throws InferenceUpstreamError `"CODE: text"`, if the model cannot be loaded
   */
  load(model?: string): Promise<{ model: string; backend: Backend | null; reason: string | null }>;

  /** The backend that computes; `null` before a model is loaded. */
  get backend(): Backend | null;

  /** The reason why the backend is the CPU although the GPU was preferred; otherwise `null`. */
  get backendReason(): string | null;

  /** Returns the loaded models, token counts and memory use. */
  stats(): Promise<AiStats>;

  /** Always empty: there are no logs. */
  getLogs(): [];

  /**
   * The HTTP surface: REST (`POST /client/v4/accounts/:account/ai/run/:model`), OpenAI-compatible (`POST /v1/chat/completions`,
   * `GET /v1/models`) and the wire protocol of Cloudflare's own binding. Errors are returned as responses too. A stream is computed only
   * while it is read. Cancelling it, or aborting the request's `signal`, ends the computation.
   *
   * @param input may be only a path, for instance `"/v1/models"`
   * @throws DOMException `AbortError`, if the signal fires before there is a response
   */
  fetch(input: string | URL | Request, init?: RequestInit): Promise<Response>;

  // Members of env.AI that need Cloudflare's services. Each throws `AiInternalError`.

  /** Not available locally. */
  gateway(gatewayId: string): never;
  /** Not available locally. */
  autorag(autoragId: string): never;
  /** Not available locally. */
  aiSearch(): never;
  /** Not available locally. */
  websearch(request: unknown): Promise<never>;
  /** Not available locally. */
  toMarkdown(): never;
  /** Not available locally. */
  toMarkdown(files: unknown, options?: unknown): Promise<never>;
}

// ── Errors ──

/** A failed request. `name` is `"AiError"`, `message` is `"CODE: text"`. */
export class InferenceUpstreamError extends Error {
  constructor(message: string, details?: { internalCode?: number; httpCode?: number; description?: string; body?: object });
  readonly name: "AiError";
  /** The code alone, for instance 5007. An extension: errors of the live binding have only a name and a message. */
  readonly internalCode?: number;
  /** The HTTP status of this code. */
  readonly httpCode?: number;
  /** The text alone. */
  readonly description?: string;
  /** The body that a raw response with this error has. */
  readonly body?: object;
}

/** The class was used in an unsupported way, or for a feature that is not available locally. */
export class AiInternalError extends Error {
  constructor(message: string);
  readonly name: "AiInternalError";
}

/** The small model that is used when no other one is configured. */
export const DEFAULT_MODEL: {
  /** Its model id. */
  readonly id: string;
  /** Name of its GGUF file. */
  readonly file: string;
  readonly url: string;
  /** Length in bytes. */
  readonly size: number;
  /** SHA-256 of the file, in hexadecimal. */
  readonly sha256: string;
};
