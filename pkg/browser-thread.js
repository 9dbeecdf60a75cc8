// A worker thread of a build for several, in a browser: a Web Worker of the Web Worker that has the engine.

import { workAsThread } from "./threads.js";
import { builds } from "./wasm/builds.js";

addEventListener("message", async ({ data }) => workAsThread(data, await builds[data.build].glue(), () => postMessage("ready")), { once: true });
