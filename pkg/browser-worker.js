// The Web Worker of a page's `Ai`.

import { serveEngine } from "./engine-worker.js";
import { narrow } from "./instance.js";
import { isForeign, startForeign } from "./module-worker.js";
import { builds as singleBuilds } from "./wasm/single-builds.js";
import { builds as threadBuilds } from "./wasm/thread-builds.js";

/** Where this module was loaded from. Bundlers replace `new URL("…", import.meta.url)`, but not a URL that is relative to this constant. */
const HERE = import.meta.url;

const startThread = () => (isForeign(HERE) ? startForeign(new URL("browser-thread.js", HERE)) : new Worker(new URL("./browser-thread.js", import.meta.url), { type: "module" }));

const startEmbeddings = () =>
  isForeign(HERE) ? startForeign(new URL("browser-embeddings.js", HERE)) : new Worker(new URL("./browser-embeddings.js", import.meta.url), { type: "module" });

serveEngine(narrow, { ...singleBuilds, ...threadBuilds }, startThread, startEmbeddings, true);
