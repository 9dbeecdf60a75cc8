// The engine in a thread of a browser: in the Web Worker of a page's `Ai`, or where no Web Worker can be started.

import { sourcesOf } from "./browser-sources.js";
import { compile } from "./browser-wasm.js";
import { DEFAULT_MODEL } from "./default-model.js";
import { defaultFile } from "./hub.js";
import { LocalEngine, weakly } from "./local-engine.js";
import { substituteOf } from "./substitute.js";

/**
 * @import { AiConfig, Build } from "./index.d.ts"
 * @import { WasmInstance } from "./instance.js"
 * @import { StoreObservers } from "./browser-writer.js"
 * @import { Builds, EmbeddingEngine, StartThread } from "./internal.d.ts"
 */

/**
 * Creates the engine of this thread.
 *
 * @param {AiConfig} config
 * @param {WasmInstance} instance
 * @param {() => Builds<URL> | Promise<Builds<URL>>} loadBuilds called before each use
 * @param {object} abilities
 * @param {StartThread} [abilities.startThread] without it, the engine computes in one thread
 * @param {boolean} [abilities.widens] whether another engine takes what this one cannot hold
 * @param {() => void} [abilities.onStored] called when a model file begins to be stored
 * @param {(config: AiConfig, observers: StoreObservers) => Promise<EmbeddingEngine>} abilities.openEmbeddings loads what computes embeddings
 * @throws {AiInternalError} if the configuration is invalid
 */
export function createEngine(config, instance, loadBuilds, { startThread, widens = false, onStored = askToPersist, openEmbeddings }) {
  const host = async () => ({
    builds: placed(await loadBuilds(), config.wasmUrl),
    cores: navigator.hardwareConcurrency ?? 1,
    mayShare: startThread !== undefined && globalThis.crossOriginIsolated === true,
    ...{ widens: widens && hasWide(config.wasmUrl), widerRuntime: "Chrome or Firefox", memoryBytes: memoryBytes() },
    ...{ compile, startThread },
  });
  const observers = { onWarning: weakly(config.onWarning) ?? console.warn, onStored };
  const { one, open } = sourcesOf(config, observers);
  const { url, headers, sha256 } = defaultFile(DEFAULT_MODEL, config.hub);
  const fallback = config.default ?? open(url, headers, sha256);
  // Embeddings need no model of text, and a source cannot be sent to their Web Worker.
  const embeddings = (/** @type {AiConfig} */ settings) => openEmbeddings({ ...settings, default: undefined }, observers);
  return new LocalEngine(instance, host, { ...config, default: fallback }, one, substituteOf(config, {}), embeddings);
}

/** Asks the browser not to remove what is stored when the disk fills. Only pages can; some browsers then ask the user. */
export function askToPersist() {
  Promise.resolve(navigator.storage?.persist?.()).catch(() => {});
}

/**
 * Whether the configuration says where the builds with 64-bit memory are, if it says where any are.
 *
 * @param {AiConfig["wasmUrl"]} wasmUrl
 */
const hasWide = (wasmUrl) => wasmUrl === undefined || typeof wasmUrl === "string" || wasmUrl instanceof URL || "wasm64" in wasmUrl || "wasm64-threads" in wasmUrl;

/**
 * The memory of this machine in bytes, if it is known: Chromium says it in GiB, as a power of two near it, and of large machines only that they
 * are large.
 */
function memoryBytes() {
  const { deviceMemory = Infinity } = /** @type {{deviceMemory?: number}} */ (navigator);
  return deviceMemory < 8 ? deviceMemory * 1.5 * 2 ** 30 : undefined;
}

/** The name that the build gives each module, in a folder of the build's name. */
const WASM = "workers_ai_local_bg.wasm";

/**
 * The builds with the addresses of their modules that the configuration gives.
 *
 * @param {Builds<URL>} builds
 * @param {AiConfig["wasmUrl"]} wasmUrl
 * @returns {Builds<URL>}
 */
function placed(builds, wasmUrl) {
  if (wasmUrl === undefined) return builds;
  const isFolder = typeof wasmUrl === "string" || wasmUrl instanceof URL;
  /** @param {Build} build */
  const address = (build) => (isFolder ? `${String(wasmUrl).replace(/\/*$/, "/")}${build}/${WASM}` : wasmUrl[build]);
  const names = /** @type {Build[]} */ (Object.keys(builds)).filter((name) => address(name) !== undefined);
  return Object.fromEntries(names.map((name) => [name, { ...builds[name], wasm: new URL(address(name) ?? "", location.href) }]));
}
