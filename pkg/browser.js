// The entry for browsers. The engine runs in a dedicated Web Worker, so that the page stays responsive. In a worker that cannot start
// another one (a shared worker), it runs in that thread.

import { Ai as BaseAi } from "./ai.js";
import { askToPersist, createEngine } from "./browser-engine.js";
import { deleteModel, listModels } from "./browser-models.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { AiInternalError } from "./errors.js";
import { narrow } from "./instance.js";
import { firstLoaded, isForeign, loaded, startModule } from "./module-worker.js";
import { RemoteEngine } from "./remote-engine.js";
import { engineBySize } from "./widening-engine.js";

export { AiInternalError, InferenceUpstreamError } from "./errors.js";
export { DEFAULT_MODEL };

export class Ai extends BaseAi {
  static models = { list: listModels, delete: deleteModel };

  /** @param {import("./index.d.ts").AiConfig} [config] */
  constructor({ worker, wideWorker, ...config } = {}) {
    // A script has functions, which no message can carry, and computes nothing.
    const inWorker = typeof Worker === "function" && config.script === undefined && config.remote === undefined && config.record === undefined;
    super(inWorker ? engineBySize(config, remote("worker", worker), remote("wideWorker", wideWorker)) : createEngine(config, narrow, loadBuilds, { openEmbeddings: loadEmbeddings }));
  }
}

/**
 * @param {keyof typeof WORKERS} option
 * @param {import("./index.d.ts").AiConfig["worker"]} given
 */
const remote = (option, given) => (/** @type {import("./index.d.ts").AiConfig} */ config) => new RemoteEngine(() => startWorker(option, given), config, askToPersist);

/** Started Web Workers that programs have given: each serves one `Ai`. */
const used = new WeakSet();
const GREETING_LIMIT_MS = 30_000;

/**
 * The engines' Web Workers, by the option that names another one. Bundlers recognise exactly this form of `new Worker`: they bundle the worker
 * and replace its URL.
 */
const WORKERS = {
  worker: { entry: "browser-worker", bundled: () => new Worker(new URL("./browser-worker.js", import.meta.url), { type: "module" }) },
  wideWorker: { entry: "browser-wide-worker", bundled: () => new Worker(new URL("./browser-wide-worker.js", import.meta.url), { type: "module" }) },
};

/**
 * Starts the Web Worker that the configuration names.
 *
 * @param {keyof typeof WORKERS} option
 * @param {NonNullable<import("./index.d.ts").AiConfig["worker"]>} given
 * @returns {Promise<Worker>}
 * @throws {AiInternalError} if it cannot be loaded
 */
async function startGiven(option, given) {
  try {
    if (typeof given === "string" || given instanceof URL) return await loaded(startModule(new URL(given, location.href)));
    const worker = /** @type {Worker} */ (typeof given === "function" ? await given() : given);
    if (used.has(worker)) throw new Error("it has ended, or serves another Ai; give a function that starts one");
    used.add(worker);
    const isLoaded = loaded(worker);
    // It may have loaded, or failed to, before anybody listened.
    worker.postMessage({ call: "greet" });
    const silent = new Promise((_, reject) => setTimeout(() => reject(new Error("it does not answer")), GREETING_LIMIT_MS));
    return /** @type {Worker} */ (await Promise.race([isLoaded, silent]));
  } catch (error) {
    throw new AiInternalError(
      `The Web Worker of the option \`${option}\` could not be started: ${error.message}. It must be the bundled "workers-ai-local/${WORKERS[option].entry}", and a Content Security Policy of the page must allow it in worker-src.`,
    );
  }
}

/** Where this module was loaded from. Bundlers replace `new URL("…", import.meta.url)`, but not a URL that is relative to this constant. */
const HERE = import.meta.url;

/**
 * The folder to which the dev server of Vite 5 to 7 moves this module, merged with its imports, but not the worker. The package itself stays
 * where npm installed it.
 */
const MOVED = /\/node_modules\/\.vite\/deps\/[^/]*$/;
const INSTALLED = "/node_modules/workers-ai-local/pkg/";

const FIX_VITE = 'With Vite, set `optimizeDeps: { exclude: ["workers-ai-local"] }`.';

/**
 * Starts an engine's Web Worker.
 *
 * @param {keyof typeof WORKERS} option
 * @param {import("./index.d.ts").AiConfig["worker"]} given what the configuration says
 * @returns {Promise<Worker>}
 * @throws {AiInternalError} if it cannot be loaded, with what to do
 */
async function startWorker(option, given) {
  if (given !== undefined) return startGiven(option, given);
  const { entry, bundled } = WORKERS[option];
  const file = new URL(`${entry}.js`, HERE.replace(MOVED, INSTALLED));
  const foreign = isForeign(file);
  const installed = () => startModule(file);
  const ways = MOVED.test(HERE) ? [installed, bundled] : foreign ? [bundled, installed] : [bundled];
  try {
    return await firstLoaded(ways);
  } catch (error) {
    const fix = foreign
      ? `It is from another origin, ${file.origin}: that server must allow this page by CORS, and a Content Security Policy of the page must allow it in script-src, and blob: in worker-src.`
      : `The server must have ${entry}.js beside browser.js (the option \`${option}\` names another place), and a Content Security Policy of the page must allow it in worker-src. ${FIX_VITE}`;
    throw new AiInternalError(`The engine's Web Worker could not be started: ${error.message}. ${fix}`);
  }
}

/**
 * The same for embeddings.
 *
 * @type {Parameters<typeof createEngine>[3]["openEmbeddings"]}
 */
async function loadEmbeddings(...given) {
  const { openEmbeddings } = await import("./browser-embedding-engine.js");
  return openEmbeddings(...given);
}

/** Loads the builds only where the engine runs in this thread: a page does not need them. */
async function loadBuilds() {
  try {
    return (await import("./wasm/single-builds.js")).builds;
  } catch (error) {
    throw new AiInternalError(
      `The engine could not be loaded: ${error.message}. In a service worker, import Ai from "workers-ai-local/service-worker", which needs no import().`,
    );
  }
}
