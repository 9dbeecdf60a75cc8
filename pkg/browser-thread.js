// A worker thread of the multithreaded builds in a browser: a Web Worker started by the engine's Web Worker.

import { workAsThread } from "./threads.js";
import { builds } from "./wasm/thread-builds.js";

addEventListener("message", ({ data }) => workAsThread(data, builds, () => postMessage("ready")), { once: true });
