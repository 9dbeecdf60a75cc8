// The engine in this thread. An engine is what an `Ai` talks to: generate, fetch, maxBodyBytes, load, models, stats.

import { checkBuild } from "./builds.js";
import { call, drive, epoch, facts, glue, memoryBytes, release } from "./instance.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { toSource } from "./source.js";

export class LocalEngine {
  #initialise;
  #config;
  #core;
  #since;

  /**
   * @param {(config: import("./index.d.ts").AiConfig) => void | Promise<void>} initialise makes the WebAssembly instance ready
   * @param {import("./index.d.ts").AiConfig} config
   * @param {(value: unknown, place: string) => object} [source] how this runtime reads a configured file
   */
  constructor(initialise, config = {}, source = toSource) {
    checkBuild(config);
    this.#initialise = initialise;
    const own = Object.entries(config.models ?? {}).map(([id, value]) => [id, source(value, `models["${id}"]`)]);
    const standIn = config.default === undefined ? undefined : source(config.default, "default");
    this.#config = { ...config, models: Object.fromEntries(own), default: standIn };
  }

  async #ready() {
    await this.#initialise(this.#config);
    if (this.#since !== epoch()) {
      this.#since = epoch();
      this.#core = call(this.#since, () => new (glue().Ai)(this.#config));
    }
    return this.#core;
  }

  /** Accepts a request; `input` is JSON text. */
  async generate(model, input, signal) {
    const core = await this.#ready();
    const since = this.#since;
    const answer = await drive(() => core.generate(model, input), signal, since);
    return {
      stream: answer.stream,
      servedBy: answer.servedBy,
      computedBy: JSON.parse(answer.computedBy),
      object: () => drive(() => answer.object(), signal, since).finally(() => release(answer, since)),
      ...drawnFrom(answer, signal, since),
    };
  }

  /** Answers an HTTP request; `headers` are pairs. What is not a stream is complete, and has its whole `body`. */
  async fetch({ method, url, headers, body, tooLarge }, signal) {
    const core = await this.#ready();
    const since = this.#since;
    const answer = await drive(() => core.fetch(method, url, JSON.stringify(headers), body, tooLarge), signal, since);
    const { status, stream } = answer;
    return { status, headers: JSON.parse(answer.headers), body: answer.body, stream, ...drawnFrom(answer, signal, since) };
  }

  /** The longest body that `fetch` takes. */
  async maxBodyBytes() {
    await this.#ready();
    return call(epoch(), () => glue().maxBodyBytes());
  }

  async load(model = DEFAULT_MODEL.id) {
    const core = await this.#ready();
    return drive(() => core.load(model), undefined, this.#since);
  }

  async models(params) {
    await this.#ready();
    return call(epoch(), () => glue().models(JSON.stringify(params ?? {})));
  }

  /** What computes, what is loaded, how much was computed, and how much memory it took. */
  async stats() {
    const core = await this.#ready();
    return { ...facts(), ...call(this.#since, () => core.stats()), memoryBytes: memoryBytes() };
  }
}

/** A stream's next bytes, and its end. */
function drawnFrom(answer, signal, since) {
  const running = new Set();
  return {
    chunk: () => drive(() => answer.chunk(), signal, since, running),
    // At once, not when the task goes on: in workerd the timer that it waits for may be gone with its request.
    free() {
      for (const task of running) release(task, since);
      running.clear();
      release(answer, since);
    },
  };
}
