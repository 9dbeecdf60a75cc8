// The engine in this thread. An engine is what an `Ai` talks to: generate, load, models, stats.

import { Ai as Core, models } from "./wasm/workers_ai_local.js";
import { call, drive, epoch, release } from "./instance.js";
import { toSource } from "./source.js";

