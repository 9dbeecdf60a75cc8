// The embedding engine in a thread of a browser: in a Web Worker of its own, or where none can be started.

import { sourcesOf } from "./browser-sources.js";
import { compile } from "./browser-wasm.js";
import { DEFAULT_EMBEDDINGS } from "./default-embeddings.js";
import { LocalEmbeddings } from "./embedding-engine.js";
import { defaultFile } from "./hub.js";
import { builds } from "./wasm/embeddings.js";

/**
 * @import { StoreObservers } from "./browser-writer.js"
 * @import { DefaultFile } from "./default-embeddings.js"
 * @import { AiConfig } from "./index.d.ts"
 */

/** The name that the build gives the module. */
const WASM = "embeddings/workers_ai_local_embeddings_bg.wasm";

/**
 * @param {AiConfig} config
 * @param {StoreObservers} observers
 */
export async function openEmbeddings(config, observers) {
  const { embeddings } = builds;
  const wasm = embeddings && (addressOf(config.wasmUrl) ?? embeddings.wasm);
  const { weights, config: sizes, tokenizer } = DEFAULT_EMBEDDINGS;
  const { one, open } = sourcesOf(config, observers);
  const file = (/** @type {DefaultFile} */ given) => {
    const { url, headers, sha256 } = defaultFile(given, config.hub);
    return open(url, headers, sha256);
  };
  const fallback = () => ({ weights: file(weights), config: file(sizes), tokenizer: file(tokenizer) });
  return new LocalEmbeddings(config, embeddings && { glue: embeddings.glue, compile: () => compile(/** @type {URL} */ (wasm)) }, fallback, one);
}

/**
 * Where the configuration says that the module is.
 *
 * @param {AiConfig["wasmUrl"]} wasmUrl
 */
function addressOf(wasmUrl) {
  if (wasmUrl === undefined) return undefined;
  const isFolder = typeof wasmUrl === "string" || wasmUrl instanceof URL;
  const address = isFolder ? `${String(wasmUrl).replace(/\/*$/, "/")}${WASM}` : wasmUrl.embeddings;
  return address && new URL(address, location.href);
}
