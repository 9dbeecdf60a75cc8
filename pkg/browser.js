// The entry for browsers. The engine runs in a dedicated Web Worker, so that the page stays responsive.

import { Ai as BaseAi } from "./ai.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { RemoteEngine } from "./remote-engine.js";

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

export class Ai extends BaseAi {
  /** @param {import("./index.d.ts").AiConfig} [config] */
  constructor(config = {}) {
    super(new RemoteEngine(() => new Worker(new URL("./browser-worker.js", import.meta.url), { type: "module" }), config));
  }
}
