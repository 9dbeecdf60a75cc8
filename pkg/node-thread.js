// A worker thread of the multithreaded builds in Node.

import { parentPort, workerData } from "node:worker_threads";
import { workAsThread } from "./threads.js";
import { builds } from "./wasm/builds.js";

await workAsThread(workerData, builds, () => parentPort?.postMessage("ready"));
