// A worker thread of the build `threads`, in Node.

import { parentPort, workerData } from "node:worker_threads";
import { workAsThread } from "./threads.js";
import { builds } from "./wasm/builds.js";

workAsThread(workerData, await builds.threads.glue(), () => parentPort.postMessage("ready"));
