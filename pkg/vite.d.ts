// Types of the entry `workers-ai-local/vite`.

import type { AiConfig } from "./index.d.ts";

/**
 * A Vite plugin beside `cloudflare()` of `@cloudflare/vite-plugin`: in `vite dev` and `vite preview`, the `ai` bindings of all Workers are computed
 * on this machine. `vite build` is not affected. Other bindings with `remote: true` are local, too, while this plugin is active.
 *
 * ```js
 * plugins: [cloudflare(), localAi()]
 * ```
 */
export function localAi(options?: AiConfig): {
  name: string;
  enforce: "pre";
  config(config: { root?: string }, environment: { command: string; isPreview?: boolean }): Promise<void>;
  configResolved(config: { logger: { info(text: string): void } }): void;
};
