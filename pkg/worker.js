// The local AI Worker: its entrypoint `Ai`, bound as `AI` to a Worker, is that Worker's `env.AI`.

import { WorkerEntrypoint } from "cloudflare:workers";
import { Ai as LocalAi, DEFAULT_MODEL } from "./workerd.js";

/** One for the whole Worker: the model is loaded once, and requests share it. */
let shared;

/**
 * Configuration by bindings and variables of the Worker:
 * - `MODELS`: an R2 bucket with model files;
 * - `DEFAULT_MODEL`: the stand-in, an object's key or a URL;
 * - `AI_MODELS`: `{"@cf/…": key or URL}`;
 * - `STRICT`: "true" refuses ids without a file.
 */
function localAi(env) {
  const file = (value) => (/^https?:/.test(value) || !env.MODELS ? value : { bucket: env.MODELS, key: value });
  const models = typeof env.AI_MODELS === "string" ? JSON.parse(env.AI_MODELS) : (env.AI_MODELS ?? {});
  return new LocalAi({
    models: Object.fromEntries(Object.entries(models).map(([id, value]) => [id, file(value)])),
    default: file(env.DEFAULT_MODEL ?? (env.MODELS ? DEFAULT_MODEL.file : DEFAULT_MODEL.url)),
    strict: String(env.STRICT) === "true",
  });
}

export class Ai extends WorkerEntrypoint {
  #ai() {
    return (shared ??= localAi(this.env));
  }

  async run(model, inputs, options) {
    const ai = this.#ai();
    // The load goes on when this request's client leaves: the next request needs the model too. An error of the load is
    // the run's to tell.
    this.ctx.waitUntil(ai.load(model).catch(() => {}));
    return ai.run(model, inputs, options);
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
  async fetch() {
    return new Response(
      'This is the local AI Worker. Bind its entrypoint "Ai" as AI to a Worker of yours and call env.AI.run(model, input).\n',
      { status: 404 },
    );
  },
};
