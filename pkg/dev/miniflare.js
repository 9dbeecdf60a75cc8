// The entry `workers-ai-local/miniflare`: options of Miniflare with a local `env.AI`.

import { localEngine, speaking } from "./engine.js";
import { PLUGIN } from "./plugin.js";

/** @import { LocalAiOptions } from "../dev.d.ts" */

/**
 * Options of Miniflare, or of one of its Workers, in which every Worker has the binding. See miniflare.d.ts.
 *
 * @param {Record<string, any>} options
 * @param {LocalAiOptions} [ai]
 * @returns {Promise<any>}
 */
export async function withLocalAi(options, { binding = "AI", ...ai } = {}) {
  const { link } = await localEngine(speaking(ai, "withLocalAi(options, "));
  /** @param {Record<string, any>} worker */
  const bound = (worker) => {
    // Miniflare 5's own form, and that of Miniflare 4, which both read.
    if (worker.config) {
      const env = { ...worker.config.env, [binding]: { type: `unsafe:${PLUGIN.name}`, dev: { plugin: PLUGIN, options: { link } } } };
      return { ...worker, config: { ...worker.config, env } };
    }
    return { ...worker, unsafeBindings: [...(worker.unsafeBindings ?? []), { name: binding, type: PLUGIN.name, plugin: PLUGIN, options: { link } }] };
  };
  return options.workers ? { ...options, workers: options.workers.map(bound) } : bound(options);
}
