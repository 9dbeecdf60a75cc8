// The engine in this thread.

import { checkBuild } from "./builds.js";
import { call, drive, epoch, facts, glue, memoryBytes, release } from "./instance.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { closed } from "./errors.js";
import { toSource } from "./source.js";

/**
 * @import { AiConfig, CustomModelSource, ModelsParameters } from "./index.d.ts"
 * @import { Answer, Chunks, CoreAi, CoreChunks, Engine, HttpAnswer, HttpRequest, WasmObject } from "./internal.d.ts"
 */

/** @implements {Engine} */
export class LocalEngine {
  #initialise;
  #config;
  /**
   * The crate's `Ai`, and the `epoch()` of its instance.
   *
   * @type {{core: CoreAi, since: number} | undefined}
   */
  #started;
  #closed = false;

  /**
   * @param {(config: AiConfig) => void | Promise<void>} initialise starts the WebAssembly instance
   * @param {AiConfig} config
   * @param {(value: unknown, place: string) => CustomModelSource} [source] converts a configured file to a source; see `toSource`
   * @throws {AiInternalError} if the configuration is invalid
   */
  constructor(initialise, config = {}, source = toSource) {
    checkBuild(config);
    this.#initialise = initialise;
    const models = Object.entries(config.models ?? {}).map(([id, value]) => [id, source(value, `models["${id}"]`)]);
    const defaultModel = config.default === undefined ? undefined : source(config.default, "default");
    this.#config = { ...config, models: Object.fromEntries(models), default: defaultModel };
  }

  /** Starts the instance if necessary, and creates the crate's `Ai` again after the instance was replaced. */
  async #ready() {
    if (this.#closed) throw closed();
    await this.#initialise(this.#config);
    const since = epoch();
    if (this.#started?.since !== since) this.#started = { core: call(since, () => new (glue().Ai)(this.#config)), since };
    return this.#started;
  }

  /** Frees the crate's `Ai`. Answers in progress keep what they need until they end. */
  async close() {
    this.#closed = true;
    if (this.#started) release(this.#started.core, this.#started.since);
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
    const { core, since } = await this.#ready();
    const answer = await drive(() => core.generate(model, input), signal, since);
    return {
      stream: answer.stream,
      servedBy: answer.servedBy,
      computedBy: JSON.parse(answer.computedBy),
      object: () => drive(() => answer.object(), signal, since).finally(() => release(answer, since)),
      ...streamMethods(answer, signal, since),
    };
  }

  /**
   * Answers an HTTP request.
   *
   * @param {HttpRequest} request
   * @param {AbortSignal} [signal]
   * @returns {Promise<HttpAnswer>}
   */
  async fetch({ method, url, headers, body, tooLarge }, signal) {
    const { core, since } = await this.#ready();
    const answer = await drive(() => core.fetch(method, url, JSON.stringify(headers), body, tooLarge), signal, since);
    const { status, stream } = answer;
    return { status, headers: JSON.parse(answer.headers), body: answer.body, stream, ...streamMethods(answer, signal, since) };
  }

  /** Maximum length of a body that `fetch` accepts, in bytes. */
  async maxBodyBytes() {
    await this.#ready();
    return call(epoch(), () => glue().maxBodyBytes());
  }

  /** Loads the model file that serves an id. */
  async load(model = DEFAULT_MODEL.id) {
    const { core, since } = await this.#ready();
    return drive(() => core.load(model), undefined, since);
  }

  /**
   * Renders and tokenises a request.
   *
   * @param {string} model
   * @param {string} input JSON text
   */
  async tokenize(model, input) {
    const { core, since } = await this.#ready();
    return drive(() => core.tokenize(model, input), undefined, since);
  }

  /**
   * Returns the catalogue, filtered.
   *
   * @param {ModelsParameters} params
   */
  async models(params) {
    await this.#ready();
    return call(epoch(), () => glue().models(JSON.stringify(params ?? {})));
  }

  /** Returns the build, the loaded models with their token counts, and the memory use. */
  async stats() {
    const { core, since } = await this.#ready();
    return { ...facts(), ...call(since, () => core.stats()), memoryBytes: memoryBytes() };
  }
}

/**
 * @param {CoreChunks} answer
 * @param {AbortSignal | undefined} signal
 * @param {number} since
 * @returns {Chunks}
 */
function streamMethods(answer, signal, since) {
  /** @type {Set<WasmObject>} */
  const running = new Set();
  return {
    chunk: () => drive(() => answer.chunk(), signal, since, running),
    // Frees the tasks now, not when they continue: in workerd, the timer that a task waits for may have ended with its request.
    free() {
      for (const task of running) release(task, since);
      running.clear();
      release(answer, since);
    },
  };
}
