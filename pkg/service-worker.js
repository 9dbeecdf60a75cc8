// The entry for service workers: `import { Ai } from "workers-ai-local/service-worker"`. A service worker can neither start a Web Worker nor
// use `import()`. So the engine runs in its thread, and everything is imported statically.

import { Ai as BaseAi } from "./ai.js";
import { openEmbeddings } from "./browser-embedding-engine.js";
import { createEngine } from "./browser-engine.js";
import { deleteModel, listModels } from "./browser-models.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { narrow } from "./instance.js";
import { builds } from "./wasm/single-builds.js";

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

export class Ai extends BaseAi {
  static models = { list: listModels, delete: deleteModel };

  /** @param {import("./index.d.ts").AiConfig} [config] */
  constructor(config = {}) {
    super(createEngine(config, narrow, () => builds, { openEmbeddings }));
  }
}
