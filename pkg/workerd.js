// In workerd: `import { Ai } from "workers-ai-local"` inside a Worker of one's own.

import { waitUntil } from "cloudflare:workers";
import { Ai as BaseAi } from "./ai.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { start } from "./instance.js";
import { LocalEngine } from "./local-engine.js";
import dotProduct from "./wasm/dot-product.wasm";
import { builds } from "./wasm/workerd-builds.js";

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

/** workerd has no threads, and compiles nothing but the Worker's own modules. */
const HOST = { builds, cores: 1, mayShare: false, dotProduct, compile: async (wasm) => (await wasm()).default };

class WorkerdEngine extends LocalEngine {
  constructor(config) {
    super((settings) => start(settings, HOST), config);
  }

  async generate(...request) {
    const answer = await kept(super.generate(...request));
    return keptUntilFreed({ ...answer, object: () => kept(answer.object()) });
  }

  async fetch(...request) {
    return keptUntilFreed(await kept(super.fetch(...request)));
  }
}

/**
 * A request that is cancelled loses its timers, and what it began would stand still for good: a computation would never
 * give its place in the queue back.
 */
function kept(work) {
  waitUntil(work.catch(() => {}));
  return work;
}

/** workerd tells a stream that its reader is gone only while something keeps the request's context. */
function keptUntilFreed(answer) {
  if (!answer.stream) return answer;
  let ended;
  waitUntil(new Promise((resolve) => (ended = resolve)));
  const free = () => {
    answer.free();
    ended();
  };
  return { ...answer, free };
}

export class Ai extends BaseAi {
  constructor(config = {}) {
    super(new WorkerdEngine({ default: DEFAULT_MODEL.url, ...config }));
  }
}
