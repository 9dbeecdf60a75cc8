// The engine behind `env.AI` in development: one for all processes of a user that ask for the same models.
//
// Each process has a server of its own on 127.0.0.1, to which its workerd is pointed. The server that first needs an engine starts it and writes
// its address to a file in the cache folder; the others find that file and forward to it. If the engine goes away, one of them starts another.

import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createServer, request as httpRequest } from "node:http";
import { homedir } from "node:os";
import path from "node:path";
import { hubWith } from "../cache/models.js";
import { withConfigFile } from "../config-file.js";
import { DEFAULT_MODEL, modelFolder } from "../default-model.js";
import { AiInternalError, toMessage, wireError } from "../errors.js";
import { parseName } from "../names.js";
import { MAX_BODY_BYTES, sendResponse } from "../node-http.js";
import { Ai } from "../node.js";
import { isSame } from "../secret.js";
import { HEALTH, findOrRegister, proof, withdraw } from "./registry.js";

/**
 * @import { AddressInfo } from "node:net"
 * @import { IncomingHttpHeaders, IncomingMessage, Server, ServerResponse } from "node:http"
 * @import { AiConfig } from "../index.d.ts"
 * @import { Entry } from "./registry.js"
 *
 * @typedef {{address: string, key: string}} Link how workerd reaches the server of this process
 */

/** The header with the key. workerd adds it to each request of a Worker; no web page knows the key. */
export const KEY_HEADER = "workers-ai-local-key";
/** Calls a method of the engine's `Ai`, for programs of this user: the body is `{method, args}`, the answer `{value}` or `{error}`. */
export const CALL = "/workers-ai-local/call";
const CALLABLE = ["load", "tokenize", "models", "stats"];
/** How often a request is asked again because the engine that had it ended. */
const MAX_ATTEMPTS = 3;
/** Options whose values can be shared with other processes: plain data, to which files are given by path or URL. */
const SHAREABLE = new Set(["hub", "models", "loras", "default", "defaultEmbeddings", "strict", "caches", "queue", "backend", "build", "threads", "onProgress", "onWarning"]);
/** Headers that belong to one connection. */
export const HOP = new Set(["connection", "keep-alive", "transfer-encoding", "host", "expect", KEY_HEADER]);

/** @type {Map<string, Promise<Engine>>} */
const engines = new Map();

/**
 * The engine of this process for these options: its server listens when this resolves. Nothing is loaded before the first request or `load`. Who
 * gets the same one shares it, and each calls `close`.
 *
 * @param {AiConfig} [given] of `new Ai`. The project's configuration file is added unless `config` is `false`
 * @param {string} [folder] the project's
 * @returns {Promise<Engine>}
 */
export async function localEngine(given = {}, folder) {
  const options = withConfigFile({ config: true, ...given }, folder);
  const id = idOf(options);
  if (id === undefined) return Engine.start(options);
  const known = engines.get(id);
  if (known) return known.then((engine) => engine.shared() ?? localEngine({ ...options, config: false }));
  const engine = Engine.start(options, id);
  engines.set(id, engine);
  engine.catch(() => engines.delete(id));
  return engine;
}

/**
 * Options whose warnings name the function that the developer called.
 *
 * @param {AiConfig} options
 * @param {string} call how models are given to it, for instance `localAi(`
 * @returns {AiConfig}
 */
export function speaking(options, call) {
  return { ...options, onWarning: options.onWarning ?? ((text) => console.warn(text.replace("new Ai(", call))) };
}

/**
 * What engines with the same models have in common: a hash, also of what the environment says about the models and of the hub's token. `undefined` if
 * an option cannot be compared, so that the engine is not shared.
 *
 * @param {AiConfig} options
 */
function idOf(options) {
  const shared = Object.entries(options).filter(([name, value]) => value !== undefined && name !== "onProgress" && name !== "onWarning");
  if (shared.some(([name]) => !SHAREABLE.has(name))) return undefined;
  const { WORKERS_AI_LOCAL_MODEL } = process.env;
  const fallback = WORKERS_AI_LOCAL_MODEL ? absolute(WORKERS_AI_LOCAL_MODEL) : path.join(cacheFolder(), DEFAULT_MODEL.file);
  try {
    const { hub: _, ...others } = sorted({ ...Object.fromEntries(shared), default: options.default ?? fallback });
    return createHash("sha256").update(JSON.stringify([version(), others, hubWith(options.hub), cacheFolder()])).digest("hex").slice(0, 32);
  } catch (error) {
    if (error === NOT_PLAIN) return undefined;
    throw error;
  }
}

/**
 * A path from the root; a name of a model and a URL as they are. What cannot be a name is the engine's to say.
 *
 * @param {string} text
 */
function absolute(text) {
  return /^([a-z][a-z0-9+.-]+:\/\/|hf:)/i.test(text) || parseName(text) ? text : path.resolve(text);
}

const NOT_PLAIN = new TypeError("not plain data");

/**
 * Plain data with its keys in order, and paths made absolute.
 *
 * @param {any} value
 * @returns {any}
 */
function sorted(value) {
  if (value instanceof URL) return value.href;
  if (typeof value === "string") return /[./\\]/.test(value) ? absolute(value) : value;
  if (Array.isArray(value)) return value.map(sorted);
  if (value === null || ["number", "boolean", "undefined"].includes(typeof value)) return value;
  if (Object.getPrototypeOf(value) !== Object.prototype) throw NOT_PLAIN;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

const cacheFolder = () => modelFolder(process.env, homedir());

/** @returns {string} */
const version = () => JSON.parse(readFileSync(new URL("../../package.json", import.meta.url), "utf8")).version;

export class Engine {
  #id;
  /** How many in this process use it. */
  #users = 1;
  /** The file with the entry; `undefined` if the engine is not shared. */
  #file;
  #key = randomBytes(24).toString("base64url");
  /** @type {Server} */
  #server;
  /** Loads nothing before it is asked. */
  #own;
  /** The engine: that of this process, or one that was found. @type {Ai | Entry | undefined} */
  #chosen;
  /** @type {Promise<Ai | Entry> | undefined} */
  #looking;
  #closed = false;
  #atExit = () => this.#withdraw();

  /**
   * @param {AiConfig} options
   * @param {string} [id] by which other processes find the engine
   * @throws {AiInternalError} if the options are invalid
   */
  static async start(options, id) {
    const engine = new Engine(options, id);
    await once(engine.#server.listen(0, "127.0.0.1"), "listening");
    return engine;
  }

  /**
   * @param {AiConfig} options
   * @param {string | undefined} id
   */
  constructor(options, id) {
    this.#id = id;
    this.#own = new Ai(options);
    this.#file = id && path.join(cacheFolder(), "engines", `${id}.json`);
    this.#server = createServer((request, response) => void this.#answer(request, response));
    // A long answer is no reason to end a request, and the server no reason to keep the process running.
    this.#server.requestTimeout = 0;
    // workerd may use an idle connection at the moment at which it is closed; it closes them itself.
    this.#server.keepAliveTimeout = 0;
    this.#server.unref();
    this.#server.on("connection", (socket) => socket.unref());
  }

  /** How workerd reaches this server. @returns {Link} */
  get link() {
    const { port } = /** @type {AddressInfo} */ (this.#server.address());
    return { address: `127.0.0.1:${port}`, key: this.#key };
  }

  /**
   * Starts or finds the engine, and loads the model of `model` if the engine is in this process.
   *
   * @param {string} [model]
   * @returns {Promise<{pid: number, loaded?: import("../internal.d.ts").LoadedModel}>} the process of the engine
   */
  async load(model) {
    const place = await this.#place();
    return place instanceof Ai ? { pid: process.pid, loaded: await place.load(model) } : { pid: place.pid };
  }

  /** The engine for another user; `undefined` if it is closed. @returns {Engine | undefined} */
  shared() {
    if (this.#closed) return undefined;
    this.#users += 1;
    return this;
  }

  /** Ends the server and, if it is in this process, the engine, when their last user calls it. */
  async close() {
    this.#users -= 1;
    if (this.#users > 0 || this.#closed) return;
    this.#closed = true;
    if (this.#id) engines.delete(this.#id);
    this.#server.close();
    this.#server.closeAllConnections();
    this.#withdraw();
    await this.#own.close();
  }

  /** @returns {Promise<Ai | Entry>} */
  async #place() {
    if (this.#chosen) return this.#chosen;
    this.#looking ??= this.#findOrStart().finally(() => (this.#looking = undefined));
    return this.#looking;
  }

  async #findOrStart() {
    const entry = { ...this.link, pid: process.pid, version: version() };
    const found = this.#file && (await findOrRegister(this.#file, entry));
    if (found) return (this.#chosen = found);
    this.#chosen = this.#own;
    process.once("exit", this.#atExit);
    // It was closed while it registered.
    if (this.#closed) this.#withdraw();
    return this.#own;
  }

  /** Removes the entry of this engine, if it has one. */
  #withdraw() {
    process.removeListener("exit", this.#atExit);
    if (this.#file && this.#chosen === this.#own) withdraw(this.#file, this.#key);
  }

  /**
   * @param {IncomingMessage} request
   * @param {ServerResponse} response
   */
  async #answer(request, response) {
    const disconnected = new AbortController();
    response.once("close", () => disconnected.abort());
    // After an error of the connection, "close" follows.
    response.on("error", () => {});
    try {
      if (request.url?.startsWith(HEALTH)) return void response.end(proof(this.#key, request.url.slice(HEALTH.length)));
      if (!isSame(String(request.headers[KEY_HEADER]), this.#key)) return void response.writeHead(401).end("this server answers the Workers of its own process only\n");
      const body = await bodyOf(request);
      for (let attempt = 0; attempt < MAX_ATTEMPTS; attempt++) {
        const place = await this.#place();
        if (place instanceof Ai) {
          const answer = request.url === CALL ? call(place, body) : place.fetch(toRequest(request, body, disconnected.signal));
          return await sendResponse(await answer, response, disconnected.signal);
        }
        if (await forward(place, request, body, response)) return;
        if (disconnected.signal.aborted) return;
        // It ended before it answered.
        if (this.#chosen === place) this.#chosen = undefined;
      }
      sendError(response, wireError(3040, 429, "The engine ended while it answered, several times. Ask again."));
    } catch (error) {
      // A failed stream must not look complete.
      if (response.headersSent) response.destroy();
      else if (!disconnected.signal.aborted) sendError(response, wireError(5004, 400, String(error?.message ?? error)));
    }
  }
}

/**
 * @param {ServerResponse} response
 * @param {ReturnType<typeof wireError>} error in the form of the binding's wire
 */
function sendError(response, error) {
  response.writeHead(error.httpCode, { "content-type": "application/json" }).end(JSON.stringify(error));
}

/**
 * @param {any} ai
 * @param {Buffer} body
 */
async function call(ai, body) {
  try {
    const { method, args } = JSON.parse(body.toString());
    if (!CALLABLE.includes(method)) throw new AiInternalError(`An engine has no method ${method}.`);
    return Response.json({ value: await ai[method](...args) });
  } catch (error) {
    return Response.json({ error: toMessage(error) });
  }
}

/**
 * @param {IncomingMessage} request
 * @param {Buffer} body
 * @param {AbortSignal} signal
 */
function toRequest({ method, url = "/", headers }, body, signal) {
  const init = { method, headers: forwarded(headers), body: method === "GET" || method === "HEAD" ? undefined : new Uint8Array(body), signal };
  return new Request(new URL(url, "http://localhost"), init);
}

/**
 * The headers that an engine gets. Node joins repeated ones to one string, except `set-cookie`, which clients do not send.
 *
 * @param {IncomingHttpHeaders} headers
 */
function forwarded(headers) {
  return Object.fromEntries(Object.entries(headers).filter(([name]) => !HOP.has(name)).map(([name, value]) => [name, String(value)]));
}

/**
 * Reads a body completely, so that it can be sent a second time.
 *
 * @param {IncomingMessage} request
 */
async function bodyOf(request) {
  const chunks = [];
  let length = 0;
  for await (const chunk of request) {
    // What follows is not kept: the body is too large anyway, which the engine says (3006).
    if (length <= MAX_BODY_BYTES) chunks.push(chunk);
    length += chunk.length;
  }
  return Buffer.concat(chunks);
}

/**
 * Forwards a request to the engine of another process; `false` if that did not answer.
 *
 * @param {Entry} engine
 * @param {IncomingMessage} request
 * @param {Buffer} body
 * @param {ServerResponse} response
 * @returns {Promise<boolean>}
 */
function forward({ address, key }, { method, url, headers }, body, response) {
  return new Promise((resolve) => {
    const { "content-length": _, ...others } = forwarded(headers);
    const upstream = httpRequest(`http://${address}${url}`, { method, headers: { ...others, "content-length": body.length, [KEY_HEADER]: key } });
    response.once("close", () => upstream.destroy());
    upstream.once("error", () => resolve(false));
    upstream.once("response", (answer) => {
      // Another engine has the address now.
      if (answer.statusCode === 401) {
        answer.resume();
        return resolve(false);
      }
      response.writeHead(answer.statusCode ?? 500, answer.headers);
      response.flushHeaders();
      answer.pipe(response);
      answer.once("end", () => resolve(true));
      answer.once("close", () => {
        if (!answer.complete) response.destroy();
        resolve(true);
      });
      answer.on("error", () => {});
    });
    upstream.end(body);
  });
}
