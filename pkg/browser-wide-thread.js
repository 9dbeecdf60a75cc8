// A worker thread of the multithreaded build with 64-bit memory in a browser.

import { workAsThread } from "./threads.js";
import { builds } from "./wasm/wide-builds.js";

addEventListener("message", ({ data }) => workAsThread(data, builds, () => postMessage("ready")), { once: true });
