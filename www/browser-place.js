// This browser as the place that computes: the package's `Ai`, with the model that the user has chosen.

/**
 * @import { Ai, Backend, ModelListing, ModelProgress, TokenizedPrompt } from "../pkg/index.d.ts"
 *
 * @typedef {object} Facts what is known about the model that answers
 * @property {string} file the name of its file
 * @property {string} id the model id that it answers best
 * @property {Backend | null} backend `null`: prepared answers
 * @property {string | null} why the backend is this one
 * @property {string | null} [build]
 * @property {number | null} [threads]
 * @property {string | null} [threadsWhy] why there are not more threads
 * @property {number | null} [memoryBytes]
 *
 * @typedef {object} Answering the model that answers for an id
 * @property {string} file the name of its file
 * @property {string} source what a program gives to use the same model: a name, an address; "" for the default one
 * @property {number | null} context tokens that prompt and answer may have together; `null` if it is not known yet
 * @property {boolean} [own] whether it answers for this id only
 *
 * @typedef {object} Place what computes
 * @property {"server" | "browser"} kind
 * @property {Facts} facts
 * @property {(model: string) => Answering} answering
 * @property {(model: string, input: object, signal?: AbortSignal) => Promise<any>} run as `env.AI.run`
 * @property {(model: string, input: object) => Promise<TokenizedPrompt>} tokenize
 * @property {() => Promise<ModelListing[]>} models the ids for text generation
 * @property {() => Promise<Facts>} refresh the facts of this moment
 * @property {() => Promise<void>} close
 *
 * @typedef {object} Choice what this browser is to load
 * @property {string} [source] a name, an address; without it and without files the model of the server, or else the default one
 * @property {string} [served] the model of the server: a name, or an address
 * @property {Record<string, string>} [servedHeaders] of requests for it
 * @property {File[]} [files] GGUF files of the user
 * @property {{endpoint?: string, token?: string}} [hub]
 */

/**
 * Loads a model into this browser.
 *
 * @param {Choice} choice
 * @param {{onProgress: (progress: ModelProgress) => void, onWarning: (text: string) => void, signal: AbortSignal}} options
 * @returns {Promise<Place>}
 * @throws {Error} with a message for the user
 */
export async function openBrowser(choice, { onProgress, onWarning, signal }) {
  const { Ai, DEFAULT_MODEL } = await importPackage();
  const ofServer = choice.servedHeaders && choice.served?.startsWith("/") ? { url: choice.served, headers: choice.servedHeaders } : choice.served;
  const source = choice.files ?? choice.source ?? (ofServer || (await served(DEFAULT_MODEL.file)));
  const hub = Object.fromEntries(Object.entries(choice.hub ?? {}).filter(([, value]) => value));
  const config = { ...(source === undefined ? {} : { default: source }), ...(Object.keys(hub).length > 0 ? { hub } : {}), onProgress, onWarning };
  // Another one was chosen meanwhile.
  signal.throwIfAborted();
  /** @type {Ai} */
  const ai = new Ai(config);
  const close = () => ai.close().catch(() => {});
  signal.addEventListener("abort", close, { once: true });
  try {
    const loaded = await ai.load();
    signal.throwIfAborted();
    const named = [choice.source, choice.served].find((source) => source && !source.startsWith("/")) ?? "";
    const file = choice.files?.[0].name ?? (named && !URL.canParse(named.replace(/^hf:/, "")) ? named : fileName(loaded.model));
    const { id } = DEFAULT_MODEL;
    const answering = { file, source: choice.files ? `./${file}` : named, context: await windowOf(ai, id) };
    return {
      kind: "browser",
      facts: await factsOf(ai, { file, id }),
      answering: () => answering,
      run: (model, input, signal) => ai.run(model, /** @type {any} */ (input), { signal }),
      tokenize: (model, input) => ai.tokenize(model, /** @type {any} */ (input)),
      models: () => ai.models({ task: "Text Generation" }),
      refresh: () => factsOf(ai, { file, id }),
      close,
    };
  } catch (error) {
    await close();
    throw error;
  }
}

/** The import is dynamic: if a static import failed, the page would not run at all. */
async function importPackage() {
  try {
    const [{ Ai, DEFAULT_MODEL }, built] = await Promise.all([import("/pkg/browser.js"), isBuilt()]);
    if (!built) throw new Error();
    return { Ai, DEFAULT_MODEL };
  } catch (error) {
    throw new Error((await isBuilt()) ? /** @type {Error} */ (error).message : "The package is not built: run `npm run build`, then reload this page.");
  }
}

/** Whether the server has the package's compiled part. */
async function isBuilt() {
  const responses = await Promise.all(["/pkg/wasm/builds.js", "/pkg/browser.js"].map((file) => fetch(file, { method: "HEAD" }).catch(() => null)));
  // If the server does not answer at all, that is a different problem.
  return responses.every((response) => !response || response.ok);
}

/**
 * The model of this page's server; `undefined` if it has none. If it is split, the server says which part this one is, and the others are found
 * by that.
 *
 * @param {string} file
 */
async function served(file) {
  const address = `/models/${file}`;
  const response = await fetch(address, { method: "HEAD", redirect: "manual" }).catch(() => null);
  // A server that has no file of its own redirects to the default model's: the package keeps that one, so it is not given as an address.
  return response?.ok ? (response.headers.get("content-location") ?? address) : undefined;
}

/** @param {string} model */
const fileName = (model) => model.replace(/[?#].*$/s, "").replace(/^.*\//s, "");

/**
 * @param {Ai} ai
 * @param {Pick<Facts, "file" | "id">} known
 * @returns {Promise<Facts>}
 */
async function factsOf(ai, known) {
  const { computing } = await import("/pkg/computing.js");
  const facts = await computing(ai);
  return { ...known, ...facts, threadsWhy: facts.threads > 1 ? null : threadsWhy() };
}

function threadsWhy() {
  if (!globalThis.crossOriginIsolated) return "One thread: this page is not cross-origin isolated, so it has no shared memory.";
  return navigator.hardwareConcurrency > 1 ? null : "One thread: this device has one core.";
}

/**
 * @param {Ai} ai
 * @param {string} id
 */
async function windowOf(ai, id) {
  const { contextWindow } = await import("/pkg/context-window.js");
  return contextWindow(ai, id);
}
