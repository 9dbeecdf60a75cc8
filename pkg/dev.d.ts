// Types that the entries for development share.

import type { AiConfig } from "./index.d.ts";

/** How a Worker's `env.AI` is computed: all options of `new Ai()`, with paths relative to the current folder. */
export interface LocalAiOptions extends AiConfig {
  /** The name of the binding where no wrangler configuration says it. Default: `"AI"`. */
  binding?: string;
}
