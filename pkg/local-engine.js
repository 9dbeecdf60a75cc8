// The engine in this thread.

import { checkBuild, memoryOf } from "./builds.js";
import { again, start as startAnswer } from "./replay.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { aloneFile, embeddingsOf, modelsForCrate } from "./embeddings.js";
import { AiInternalError, closed } from "./errors.js";
import { decided, toLoras } from "./loras.js";
import { toModelSource } from "./source.js";

/**
 * @import { AiConfig, CustomModelSource, LoraAdapter, ModelsParameters } from "./index.d.ts"
 * @import { WasmInstance } from "./instance.js"
 * @import { Lora } from "./loras.js"
 * @import { Source } from "./source.js"
 * @import { Answer, CoreAi, CoreAnswer, CoreHttpAnswer, EmbeddingEngine, Engine, Host, HttpAnswer, HttpRequest, Substitute, Task } from "./internal.d.ts"
 */

/** So long are HTTP requests answered without asking again for what could not be prepared; they may be for any model. */
const UNPREPARED_FOR_MS = 10_000;

/**
 * A function that calls `callback` while something else refers to it. The crate keeps what it gets until its `Ai` is freed, which a callback
 * that refers to this `Ai` would prevent for ever.
 *
 * @template Value
 * @param {((value: Value) => void) | undefined} callback
 */
export function weakly(callback) {
  // workerd has it from the compatibility date 2025-05-05 on.
  if (typeof callback !== "function" || typeof WeakRef !== "function") return callback;
  const reference = new WeakRef(callback);
  return (/** @type {Value} */ value) => reference.deref()?.(value);
}

/**
 * The substitute for the crate, which lives as long as its engine: see `weakly`.
 *
 * @param {Substitute | undefined} substitute
 */
function weakSubstitute(substitute) {
  if (!substitute || typeof WeakRef !== "function") return substitute;
  const reference = new WeakRef(substitute);
  return {
    records: substitute.records,
    ask: (/** @type {Parameters<Substitute["ask"]>} */ ...request) => reference.deref()?.ask(...request) ?? { reply: Promise.resolve(undefined), cancel() {} },
    record: (/** @type {Parameters<Substitute["record"]>} */ ...request) => reference.deref()?.record(...request),
  };
}

/**
 * @template Wasm
 * @implements {Engine}
 */
export class LocalEngine {
  #instance;
  #host;
  /** As it was given, except that files are sources. */
  #config;
  /** For the crate. */
  #settings;
  /**
   * The crate's `Ai`, and the `epoch()` of its instance.
   *
   * @type {{core: CoreAi, since: number} | undefined}
   */
  #started;
  #closed = false;
  #substitute;
  #embeddings;
  #toSource;
  /** When it failed to prepare a source, by `performance.now()`. @type {WeakMap<Source, number>} */
  #unprepared = new WeakMap();

  /**
   * @param {WasmInstance} instance
   * @param {() => Host<Wasm> | Promise<Host<Wasm>>} host called before each use
   * @param {AiConfig} config
   * @param {((value: unknown, place: string) => CustomModelSource) | undefined} toSource converts a configured file to a source
   * @param {Substitute | undefined} substitute what may answer in place of the models
   * @param {(config: AiConfig) => Promise<EmbeddingEngine>} openEmbeddings loads what computes embeddings
   * @throws {AiInternalError} if the configuration is invalid
   */
  constructor(instance, host, config, toSource, substitute, openEmbeddings) {
    checkBuild(config);
    this.#instance = instance;
    this.#host = host;
    const callbacks = { onProgress: weakly(config.onProgress), onWarning: weakly(config.onWarning) };
    this.#embeddings = embeddingsOf({ ...config, ...callbacks }, openEmbeddings, toSource);
    const models = modelsForCrate(config.models).map(([id, value]) => [id, toModelSource(value, `models["${id}"]`, toSource)]);
    const defaultModel = config.default === undefined ? undefined : toModelSource(config.default, "default", toSource);
    const embeddingsFile = aloneFile(config.defaultEmbeddings);
    const defaultEmbeddings = embeddingsFile === undefined ? undefined : toModelSource(embeddingsFile, "defaultEmbeddings", toSource);
    const loras = toLoras(config.loras, toSource);
    this.#config = { ...config, models: Object.fromEntries(models), default: defaultModel };
    this.#substitute = substitute;
    this.#toSource = toSource;
    this.#settings = { ...this.#config, loras, ...callbacks, substitute: weakSubstitute(substitute), embeddings: this.#embeddings, defaultEmbeddings };
  }

  /** Whether ids without a file of their own are refused. */
  get strict() {
    return Boolean(this.#config.strict);
  }

  /**
   * Starts the instance if necessary, and creates the crate's `Ai` again after the instance was replaced.
   *
   * @param {Source[]} [sources] what may be read next. The crate wants to know which files a model has before it opens one
   */
  async #ready(sources = []) {
    if (this.#closed) throw closed();
    const instance = this.#instance;
    const host = await this.#host();
    await Promise.all(sources.map((source) => this.#prepare(source)));
    await instance.start(this.#config, host);
    const since = instance.epoch();
    if (this.#started?.since !== since) {
      const settings = { ...this.#settings, memory: memoryOf(instance.facts().build, this.#config, host) };
      this.#started = { core: instance.call(since, () => new (instance.glue().Ai)(settings)), since };
    }
    return this.#started;
  }

  /** @param {Source} source */
  async #prepare(source) {
    try {
      await source.prepare?.();
      this.#unprepared.delete(source);
    } catch {
      // A name that stands for no model is an error when it is read.
      this.#unprepared.set(source, performance.now());
    }
  }

  /** The sources of all models, except those that a request for another one should not wait for again. */
  #sources() {
    const { models, default: fallback } = this.#config;
    const all = /** @type {Source[]} */ ([...Object.values(models), fallback].filter((source) => source !== undefined));
    return all.filter((source) => performance.now() - (this.#unprepared.get(source) ?? -Infinity) > UNPREPARED_FOR_MS);
  }

  /** The source of the model that answers for an id. @param {string} model */
  #sourcesOf(model) {
    const { models, default: fallback } = this.#config;
    const source = Object.hasOwn(models, model) ? models[model] : fallback;
    return source ? [/** @type {Source} */ (source)] : [];
  }

  /**
   * Adds a LoRA adapter, in place of one of the same name.
   *
   * @param {string} name
   * @param {LoraAdapter & {id?: string}} lora
   */
  addLora(name, lora) {
    this.#setLora(name, toLoras({ [name]: lora }, this.#toSource)[name]);
  }

  /**
   * @param {string} name
   * @param {Lora} lora
   */
  #setLora(name, lora) {
    // For an instance that replaces this one, too.
    this.#settings = { ...this.#settings, loras: { ...this.#settings.loras, [name]: lora } };
    if (!this.#started || this.#started.since !== this.#instance.epoch()) return;
    const { core, since } = this.#started;
    this.#instance.call(since, () => core.addLora(name, lora));
  }

  /**
   * Finds out which files those adapters have that are named by a repository of the hub, before a request that may name one.
   *
   * @param {() => string} text of the request
   */
  async #decideLoras(text) {
    const undecided = Object.entries(this.#settings.loras).filter(([, lora]) => lora.inRepository);
    if (undecided.length === 0 || !text().includes('"lora"')) return;
    const decide = async (/** @type {[string, Lora]} */ [name, lora]) => {
      const found = await decided(lora);
      // It may have been replaced meanwhile.
      if (found && this.#settings.loras[name] === lora) this.#setLora(name, found);
    };
    await Promise.all(undecided.map(decide));
  }

  /** Frees the crate's `Ai`. Answers in progress keep what they need until they end. */
  async close() {
    this.#closed = true;
    this.#embeddings.close();
    if (this.#started) this.#instance.release(this.#started.core, this.#started.since);
    this.#started = undefined;
  }

  /**
   * Starts to answer a request.
   *
   * @param {string} model
   * @param {string} input JSON text
   * @param {AbortSignal} [signal]
   * @returns {Promise<Answer>}
   */
  async generate(model, input, signal) {
    const { facts, whole, chunk, free } = await startAnswer(
      this.#instance,
      async ({ random, created, ticket }) => {
        await this.#decideLoras(() => input);
        const { core, since } = await this.#ready(this.#sourcesOf(model));
        return { begin: () => core.generate(model, input, random, created, ticket), since };
      },
      (/** @type {CoreAnswer} */ { stream, servedBy, computedBy }) => ({ stream, servedBy, computedBy: JSON.parse(computedBy) }),
      signal,
    );
    return { ...facts, object: () => whole((answer) => answer.object()), chunk, free };
  }

  /**
   * Answers an HTTP request.
   *
   * @param {HttpRequest} request
   * @param {AbortSignal} [signal]
   * @returns {Promise<HttpAnswer>}
   */
  async fetch({ method, url, headers, body, tooLarge }, signal) {
    const { facts, chunk, free } = await startAnswer(
      this.#instance,
      async ({ random, created, ticket }) => {
        await this.#decideLoras(() => new TextDecoder().decode(body));
        const { core, since } = await this.#ready(this.#sources());
        return { begin: () => core.fetch(method, url, JSON.stringify(headers), body, tooLarge, random, created, ticket), since };
      },
      (/** @type {CoreHttpAnswer} */ { status, headers, body, stream }) => ({ status, headers: JSON.parse(headers), body, stream }),
      signal,
    );
    return { ...facts, chunk, free };
  }

  /** Maximum length of a body that `fetch` accepts, in bytes. */
  async maxBodyBytes() {
    await this.#ready();
    return this.#instance.call(this.#instance.epoch(), () => this.#instance.glue().maxBodyBytes());
  }

  /**
   * Runs an operation, again if the instance is lost meanwhile.
   *
   * @template T
   * @param {string} model
   * @param {(core: CoreAi) => Task<T>} begin
   */
  #drive(model, begin) {
    return again(async () => {
      const { core, since } = await this.#ready(this.#sourcesOf(model));
      return this.#instance.drive(() => begin(core), undefined, since);
    });
  }

  /** Loads the model file that serves an id. */
  async load(model = DEFAULT_MODEL.id) {
    if (this.#substitute?.onlyScript) return { model: "script", backend: null, reason: null };
    return this.#drive(model, (core) => core.load(model));
  }

  /**
   * Renders and tokenises a request.
   *
   * @param {string} model
   * @param {string} input JSON text
   */
  async tokenize(model, input) {
    if (this.#substitute?.onlyScript) throw new AiInternalError("A script has no vocabulary, so tokenize() needs an Ai without one.");
    return this.#drive(model, (core) => core.tokenize(model, input));
  }

  /**
   * Returns the catalogue, filtered.
   *
   * @param {ModelsParameters} params
   */
  async models(params) {
    await this.#ready();
    return this.#instance.call(this.#instance.epoch(), () => this.#instance.glue().models(JSON.stringify(params ?? {})));
  }

  /** Returns the build, the loaded models with their token counts, and the memory use. */
  async stats() {
    const { core, since } = await this.#ready();
    const { models } = this.#instance.call(since, () => core.stats());
    const facts = this.#instance.facts();
    return { ...facts, models: models.map((model) => ({ ...model, build: facts.build })) };
  }
}
