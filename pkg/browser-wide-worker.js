// The Web Worker for models that need 64-bit memory. A page starts it when it has such a model.

import { serveEngine } from "./engine-worker.js";
import { wide } from "./instance.js";
import { isForeign, startForeign } from "./module-worker.js";
import { builds } from "./wasm/wide-builds.js";

/** Where this module was loaded from, as in browser-worker.js. */
const HERE = import.meta.url;

const startThread = () => (isForeign(HERE) ? startForeign(new URL("browser-wide-thread.js", HERE)) : new Worker(new URL("./browser-wide-thread.js", import.meta.url), { type: "module" }));

const startEmbeddings = () =>
  isForeign(HERE) ? startForeign(new URL("browser-embeddings.js", HERE)) : new Worker(new URL("./browser-embeddings.js", import.meta.url), { type: "module" });

serveEngine(wide, builds, startThread, startEmbeddings, false);
