// In workerd: `import { Ai } from "workers-ai-local"` inside a Worker of one's own.

import wasm from "./wasm/workers_ai_local_bg.wasm";
import { initSync } from "./wasm/workers_ai_local.js";
import { Ai as BaseAi } from "./ai.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { LocalEngine } from "./local-engine.js";

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

export class Ai extends BaseAi {
  constructor(config = {}) {
    super(new LocalEngine(() => void initSync({ module: wasm }), { default: DEFAULT_MODEL.url, ...config }));
  }
}
