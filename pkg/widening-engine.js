// Two engines as one: models that need more than 32-bit memory holds move to a second engine, with 64-bit memory, which starts when the first
// of them is asked for.

import { wantsWide } from "./builds.js";
import { aiError, closed, wantsMore } from "./errors.js";

/**
 * @import { AiConfig, ModelsParameters } from "./index.d.ts"
 * @import { Chunks, Engine, HttpRequest } from "./internal.d.ts"
 */

/**
 * The engine for a configuration.
 *
 * @param {AiConfig} config
 * @param {(config: AiConfig) => Engine} narrow creates the engine with 32-bit memory
 * @param {(config: AiConfig) => Engine} wide creates the one with 64-bit memory
 */
export function engineBySize(config, narrow, wide) {
  if (wantsWide(config)) return wide(config);
  // What concerns a request, both engines say.
  const said = new Set();
  /** @param {string} text */
  const onWarning = (text) => {
    if (!said.has(text)) (config.onWarning ?? console.warn)(text);
    said.add(text);
  };
  const settings = { ...config, onWarning };
  return new WideningEngine(narrow(settings), () => wide(settings));
}

/** @implements {Engine} */
class WideningEngine {
  #narrow;
  #createWide;
  /** @type {Engine | undefined} */
  #wide;
  /** The ids of models that are in the second engine. */
  #moved = new Set();
  /** Adapters that came later. @type {Parameters<NonNullable<Engine["addLora"]>>[]} */
  #added = [];
  #closed = false;

  /**
   * @param {Engine} narrow
   * @param {() => Engine} createWide
   */
  constructor(narrow, createWide) {
    this.#narrow = narrow;
    this.#createWide = createWide;
  }

  get strict() {
    return this.#narrow.strict;
  }

  /**
   * Runs work on the engine that holds the model.
   *
   * @template T
   * @param {string | undefined} model its id, where the request names it
   * @param {(engine: Engine) => Promise<T>} work
   * @returns {Promise<T>}
   */
  async #where(model, work) {
    if (this.#moved.has(model)) return this.#onWide(model, work);
    try {
      return await work(this.#narrow);
    } catch (error) {
      if (!wantsMore(error)) throw error;
    }
    return this.#onWide(model, work);
  }

  /**
   * Runs work on the second engine, which holds the model from now on.
   *
   * @template T
   * @param {string | undefined} model
   * @param {(engine: Engine) => Promise<T>} work
   * @returns {Promise<T>}
   */
  #onWide(model, work) {
    if (this.#closed) throw closed();
    if (model !== undefined) this.#moved.add(model);
    if (!this.#wide) {
      this.#wide = this.#createWide();
      for (const added of this.#added) this.#wide.addLora?.(...added);
    }
    return work(this.#wide);
  }

  /**
   * Starts an answer, and starts it again on the second engine if the model has to move before anything was delivered: a GPU that was lost, or is
   * full, may leave it to a CPU whose memory is too small.
   *
   * @template {Chunks} Answer
   * @param {string | undefined} model
   * @param {(engine: Engine) => Promise<Answer>} start
   * @returns {Promise<Answer>}
   */
  async #answer(model, start) {
    let answer = await this.#where(model, start);
    let [delivered, freed] = [false, false];
    /**
     * @template T
     * @param {(answer: Answer) => Promise<T>} read
     * @returns {Promise<T>}
     */
    const reading = async (read) => {
      try {
        return await read(answer);
      } catch (error) {
        if (!wantsMore(error)) throw error;
        answer.free();
        if (delivered || freed) throw aiError(3040, 429, "The model moves to the CPU with 64-bit memory, and this answer could not be continued. Try again.");
        answer = await this.#onWide(model, start);
        // Its reader may have gone meanwhile.
        if (freed) answer.free();
        return read(answer);
      }
    };
    return {
      ...answer,
      ...("object" in answer && { object: () => reading((/** @type {any} */ answer) => answer.object()) }),
      async chunk() {
        const chunk = await reading((answer) => answer.chunk());
        delivered = true;
        return chunk;
      },
      free() {
        freed = true;
        answer.free();
      },
    };
  }

  /** @type {Engine["generate"]} */
  generate(model, input, signal) {
    return this.#answer(model, (engine) => engine.generate(model, input, signal));
  }

  /**
   * @param {HttpRequest} request
   * @param {AbortSignal} [signal]
   */
  fetch(request, signal) {
    return this.#answer(undefined, (engine) => engine.fetch(request, signal));
  }

  maxBodyBytes() {
    return this.#narrow.maxBodyBytes();
  }

  /** @param {string} [model] */
  load(model) {
    return this.#where(model, (engine) => engine.load(model));
  }

  /**
   * @param {string} model
   * @param {string} input JSON text
   */
  tokenize(model, input) {
    return this.#where(model, (engine) => engine.tokenize(model, input));
  }

  /** @param {ModelsParameters} params */
  models(params) {
    return this.#narrow.models(params);
  }

  async stats() {
    const first = await this.#narrow.stats();
    // It may be unable to start: the requests that needed it say why.
    const second = await this.#wide?.stats().catch(() => undefined);
    if (!second) return first;
    const { models, ...wide } = second;
    return { ...first, models: [...first.models, ...models], memoryBytes: first.memoryBytes + wide.memoryBytes, wide };
  }

  /** @type {NonNullable<Engine["addLora"]>} */
  addLora(...added) {
    this.#added.push(added);
    for (const engine of [this.#narrow, this.#wide]) engine?.addLora?.(...added);
  }

  /** @param {Promise<unknown>} work */
  background(work) {
    this.#narrow.background?.(work);
  }

  async close() {
    this.#closed = true;
    await Promise.all([this.#narrow.close(), this.#wide?.close()]);
  }
}
