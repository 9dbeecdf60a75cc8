// The local AI Worker. Another Worker that binds its entrypoint `Ai` as `AI` has the local `env.AI`. The Worker itself and the
// entrypoint's `fetch` serve the HTTP surface.

import { WorkerEntrypoint } from "cloudflare:workers";
import { DEFAULT_EMBEDDINGS } from "./default-embeddings.js";
import { withFiles } from "./loras.js";
import { parseName } from "./names.js";
import { Ai as LocalAi, DEFAULT_MODEL } from "./workerd.js";

const GREETING = `This is the local AI Worker. Bind its entrypoint "Ai" as AI in your own Worker and call env.AI.run(model, input), or
call this Worker over HTTP: POST /client/v4/accounts/local/ai/run/<model>, POST /v1/chat/completions, POST /v1/embeddings, GET /v1/models.
`;

/** @import { AiConfig, AiOptions, EmbeddingSource, LoraAdapter, ModelSource, ModelsParameters, TextEmbeddingsInput, TextGenerationInput } from "./index.d.ts" */

/**
 * The Worker's bindings and variables.
 *
 * @typedef {string | string[]} File a name (`hf:owner/repo:Q4_K_M`, `llama-3.2-1b`), key or URL, or those of all files of a split model
 * @typedef {{weights: string, config?: string, tokenizer?: string}} Files of an embedding model: names, keys or URLs
 * @typedef {object} Env
 * @property {R2Bucket} [MODELS] an R2 bucket with model files
 * @property {File} [DEFAULT_MODEL] the name, the key in `MODELS` or the URL of the model for ids without their own
 * @property {string} [HF_TOKEN] a secret: the hub's token for gated repositories
 * @property {string} [HF_ENDPOINT] a mirror of the hub
 * @property {string | Record<string, File | Files>} [AI_MODELS] `{"@cf/…": name, key or URL}`, the model files of single ids; may be JSON text
 * @property {string | Files} [DEFAULT_EMBEDDINGS] the embedding model for ids without their own: the key or URL of a GGUF file, or an object with those
 *   of `weights`, `config` and `tokenizer`; may be JSON text
 * @property {string | Record<string, string | {model?: string, source: string | {config: string, weights: string}}>} [AI_LORAS] LoRA adapters by name: `{"my-adapter":
 *   {"model": "@cf/…", "source": …}}`, or only the source: the key or URL of a GGUF adapter, of a folder with PEFT's two files (it ends in `/`),
 *   `hf:owner/repo`, or `{"config": …, "weights": …}`; may be JSON text
 * @property {string | boolean} [STRICT] "true" rejects ids without a file of their own
 * @property {string | number} [QUEUE] maximum number of unfinished requests per model
 * @property {AiConfig["build"]} [BUILD] "simd128", "relaxed" or "wasm64"; default: the fastest one, and for a model beyond 4 GiB "wasm64"
 * @property {string} [CORS] origins whose pages may read responses of the HTTP surface, separated by commas, or "*"
 */

/**
 * The `Ai` of the whole Worker: the model is loaded once and shared by all requests.
 *
 * @type {LocalAi | undefined}
 */
let shared;

/** @param {Env} env */
function localAi(env) {
  /** @param {string} value */
  const one = (value) => (parseName(value) || !env.MODELS ? value : { bucket: env.MODELS, key: value });
  /** @param {File | Files} value */
  const file = (value) => (typeof value === "string" ? one(value) : Array.isArray(value) ? value.map(one) : files(value));
  /** @param {object} value */
  const files = (value) => /** @type {EmbeddingSource} */ (Object.fromEntries(Object.entries(value).map(([name, each]) => [name, one(each)])));
  const models = typeof env.AI_MODELS === "string" ? JSON.parse(env.AI_MODELS) : (env.AI_MODELS ?? {});
  return new LocalAi({
    models: Object.fromEntries(Object.entries(models).map(([id, value]) => [id, file(value)])),
    ...(env.DEFAULT_MODEL || env.MODELS ? { default: /** @type {ModelSource} */ (file(jsonOr(env.DEFAULT_MODEL ?? DEFAULT_MODEL.file))) } : {}),
    ...(env.DEFAULT_EMBEDDINGS || env.MODELS ? { defaultEmbeddings: /** @type {EmbeddingSource} */ (file(jsonOr(env.DEFAULT_EMBEDDINGS ?? EMBEDDINGS_IN_BUCKET))) } : {}),
    loras: withFiles(lorasOf(env), (value) => one(String(value))),
    hub: { endpoint: env.HF_ENDPOINT || undefined, token: env.HF_TOKEN || undefined },
    strict: String(env.STRICT) === "true",
    queue: env.QUEUE === undefined ? undefined : Number(env.QUEUE),
    build: env.BUILD,
    cors: env.CORS ? String(env.CORS).split(",").map((origin) => origin.trim()) : undefined,
    onWarning: (text) => console.warn(forWorker(text)),
  });
}

/**
 * A warning of the library with this Worker's variables where it advises a program.
 *
 * @param {string} text
 */
function forWorker(text) {
  const ofEmbeddings = text.replace(
    /\bGive it files with new Ai\(\{ models: \{ ("[^"]*"): \{ weights, config, tokenizer \} \} \}\), or set strict: true to refuse it\./,
    'Give it files with the variable AI_MODELS = { $1 = { weights = "key or URL", config = …, tokenizer = … } }, or refuse it with STRICT = "true".',
  );
  return ofEmbeddings.replace(
    /\bGive it a GGUF with new Ai\(\{ models: \{ ("[^"]*"): source \} \}\), or set strict: true to refuse it\./,
    'Give it a GGUF with the variable AI_MODELS = { $1 = "name, key or URL" }, or refuse it with STRICT = "true".',
  );
}

/**
 * The adapters of the variable `AI_LORAS`.
 *
 * @param {Env} env
 * @returns {Record<string, LoraAdapter>}
 */
function lorasOf({ AI_LORAS: given = {} }) {
  const loras = typeof given === "string" ? JSON.parse(given) : given;
  return Object.fromEntries(Object.entries(loras).map(([name, lora]) => [name, lora && typeof lora === "object" && "source" in lora ? lora : { source: lora }]));
}

/**
 * A list or an object that a variable has as JSON text; other values as they are.
 *
 * @template {File | Files} Value
 * @param {Value} value
 * @returns {Value}
 */
const jsonOr = (value) => (typeof value === "string" && /^(\["|\{)/.test(value) ? JSON.parse(value) : value);

const { folder, weights, config, tokenizer } = DEFAULT_EMBEDDINGS;
/** The keys of the embedding model that stands in for others. */
const EMBEDDINGS_IN_BUCKET = { weights: `${folder}/${weights.file}`, config: `${folder}/${config.file}`, tokenizer: `${folder}/${tokenizer.file}` };

/** @param {Env} env */
const sharedAi = (env) => (shared ??= localAi(env));

/**
 * Serves the HTTP surface, and a greeting at the path `/`.
 *
 * @param {Request} request
 * @param {Env} env
 * @param {ExecutionContext} ctx
 */
async function answer(request, env, ctx) {
  const { pathname } = new URL(request.url);
  if (request.method === "GET" && pathname === "/") return new Response(GREETING);
  const ai = sharedAi(env);
  const model = modelOf(request, pathname);
  if (model) keepLoading(ai, model, ctx);
  return ai.fetch(request);
}

/**
 * The model id in a request's header or path; `undefined` if there is none. Chat completions have it only in the body.
 *
 * @param {Request} request
 * @param {string} pathname
 */
function modelOf(request, pathname) {
  if (request.method !== "POST") return undefined;
  const header = request.headers.get("cf-consn-model-id");
  // The id may have a prefix, separated by a colon.
  if (header) return header.slice(header.indexOf(":@") + 1);
  return /\/ai\/run\/(.+)$/.exec(pathname)?.[1].replaceAll(/%40/g, "@").replaceAll(/%2f/gi, "/");
}

/**
 * Keeps a load running after the request's client disconnects, because the next request needs the model too. Errors are ignored here: the
 * request itself reports them.
 *
 * @param {LocalAi} ai
 * @param {string} model
 * @param {ExecutionContext} ctx
 */
function keepLoading(ai, model, ctx) {
  ctx.waitUntil(ai.load(model).catch(() => {}));
}

/**
 * The entrypoint to bind as `AI`. It has the methods of `Ai` in index.d.ts.
 *
 * @extends {WorkerEntrypoint<Env>}
 */
export class Ai extends WorkerEntrypoint {
  #ai() {
    return sharedAi(this.env);
  }

  /**
   * @param {string} model
   * @param {TextGenerationInput | TextEmbeddingsInput} inputs
   * @param {AiOptions} [options]
   */
  async run(model, inputs, options) {
    const ai = this.#ai();
    keepLoading(ai, model, this.ctx);
    return ai.run(model, /** @type {TextGenerationInput} */ (inputs), options);
  }

  /** @param {Request} request */
  fetch(request) {
    return answer(request, this.env, this.ctx);
  }

  /** @param {ModelsParameters} [params] */
  models(params) {
    return this.#ai().models(params);
  }

  stats() {
    return this.#ai().stats();
  }

  getLogs() {
    return [];
  }

  gateway() {
    return this.#ai().gateway();
  }

  autorag() {
    return this.#ai().autorag();
  }

  aiSearch() {
    return this.#ai().aiSearch();
  }

  toMarkdown() {
    return this.#ai().toMarkdown();
  }

  websearch() {
    return this.#ai().websearch();
  }
}

export default {
  fetch: answer,
};
