// Types of the entry `workers-ai-local/miniflare`.

import type { LocalAiOptions } from "./dev.d.ts";

export type { LocalAiOptions };

/**
 * Adds a local `env.AI` to options of Miniflare 4 or 5: to every Worker of `options.workers`, or to the only one. The Workers get the genuine class
 * of the binding. The engine is shared with other processes that use the same models, and ends with the process.
 *
 * ```js
 * const mf = new Miniflare(await withLocalAi({ modules: true, scriptPath: "./worker.js" }));
 * ```
 */
export function withLocalAi<Options extends object>(options: Options, ai?: LocalAiOptions): Promise<Options>;
