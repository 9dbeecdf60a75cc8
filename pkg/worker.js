// The local AI Worker: its entrypoint `Ai`, bound as `AI` to a Worker, is that Worker's `env.AI`. The Worker itself and the
// entrypoint's `fetch` are the HTTP surface.

import { WorkerEntrypoint } from "cloudflare:workers";
import { Ai as LocalAi, DEFAULT_MODEL } from "./workerd.js";

const GREETING = `This is the local AI Worker. Bind its entrypoint "Ai" as AI to a Worker of yours and call env.AI.run(model, input), or
call it over HTTP: POST /client/v4/accounts/local/ai/run/<model>, POST /v1/chat/completions, GET /v1/models.
`;

/** One for the whole Worker: the model is loaded once, and requests share it. */
let shared;

/**
 * Configuration by bindings and variables of the Worker:
 * - `MODELS`: an R2 bucket with model files;
 * - `DEFAULT_MODEL`: the stand-in, an object's key or a URL;
 * - `AI_MODELS`: `{"@cf/…": key or URL}`;
 * - `STRICT`: "true" refuses ids without a file;
 * - `QUEUE`: requests accepted at once;
 * - `BUILD`: "simd128" or "relaxed" instead of the faster one;
 * - `CORS`: origins whose pages may call the HTTP surface, separated by commas, or "*".
 */
function localAi(env) {
  const file = (value) => (/^https?:/.test(value) || !env.MODELS ? value : { bucket: env.MODELS, key: value });
  const models = typeof env.AI_MODELS === "string" ? JSON.parse(env.AI_MODELS) : (env.AI_MODELS ?? {});
  return new LocalAi({
    models: Object.fromEntries(Object.entries(models).map(([id, value]) => [id, file(value)])),
    default: file(env.DEFAULT_MODEL ?? (env.MODELS ? DEFAULT_MODEL.file : DEFAULT_MODEL.url)),
    strict: String(env.STRICT) === "true",
    queue: env.QUEUE === undefined ? undefined : Number(env.QUEUE),
    build: env.BUILD,
    cors: env.CORS && String(env.CORS).split(",").map((origin) => origin.trim()),
  });
}

const sharedAi = (env) => (shared ??= localAi(env));

/** The HTTP surface, and a line for whoever opens the Worker's address. */
async function answer(request, env, ctx) {
  const { pathname } = new URL(request.url);
  if (request.method === "GET" && pathname === "/") return new Response(GREETING);
  const ai = sharedAi(env);
  const model = modelOf(request, pathname);
  if (model) keepLoading(ai, model, ctx);
  return ai.fetch(request);
}

/** The model that a request runs, where its header or its path names it. A chat completion names it in its body only. */
function modelOf(request, pathname) {
  if (request.method !== "POST") return undefined;
  const header = request.headers.get("cf-consn-model-id");
  // Behind a prefix, where there is one.
  if (header) return header.slice(header.indexOf(":@") + 1);
  return /\/ai\/run\/(.+)$/.exec(pathname)?.[1].replaceAll(/%40/g, "@").replaceAll(/%2f/gi, "/");
}

/**
 * The load goes on when a request's client leaves: the next request needs the model too. An error of the load is the
 * request's to tell.
 */
function keepLoading(ai, model, ctx) {
  ctx.waitUntil(ai.load(model).catch(() => {}));
}

export class Ai extends WorkerEntrypoint {
  #ai() {
    return sharedAi(this.env);
  }

  async run(model, inputs, options) {
    const ai = this.#ai();
    keepLoading(ai, model, this.ctx);
    return ai.run(model, inputs, options);
  }

  fetch(request) {
    return answer(request, this.env, this.ctx);
  }

  models(params) {
    return this.#ai().models(params);
  }

  stats() {
    return this.#ai().stats();
  }

  getLogs() {
    return [];
  }

  gateway(id) {
    return this.#ai().gateway(id);
  }

  autorag(id) {
    return this.#ai().autorag(id);
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
