// Types of the entry `workers-ai-local/vitest`.

import type { LocalAiOptions } from "./dev.d.ts";

export type { LocalAiOptions };

/**
 * Options for `cloudflareTest` of `@cloudflare/vitest-plugin` or of `@cloudflare/vitest-pool-workers`, with a local `env.AI`: instead of the `ai` binding of
 * `options.wrangler.configPath`, or without a configuration as the binding `ai.binding`.
 *
 * ```js
 * plugins: [cloudflareTest(localAi({ wrangler: { configPath: "./wrangler.jsonc" } }))]
 * ```
 */
export function localAi<Options extends object>(
  options?: Options | ((context: any) => Options | Promise<Options>),
  ai?: LocalAiOptions,
): (context?: any) => Promise<Options>;
