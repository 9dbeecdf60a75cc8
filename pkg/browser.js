// In a browser: the engine lives in a dedicated Web Worker, so that a page never freezes.

import { Ai as BaseAi } from "./ai.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { RemoteEngine } from "./remote-engine.js";

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

export class Ai extends BaseAi {
  constructor(config = {}) {
    super(new RemoteEngine(() => new Worker(new URL("./browser-worker.js", import.meta.url), { type: "module" }), config));
  }
}
