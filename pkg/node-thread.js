// A worker thread of a build for several, in Node.

import { parentPort, workerData } from "node:worker_threads";
import { workAsThread } from "./threads.js";
import { builds } from "./wasm/builds.js";

workAsThread(workerData, await builds[workerData.build].glue(), () => parentPort.postMessage("ready"));
