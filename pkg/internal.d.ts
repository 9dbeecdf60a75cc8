// Types that the package's modules share: the engine behind an `Ai`, the runtime around it, and the compiled crate. The package's
// interface for programs is index.d.ts.

import type {
  AiConfig,
  AiStats,
  Backend,
  Build,
  CustomModelSource,
  LoraAdapter,
  ModelListing,
  ModelProgress,
  ModelsParameters,
  TextGenerationOutput,
  TokenizedPrompt,
} from "./index.d.ts";

// ── The engine ──

/** What an `Ai` delegates to: `LocalEngine` in this thread, or `RemoteEngine` in a Web Worker. */
export interface Engine {
  /** Whether ids without a file of their own are refused, if that is known. */
  readonly strict?: boolean;
  /** Starts to answer a request. `input` is JSON text. */
  generate(model: string, input: string, signal?: AbortSignal): Promise<Answer>;
  /** Answers an HTTP request. */
  fetch(request: HttpRequest, signal?: AbortSignal): Promise<HttpAnswer>;
  /** Maximum length of a body that `fetch` accepts, in bytes. */
  maxBodyBytes(): Promise<number>;
  /** Loads the model file that serves an id; without an id, the default model. */
  load(model?: string): Promise<LoadedModel>;
  /** Renders and tokenises a request. `input` is JSON text. */
  tokenize(model: string, input: string): Promise<TokenizedPrompt>;
  /** Returns the catalogue, filtered. */
  models(params: ModelsParameters): Promise<ModelListing[]>;
  /** Returns the build, the loaded models with their token counts, and the memory use. */
  stats(): Promise<AiStats>;
  /** Adds a LoRA adapter, in place of one of the same name. Only of engines in this thread. */
  addLora?(name: string, lora: LoraAdapter & { id?: string }): void;
  /** Keeps the runtime from ending work for which no caller waits. Only of engines in runtimes that would. */
  background?(work: Promise<unknown>): void;
  /** Frees the models. Later calls reject. */
  close(): Promise<void>;
}

/** The backend that computes, and why it is not the preferred one. */
export interface ComputedBy {
  backend: Backend;
  reason: string | null;
}

export interface LoadedModel {
  /** Name of the model file; "script" if no model answers. */
  model: string;
  /** `null` if no model answers. */
  backend: Backend | null;
  reason: string | null;
}

/** The properties of an answer, which can be sent between threads. */
export interface AnswerFacts {
  /** Whether the request asked for a stream. */
  stream: boolean;
  /** Name of the model file; "script" or "service" if no model answers. */
  servedBy: string;
  /** `null` if no model answers. */
  computedBy: ComputedBy | null;
}

/** Reads a stream. */
export interface Chunks {
  /** The stream's next bytes, `undefined` at its end. */
  chunk(): Promise<Uint8Array<ArrayBuffer> | undefined>;
  /** Ends the stream. */
  free(): void;
}

/** The answer to `generate`, with methods to read it: `object` for the whole answer, `chunk` and `free` for a stream. */
export interface Answer extends AnswerFacts, Chunks {
  object(): Promise<TextGenerationOutput>;
}

export interface HttpRequest {
  method: string;
  url: string;
  headers: [name: string, value: string][];
  body?: Uint8Array;
  /** Whether the body exceeds `maxBodyBytes` and is therefore missing. */
  tooLarge: boolean;
}

export interface HttpAnswerFacts {
  status: number;
  headers: [name: string, value: string][];
  /** The complete body; `undefined` for a stream. */
  body: Uint8Array<ArrayBuffer> | undefined;
  stream: boolean;
}

/** The answer to `fetch`. A stream is read with `chunk` and ended with `free`. */
export interface HttpAnswer extends HttpAnswerFacts, Chunks {}

// ── What answers in place of the models ──

/** A request as the caller made it, not validated yet. */
export interface Asked {
  model: string;
  input: any;
  /** Whether the answer is to be in OpenAI's dialect, instead of the binding's. */
  openai: boolean;
}

/** A reply in place of a model's: exactly one property is set. All but `stream` are JSON text. */
export interface Reply {
  /** `{parts: ({text} | {call: {name, arguments}})[], usage, finish_reason, delay, named, error}` */
  prepared?: string;
  /** The service's answer as one object. */
  object?: string;
  /** The service's answer as server-sent events. */
  stream?: { read(): Promise<Uint8Array | undefined>; cancel(): unknown };
  /** The service's error, as the binding's body has it. */
  error?: string;
}

/** A question to what may answer in place of the models. */
export interface Question {
  /** The reply as the crate reads it; `undefined`: a model is to answer. */
  reply: Promise<Pick<Reply, "stream"> | { text: string } | undefined>;
  /** Nobody waits for the reply any more. */
  cancel(): void;
}

/** What may answer in place of the models. */
export interface Substitute {
  /** Whether no request ever reaches a model. */
  onlyScript: boolean;
  /** Whether `record` wants the models' answers. */
  records: boolean;
  /** `input` is JSON text. */
  ask(model: string, input: string, openai: boolean): Question;
  /** Receives a model's complete answer, as `Reply.prepared` has it. */
  record(model: string, input: string, answer: string): void;
}

// ── Embeddings ──

/** What answers the crate's requests for embeddings. */
export interface HostEmbeddings {
  /** The configured ids of embedding models. */
  ids: string[];
  /** `cls`: whether the first token's vector is a text's, instead of the mean. Without texts it only loads the model. */
  embed(model: string, texts: string[], cls: boolean): { vectors: Promise<EmbeddingVectors>; cancel(): void };
}

/** The vectors of texts. */
export interface EmbeddingVectors {
  /** One after the other. */
  numbers: Float32Array;
  /** Length of each. */
  width: number;
  /** Tokens of all texts. */
  tokens: number;
  /** Name of the model's file. */
  servedBy: string;
}

/** What computes embeddings. */
export interface EmbeddingEngine {
  /** `model`: a configured id; without one, the model that stands in for the others. */
  embed(model: string | undefined, texts: string[], cls: boolean, signal?: AbortSignal): Promise<EmbeddingVectors>;
  close(): void;
}

/** The module for embeddings, as a runtime gets it. */
export interface EmbeddingModule {
  glue(): Promise<EmbeddingGlue>;
  compile(): Promise<WebAssembly.Module>;
}

/** What the package uses of the module that wasm-bindgen generates from embeddings/src/js.rs. */
export interface EmbeddingGlue {
  initSync(options: InitOptions): object;
  __wbg_reset_state(): void;
  Reader: new (verifies: boolean) => EmbeddingReader;
  sha256(bytes: Uint8Array): string;
}

export interface EmbeddingReader extends WasmObject {
  push(bytes: Uint8Array): void;
  /** `undefined` unless the reader verifies. */
  sha256(): string | undefined;
  /** Consumes the reader. */
  finish(config?: Uint8Array, tokenizer?: Uint8Array): Embedder;
}

export interface Embedder extends WasmObject {
  readonly width: number;
  start(texts: string[], cls: boolean): EmbeddingJob;
  /** Computes the next batch. Returns whether it was the last one. */
  step(job: EmbeddingJob): boolean;
}

export interface EmbeddingJob extends WasmObject {
  /** Consumes the job. The vectors, one after the other, and at the end the number of tokens. */
  finish(): Float32Array;
}

// ── The runtime ──

/** The capabilities of a runtime. `Wasm` is the form in which it gets a build's module. */
export interface Host<Wasm> {
  builds: Builds<Wasm>;
  /** Number of processor cores. */
  cores: number;
  /** Whether memory can be shared with worker threads. */
  mayShare: boolean;
  /** Whether a second engine, with 64-bit memory, takes the models that need it (`WideningEngine`). */
  widens: boolean;
  /** Which runtimes of this kind have 64-bit memory, in words. */
  widerRuntime: string;
  /** The memory that the whole machine has, in bytes, if that is known. */
  memoryBytes?: number;
  /** The compiled module `DOT_PRODUCT`, for runtimes that cannot compile modules. */
  dotProduct?: WebAssembly.Module;
  /** Compiles a build's `wasm`. */
  compile(wasm: Wasm): Promise<WebAssembly.Module>;
  /** Required where memory can be shared. */
  startThread?: StartThread;
}

/** The builds in this package, by name. */
export type Builds<Wasm> = { [name in Build]?: BuildFiles<Wasm> };

export interface BuildFiles<Wasm> {
  glue(): Promise<Glue>;
  wasm: Wasm;
}

/** Starts a worker thread; returns a function that terminates it. */
export type StartThread = (shared: Shared, events: ThreadEvents) => () => void;

/** The data that a worker thread receives. */
export interface Shared {
  build: Build;
  module: WebAssembly.Module;
  memory: WebAssembly.Memory;
}

/** To be called when a worker thread is ready, and when it has ended. */
export interface ThreadEvents {
  ready(): void;
  ended(reason: string): void;
}

// ── The compiled crate: what the package uses of the modules that wasm-bindgen generates from src/js/ ──

export interface Glue {
  /** Instantiates the module. Once that is done, only returns the exports. */
  initSync(options: InitOptions): Exports;
  /** Replaces the instance by a new one. */
  __wbg_reset_state(): void;
  Ai: new (config: Omit<AiConfig, "loras"> & { loras?: Record<string, CoreLora>; substitute?: Omit<Substitute, "onlyScript">; embeddings: HostEmbeddings; memory: CoreMemory }) => CoreAi;
  maxBodyBytes(): number;
  /** Makes the next `poll` of any task fail in one of the ways in which a bug can, as if it worked for the request `ticket`. For tests. */
  failNextPoll(how: "panic" | "stack" | "memory", ticket: number): void;
  /** `params` is JSON text. */
  models(params: string): ModelListing[];
  /** Only in the multithreaded builds. Does not return. */
  workThread?(): void;
}

interface Exports {
  readonly memory: WebAssembly.Memory;
  /** The ticket of the request that the instance worked for when it trapped; 0 if that is unknown. A 32-bit number, possibly negative. */
  blamedTicket(): number;
}

interface InitOptions {
  module: WebAssembly.Module;
  /** Only for the multithreaded builds. */
  memory?: WebAssembly.Memory;
  /** Only for the multithreaded builds. */
  thread_stack_size?: number;
}

export interface WasmObject {
  free(): void;
  /** 0 after `free`. It is missing in wasm-bindgen's own types. */
  readonly __wbg_ptr?: number;
}

/** An operation, which `drive` runs. */
export interface Task<Result> extends WasmObject {
  poll(failed: boolean, value: unknown): Promise<unknown> | null | undefined;
  take(): Result;
}

/** A LoRA adapter with its files: `gguf`, or `config` and `weights`. */
export interface CoreLora {
  /** By which requests can name it too; default: one that follows from its name. */
  id?: string;
  model?: string;
  gguf?: CustomModelSource;
  config?: CustomModelSource;
  weights?: CustomModelSource;
}

/** The memory that an instance can have. */
export interface CoreMemory {
  bytes: number;
  /** Whether requests for a model that needs more fail with an error for which `wantsMore` is true. */
  elsewhere: boolean;
  /** What to do about a model that needs more; in other runtimes, say. May be empty. */
  advice: string;
}

/** What makes the answer to a request differ from the answer to an equal one. */
export interface Nonce {
  /** 16 bytes. */
  random: Uint8Array<ArrayBuffer>;
  /** Unix time in seconds. */
  created: number;
  /** The request's number in this thread, at least 1. */
  ticket: number;
}

export interface CoreAi extends WasmObject {
  generate(model: string, input: string, random: Uint8Array, created: number, ticket: number): Task<CoreAnswer>;
  fetch(
    method: string,
    url: string,
    headers: string,
    body: Uint8Array | undefined,
    tooLarge: boolean,
    random: Uint8Array,
    created: number,
    ticket: number,
  ): Task<CoreHttpAnswer>;
  load(model: string): Task<LoadedModel>;
  tokenize(model: string, input: string): Task<TokenizedPrompt>;
  addLora(name: string, lora: CoreLora): void;
  stats(): { models: Omit<AiStats["models"][number], "build">[] };
}

/** Reads a stream in the crate. */
export interface CoreChunks extends WasmObject {
  chunk(): Task<Uint8Array<ArrayBuffer> | undefined>;
}

export interface CoreAnswer extends CoreChunks {
  readonly stream: boolean;
  readonly servedBy: string;
  /** JSON text of a `ComputedBy`, or of `null`. */
  readonly computedBy: string;
  object(): Task<TextGenerationOutput>;
}

export interface CoreHttpAnswer extends CoreChunks {
  readonly status: number;
  /** JSON text: `[[name, value], …]`. */
  readonly headers: string;
  readonly body: Uint8Array<ArrayBuffer> | undefined;
  readonly stream: boolean;
}

// ── Messages between remote-engine.js and browser-worker.js ──

/**
 * The calls to the Web Worker. Once it has loaded, it sends `"ready"`. Then it receives `{id, call}` and the fields of the first parameter,
 * and answers `{id, value}` or `{id, error}`.
 */
export type WorkerCalls = {
  configure(fields: { config: AiConfig; observe: { progress: boolean; warning: boolean } }): void;
  generate(fields: { id: number; model: string; input: string }, signal: AbortSignal): Promise<AnswerFacts>;
  fetch(fields: { id: number; request: HttpRequest }, signal: AbortSignal): Promise<HttpAnswerFacts>;
  maxBodyBytes(): Promise<number>;
  /** `answer` is the id of the call that opened the answer. */
  object(fields: { answer: number }): Promise<TextGenerationOutput>;
  chunk(fields: { answer: number }): ReturnType<Chunks["chunk"]> | undefined;
  load(fields: { model?: string }): Promise<LoadedModel>;
  tokenize(fields: { model: string; input: string }): Promise<TokenizedPrompt>;
  models(fields: { params: ModelsParameters }): Promise<ModelListing[]>;
  stats(): Promise<AiStats>;
};

/** Messages to the Web Worker that are not answered. */
export type WorkerNotices = {
  /** Asks it to send `"ready"` again. */
  greet(): void;
  abort(fields: { id: number }): void;
  free(fields: { answer: number }): void;
};

/** A message from the Web Worker: the answer to a call, or an event. */
export interface WorkerMessage {
  id: number;
  /** `any`: the type depends on the call or the event. */
  value?: any;
  error?: ErrorMessage;
  event?: "progress" | "warning" | "stored";
}

/** Callbacks of the configuration, which a Web Worker calls by `WorkerMessage.event`. */
export interface Observers {
  progress?: (progress: ModelProgress) => void;
  warning?: (text: string) => void;
  /** A model file begins to be stored. */
  stored?: () => void;
}

/** An error in a form that `postMessage` can clone. */
export interface ErrorMessage {
  name?: string;
  message: string;
  internalCode?: number;
  httpCode?: number;
  description?: string;
  body?: object;
}
