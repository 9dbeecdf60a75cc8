// `workers-ai-local serve`: an HTTP server for `Ai.fetch` and the playground.

import { once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { homedir } from "node:os";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { ModelCache } from "../cache/models.js";
import { contextWindow } from "../context-window.js";
import { DEFAULT_MODEL, modelFolder } from "../default-model.js";
import { parseName } from "../names.js";
import { MAX_BODY_BYTES, sendResponse, toRequest } from "../node-http.js";
import { Ai } from "../node.js";
import { isLoopback, refusal } from "./access.js";
import { answeringAny } from "./any-model.js";
import { CommandError, UsageError, numberOf } from "./arguments.js";
import { chosenFile, configured, engineFrom, fileNameOf, lorasFrom, weights } from "./engine.js";
import { withUploads } from "./finetunes.js";
import { localApi, statusOf } from "./local-api.js";
import { isRpcProbe, isWrapped, unwrapped } from "./remote-proxy.js";
import { MODEL_PATHNAME, isPagePart, modelPathname, pathOf, refuse, servedFiles, staticFiles } from "./static-files.js";
import { clearStatus, loadProgress, note, say } from "./terminal.js";

/**
 * @import { AddressInfo } from "node:net"
 * @import { IncomingMessage, Server, ServerResponse } from "node:http"
 * @import { Access } from "./access.js"
 * @import { EngineValues } from "./engine.js"
 * @import { Answering } from "./local-api.js"
 * @typedef {{port?: string, host?: string, model?: string, gguf?: string[], lora?: string[], cors?: string[], "allow-host"?: string[], key?: string}} OwnValues
 * @typedef {OwnValues & {"any-model"?: boolean} & EngineValues} Values
 *
 * @typedef {object} Health what `GET /health` answers
 * @property {"loading" | "ok"} status "ok": the model is loaded
 * @property {string} model the name of the model's file
 * @property {"cpu" | "webgpu" | null} backend what computes; `null` while the model is loaded
 */

/** By default, the server is reachable only from this machine. */
const HOST = "127.0.0.1";
const PORT = 8788;
/** All ids without a model of their own. */
const OTHER_IDS = "*";
/** How long the answers in progress may take when the server is stopped. */
const GRACE_MS = 5_000;
/** Segments with which a path leads elsewhere than it says. */
const DOTS = /(^|[\\/])(\.|%2e){1,2}([\\/]|$)/i;

/**
 * @param {Values} values
 * @param {string[]} positionals must be empty
 * @throws {UsageError | CommandError} or an error of `Ai.load`
 */
export async function serve(values, positionals) {
  if (positionals.length > 0) throw new UsageError(`serve takes no argument "${positionals[0]}"`);
  const { gguf, model } = values;
  const port = portFrom(values);
  const { env } = process;
  const origins = originsFrom(values);
  const access = accessFrom(values, origins);
  const config = await configured({ ...weights(gguf, model), ...lorasFrom(values.lora), ...engineFrom(values), cors: origins });
  const { remote } = config;
  if (values["any-model"] && remote && Object.hasOwn(remote, "*")) throw new UsageError("--forward * sends the ids that --any-model answers to the service: choose one");
  if (config.strict && values["any-model"]) throw new UsageError("--strict refuses ids that --any-model answers: choose one");
  const file = chosenFile(config, model);
  const id = model ?? DEFAULT_MODEL.id;
  const showProgress = loadProgress(file);
  /** @type {import("../index.d.ts").ModelProgress | null} */
  let progress = null;
  const onProgress = (/** @type {import("../index.d.ts").ModelProgress} */ step) => {
    progress = step;
    showProgress(step);
    if (step.phase === "weights" && step.loaded === step.total) learnWindow(step.model);
  };
  const ai = new Ai({ ...config, onProgress, onWarning: note });
  const ownOf = (/** @type {string} */ id) => (Object.hasOwn(config.models ?? {}, id) ? config.models?.[id] : config.default);
  const chosen = ownOf(id);
  const source = sourceOf(chosen) ?? env.WORKERS_AI_LOCAL_MODEL ?? "";
  const isNamed = source === "" || parseName(source) !== undefined;
  const stored = storedAt(source, config);
  const modelPath = stored ?? (isNamed ? path.join(modelFolder(env, homedir()), DEFAULT_MODEL.file) : pathsOf(chosen, source));
  const answered = values["any-model"] ? answeringAny(ai, { model: model ?? DEFAULT_MODEL.id, others: Object.keys(remote ?? {}), maxBodyBytes: MAX_BODY_BYTES, onWarning: note }) : ai;
  const served = withUploads(ai, answered);
  /** @type {Health} */
  let health = { status: "loading", model: file, backend: null };
  /** The context windows of the models that have been loaded, by what the configuration has for them. @type {Map<unknown, Promise<number | null>>} */
  const windows = new Map();
  /** To be called for ids whose model is loaded or being loaded: the window is known by a request. @param {string} id */
  function learnWindow(id) {
    // What the service or nobody computes has no window here.
    if (remote?.[id] || remote?.["*"]) return null;
    const own = ownOf(id);
    if (!windows.has(own)) {
      // A model that could not be loaded may be the next time.
      windows.set(own, contextWindow(ai, id).then((tokens) => (tokens === null && windows.delete(own), tokens)));
    }
    return windows.get(own);
  }
  /** @param {string} id @returns {Promise<Answering>} */
  async function answering(id) {
    const own = ownOf(id);
    const name = sourceOf(own) ?? env.WORKERS_AI_LOCAL_MODEL ?? "";
    return { file: own === chosen ? health.model : chosenFile(config, id), source: shownSource(name, access), context: await settled(windows.get(own)) };
  }
  const known = { source: shownSource(source, access), id, weights: isNamed && !stored ? source : modelPathname(servedFiles(modelPath)[0][0]), hub: { endpoint: config.hub?.endpoint ?? env.HF_ENDPOINT } };
  const ids = [...Object.keys(config.models ?? {}), OTHER_IDS];
  const status = async () => {
    const models = Object.fromEntries(await Promise.all(ids.map(async (each) => [each, await answering(each)])));
    return statusOf(ai, { ...health, ...known, models, context: await settled(windows.get(chosen)) }, progress);
  };
  const server = createServer(served, { modelPath, log: say, access, health: () => health, local: localApi(ai, status) });
  stopWithSignals(server);

  // Listens before the model is loaded, which may take minutes. Requests wait for the model.
  const url = await listen(server, port, values.host ?? HOST);
  const loaded = await ai.load(model).finally(clearStatus);
  if (loaded.backend) await learnWindow(id);
  health = { status: "ok", model: fileNameOf(loaded.model), backend: loaded.backend };
  const { path: tried, body } = await requestFor(ai, id);
  say(`Listening on ${url} with ${fileNameOf(loaded.model)} (${loaded.backend})

  Playground  ${url}/
  Try         curl ${url}/v1/${tried} -H "content-type: application/json" -d '${JSON.stringify(body)}'

Ctrl+C stops.`);
  if (!access.loopback && access.key === undefined) {
    say("Every machine that reaches this address can use the server. --key KEY asks for a bearer token.");
  }
}

/**
 * A request to try with a model, by what the catalogue says that it is for.
 *
 * @param {Ai} ai
 * @param {string} id
 * @returns {Promise<{path: string, body: object}>}
 */
async function requestFor(ai, id) {
  const text = "Why is the sky blue?";
  const embeds = (await ai.models({ search: id })).some(({ name, task }) => name === id && task.name === "Text Embeddings");
  return embeds ? { path: "embeddings", body: { model: id, input: text } } : { path: "chat/completions", body: { model: id, messages: [{ role: "user", content: text }] } };
}

/** A promise's value; `null` if it is not settled yet. @type {<T>(promise: Promise<T> | undefined) => Promise<T | null>} */
const settled = (promise) => Promise.race([promise ?? null, new Promise((resolve) => setImmediate(resolve, null))]);

/**
 * The name, address or path of a model's first file; `undefined` if it is given in another form.
 *
 * @param {unknown} own what a configuration has for a model
 * @returns {string | undefined}
 */
function sourceOf(own) {
  const first = Array.isArray(own) ? own[0] : own;
  return typeof first === "string" ? first : undefined;
}

/**
 * Where the file of an address is stored that only this machine should know, because its query may be a signature; `undefined` for other sources.
 *
 * @param {string} source
 * @param {import("../index.d.ts").AiConfig} config
 */
function storedAt(source, { hub }) {
  return hasSecret(source) ? new ModelCache({ hub }).known(source)?.files[0].path : undefined;
}

/** @param {string} source */
const hasSecret = (source) => parseName(source)?.kind === "url" && /[?#]|^https?:\/\/[^/]*@/i.test(source);

/** @param {string} source a path or a file: URL */
const pathFrom = (source) => (source.startsWith("file://") ? fileURLToPath(source) : path.resolve(source));

/**
 * The path of a model's file, or those of all its files if they are listed.
 *
 * @param {unknown} chosen what the configuration has for the model
 * @param {string} first its first source
 */
function pathsOf(chosen, first) {
  const isList = Array.isArray(chosen) && chosen.length > 1 && chosen.every((each) => typeof each === "string" && !parseName(each));
  return isList ? chosen.map(pathFrom) : pathFrom(first);
}

/**
 * A source as the status shows it: without what may be secret, and without the folders of this machine where other machines may ask.
 *
 * @param {string} source
 * @param {Access} access
 */
export function shownSource(source, { loopback }) {
  if (hasSecret(source)) return source.replace(/[?#].*$/s, "").replace(/^(https?:\/\/)[^/]*@/i, "$1");
  if (source === "" || parseName(source)) return source;
  return loopback ? source : `./${path.basename(pathFrom(source))}`;
}

/**
 * Stops the server at the first Ctrl+C or SIGTERM, once the answers in progress have ended or `GRACE_MS` have passed; at the second at once.
 *
 * @param {ReturnType<typeof createServer>} server
 */
function stopWithSignals(server) {
  let signals = 0;
  const stop = () => {
    clearStatus();
    signals += 1;
    // This ends the computations too, because their clients disconnect.
    const now = () => server.closeAllConnections();
    if (signals > 1) {
      now();
      process.exit(0);
    }
    const running = server.stop(() => process.exit(0));
    if (running > 0) say(`Stopping once ${running === 1 ? "the answer in progress has" : `the ${running} answers in progress have`} ended, in ${GRACE_MS / 1000} s at the latest. Ctrl+C stops at once.`);
    setTimeout(now, GRACE_MS);
  };
  for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, stop);
}

/**
 * @param {Values} values
 * @param {string[] | undefined} origins
 * @returns {Access}
 */
function accessFrom(values, origins = []) {
  const hosts = (values["allow-host"] ?? []).map((host) => host.toLowerCase());
  const wrong = hosts.find((host) => !/^([a-z\d]([a-z\d.-]*[a-z\d])?|\[[\da-f:.]+\])$/.test(host));
  if (wrong !== undefined) throw new UsageError(`--allow-host takes a name such as dev.example, without a port, not "${wrong}"`);
  if (values.key === "") throw new UsageError("--key takes a text, not an empty one");
  return { hosts, origins: origins.map((origin) => origin.toLowerCase()), key: values.key, loopback: isLoopback(values.host ?? HOST) };
}

/** @param {Values} values */
function portFrom(values) {
  const port = numberOf(values, "port") ?? PORT;
  if (Number.isInteger(port) && port >= 0 && port < 65536) return port;
  throw new UsageError(`--port takes a number from 0 to 65535, not "${values.port}"`);
}

/** @param {Values} values */
function originsFrom({ cors }) {
  const wrong = cors?.find((origin) => !/^(\*|[a-z][a-z\d+.-]*:\/\/[^\s/]+\/?)$/i.test(origin));
  if (wrong !== undefined) throw new UsageError(`--cors takes an origin such as http://localhost:3000, or *, not "${wrong}"`);
  return cors?.map((origin) => origin.replace(/\/$/, ""));
}

/**
 * Starts to listen; resolves to the server's URL, without a trailing slash.
 *
 * @param {Server} server
 * @param {number} port
 * @param {string} host
 */
async function listen(server, port, host) {
  try {
    await once(server.listen(port, host), "listening");
  } catch ({ code }) {
    throw new CommandError(
      code === "EADDRINUSE"
        ? `port ${port} is in use: stop the program that uses it, or choose another port with --port`
        : `cannot listen on port ${port} of ${host} (${code}): choose others with --port and --host`,
    );
  }
  // Only pipes and closed servers have no such address.
  const { address, family, port: taken } = /** @type {AddressInfo} */ (server.address());
  return `http://${family === "IPv6" ? `[${address}]` : address}:${taken}`;
}

/**
 * Creates the server. It does not listen yet.
 *
 * @param {{fetch(request: Request): Promise<Response>}} ai
 * @param {object} [options]
 * @param {string | string[]} [options.modelPath] path of the model's file, or paths of its files, for playgrounds that compute it themselves
 * @param {(line: string) => void} [options.log] called with a line for each finished request
 * @param {Access} [options.access] which requests are answered; by default those of this machine
 * @param {() => Health} [options.health] what `GET /health` answers; without it, there is no such path
 * @param {import("./local-api.js").LocalApi} [options.local] answers under /local/
 * @returns {Server & {stop(ended: () => void): number}} `stop` takes no more requests, and calls `ended` when the last answer has ended; it
 *   returns the number of answers in progress
 */
export function createServer(ai, { modelPath, log = () => {}, access = {}, health, local } = {}) {
  const sendFile = staticFiles({ modelPath });
  let running = 0;
  let stopping = false;
  const server = createHttpServer(async (request, response) => {
    const { method, url = "/" } = request;
    const written = url.replace(/\?.*$/s, "");
    // Every check below, and whoever answers, goes by the same path.
    const pathname = pathOf(url) ?? written;
    const started = performance.now();
    const disconnected = new AbortController();
    // Who watches the server has no key, and learns nothing but its state.
    const isHealth = health !== undefined && pathname === "/health" && (method === "GET" || method === "HEAD");
    // Asked for often, so the log omits them.
    const isQuiet = isHealth || pathname === "/local/status";
    running += 1;
    response.once("close", () => {
      running -= 1;
      // Its connection would be kept for further requests.
      if (stopping) setImmediate(() => server.closeIdleConnections());
      disconnected.abort();
      const end = response.writableFinished ? "" : ", cut off";
      if (!isQuiet) log(`${method} ${written} ${response.statusCode} ${Math.round(performance.now() - started)} ms${end}`);
    });
    // After an error of the connection, "close" follows.
    response.on("error", () => {});
    try {
      // The page's own files are public, and a browser cannot send a key with the first of them: the page asks for it.
      const isPage = (method === "GET" || method === "HEAD") && isPagePart(pathname) && !isWrapped(request.headers);
      const refused = refusal(request, isHealth || isPage ? { ...access, key: undefined } : access);
      if (refused) return refuse(request, response, refused.status, refused.text);
      if (stopping) return refuse(request, response, 503, "the server is stopping", { connection: "close" });
      if (isHealth) return sendHealth(request, response, health());
      // A page that may name any model must not reach other paths with its name.
      if (DOTS.test(written)) return refuse(request, response, 400, "the path has a segment . or ..");
      if (isRpcProbe(url)) return refuse(request, response, 404, "this server has no WebSocket");
      if (local && (await local(request, response, pathname))) return;
      if (!isWrapped(request.headers) && (await sendFile(request, response))) return;
      // Without a key nobody else may answer.
      if (isPage) return refuse(request, response, 404, "no such file");
      // A browser that computes the default model itself, which may not have been downloaded to this machine.
      if (pathname === MODEL_PATHNAME) return refuse(request, response, 302, "the model file is not on this server", { location: DEFAULT_MODEL.url });
      const webRequest = toRequest(request, disconnected.signal);
      if (!webRequest) return refuse(request, response, 400, "invalid request");
      await sendResponse(await ai.fetch(unwrapped(webRequest)), response, disconnected.signal);
    } catch (error) {
      if (!disconnected.signal.aborted && !request.errored) log(`${method} ${written}: ${error.message}`);
      // A failed stream must not look complete.
      if (response.headersSent) response.destroy();
      else refuse(request, response, 500, "internal error");
    }
  });
  return Object.assign(server, {
    /** @param {() => void} ended */
    stop(ended) {
      stopping = true;
      server.close(ended);
      return running;
    },
  });
}

/**
 * Answers with 200 if the model is loaded, otherwise with 503: so a program that waits for the server need not read the body.
 *
 * @param {IncomingMessage} request
 * @param {ServerResponse} response
 * @param {Health} health
 */
function sendHealth(request, response, health) {
  response.writeHead(health.status === "ok" ? 200 : 503, { "content-type": "application/json", "cache-control": "no-store" });
  response.end(request.method === "HEAD" ? undefined : `${JSON.stringify(health)}\n`);
}
