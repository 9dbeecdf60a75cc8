// Types of `workers-ai-local/worker`: the local AI Worker, for a Worker of yours that exports its entrypoint, or as a Worker of its own.

import { WorkerEntrypoint } from "cloudflare:workers";
import type {
  AiConfig,
  AiOptions,
  AiStats,
  BatchInput,
  BatchQueued,
  BatchResult,
  ChatCompletion,
  ContextScores,
  ContextsOutput,
  ModelListing,
  ModelsParameters,
  ResponsesInput,
  ResponsesModel,
  ResponsesOutput,
  TextCompletion,
  TextEmbeddingsInput,
  TextEmbeddingsOutput,
  TextGenerationInput,
  TextGenerationOutput,
} from "./index.d.ts";

/** A name (`hf:owner/repo:Q4_K_M`, `llama-3.2-1b`), a key in the bucket `MODELS` or a URL; or those of all files of a split model. */
export type ModelLocation = string | string[];

/** Names, keys in the bucket `MODELS` or URLs of an embedding model's files. */
export type EmbeddingLocation = { weights: string; config?: string; tokenizer?: string };

/** A key or URL of a GGUF adapter, or of a folder with PEFT's two files (it ends in `/`); or those of the two files. */
export type AdapterLocation = string | { config: string; weights: string };

/** The Worker's bindings and variables. Each is optional; without any, the default model is downloaded. */
export interface LocalAiEnv {
  /** The R2 bucket with the model files. */
  MODELS?: R2Bucket;
  /** A secret: the Hugging Face hub's token, for gated models that are named. */
  HF_TOKEN?: string;
  /** A mirror of the hub. */
  HF_ENDPOINT?: string;
  /** The model of ids without their own. */
  DEFAULT_MODEL?: ModelLocation;
  /** The embedding model of ids without their own, as a string or as JSON text. */
  DEFAULT_EMBEDDINGS?: string | EmbeddingLocation;
  /** The models of single ids, as an object or as JSON text. */
  AI_MODELS?: string | Record<string, ModelLocation | EmbeddingLocation>;
  /** LoRA adapters by name, as an object or as JSON text; one that is only a source is tried with the model of the request. */
  AI_LORAS?: string | Record<string, AdapterLocation | { model?: string; source: AdapterLocation }>;
  /** `"true"` refuses ids without a model of their own. */
  STRICT?: string | boolean;
  /** Maximum number of unfinished requests per model. */
  QUEUE?: string | number;
  BUILD?: AiConfig["build"];
  /** Origins whose pages may read responses of `fetch`, separated by commas, or `"*"`. */
  CORS?: string;
}

/** The entrypoint to bind as `AI`. Its methods are those of `Ai`; a signal cannot cross a binding. */
export class Ai extends WorkerEntrypoint<LocalAiEnv> {
  run(model: string, inputs: BatchInput | { request_id: string }, options?: AiOptions): Promise<BatchQueued | BatchResult>;
  run(model: string, inputs: TextEmbeddingsInput, options?: AiOptions): Promise<TextEmbeddingsOutput | ContextScores | ContextsOutput | Response>;
  run(model: ResponsesModel, inputs: ResponsesInput, options?: AiOptions): Promise<ResponsesOutput | ReadableStream<Uint8Array> | Response>;
  run(model: string, inputs: TextGenerationInput, options?: AiOptions): Promise<TextGenerationOutput | ChatCompletion | TextCompletion | ReadableStream<Uint8Array> | Response>;
  fetch(request: Request): Promise<Response>;
  models(params?: ModelsParameters): Promise<ModelListing[]>;
  stats(): Promise<AiStats>;
  getLogs(): [];
  gateway(): never;
  autorag(): never;
  aiSearch(): never;
  toMarkdown(): never;
  websearch(): Promise<never>;
}

/** Serves the HTTP surface, and a greeting at the path `/`. */
declare const worker: {
  fetch(request: Request, env: LocalAiEnv, ctx: ExecutionContext): Promise<Response>;
};
export default worker;
