// Runs inside the sandbox's Web Worker, before the Worker that the user has typed: gives it `env.AI`, sends it a request, passes on its response.
// The page puts this file and port-streams.js together as one classic script: browsers start no module there.

import { receiveStream, sendStream } from "./port-streams.js";

/**
 * @typedef {{method: string, url: string, headers: [string, string][], body: string | null}} SentRequest
 * @typedef {{message: string, name?: string, line?: number}} Failure
 */

addEventListener("message", ({ data, ports }) => start(data.code, data.request, ports[0]), { once: true });

const NO_HANDLER = "The module has no fetch handler. It ends with: export default { async fetch(request, env, ctx) { … } }";
/** Lines that are passed on, and characters of each: a Worker can log without an end. */
const MAX_LINES = 500;
const MAX_LINE = 10_000;
const NO_RESPONSE = "The fetch handler returned no Response: end it with return new Response(…) or return Response.json(…)";

/**
 * @param {string} code the user's module
 * @param {SentRequest} request
 * @param {MessagePort} port to the page
 */
async function start(code, request, port) {
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const env = { AI: binding(port) };
  const log = forwardConsole(port);
  try {
    const { default: worker } = await import(address);
    const handler = typeof worker === "function" && typeof worker.prototype?.fetch === "function" ? Object.assign(new worker(), { env }) : worker;
    if (typeof handler?.fetch !== "function") throw new Error(NO_HANDLER);
    const { method, url, headers, body } = request;
    const context = { waitUntil: keepWork(port, log), passThroughOnException() {} };
    const response = await handler.fetch(new Request(url, { method, headers, body }), env, context);
    if (!(response instanceof Response)) throw new Error(NO_RESPONSE);
    const answer = { status: response.status, statusText: response.statusText, headers: [...response.headers] };
    if (!response.body) return port.postMessage({ answer });
    const { port1, port2 } = new MessageChannel();
    sendStream(response.body, port1);
    port.postMessage({ answer, hasBody: true }, [port2]);
  } catch (error) {
    port.postMessage({ failed: failureOf(error, address) });
  }
}

/**
 * Returns `waitUntil`. When the page asks, it gets a message as soon as all work has ended.
 *
 * @param {MessagePort} port
 * @param {(text: string) => void} log
 */
function keepWork(port, log) {
  let going = 0;
  let isAsked = false;
  const tell = () => isAsked && going === 0 && port.postMessage({ finished: true });
  port.addEventListener("message", ({ data }) => {
    if (!data.finish) return;
    isAsked = true;
    tell();
  });
  return (/** @type {Promise<unknown>} */ work) => {
    going += 1;
    Promise.resolve(work)
      .catch((error) => log(`waitUntil: ${error}`))
      .finally(() => {
        going -= 1;
        // What it has begun last may pass more work.
        setTimeout(tell);
      });
  };
}

/**
 * @param {any} error
 * @param {string} address
 * @returns {Failure}
 */
function failureOf(error, address) {
  const message = error instanceof Error ? `${error.name === "Error" ? "" : `${error.name}: `}${error.message}` : String(error);
  // Firefox says the line of what cannot be parsed. The stack has the line of what was thrown.
  const place = error?.lineNumber ?? String(error?.stack ?? "").split(`${address}:`)[1];
  return { message, name: error?.name, line: Number.parseInt(place, 10) || undefined };
}

/** `env.AI`, answered by the page. @param {MessagePort} port */
function binding(port) {
  let count = 0;
  /** @type {Map<number, {resolve: (value: any) => void, reject: (error: Error) => void, called: Error}>} */
  const waiting = new Map();
  port.onmessage = ({ data: { id, value, error, isStream }, ports }) => {
    const call = waiting.get(id);
    waiting.delete(id);
    // Another message.
    if (!call) return;
    if (!error) return call.resolve(isStream ? receiveStream(ports[0]) : value);
    // The line of the call, not of this function.
    const failed = Object.assign(new Error(error.message), { name: error.name });
    failed.stack = call.called.stack;
    call.reject(failed);
  };
  const call = (/** @type {string} */ method, /** @type {unknown[]} */ args) =>
    new Promise((resolve, reject) => {
      count += 1;
      waiting.set(count, { resolve, reject, called: new Error() });
      // As in the binding, what is no JSON is dropped.
      port.postMessage({ id: count, method, args: JSON.parse(JSON.stringify(args)) });
    });
  return {
    async run(/** @type {string} */ model, /** @type {object} */ inputs, /** @type {any} */ options = {}) {
      const answer = await call("run", [model, inputs]);
      if (!options?.returnRawResponse) return answer;
      return answer instanceof ReadableStream ? new Response(answer, { headers: { "content-type": "text/event-stream" } }) : Response.json(answer);
    },
    models: () => call("models", []),
    tokenize: (/** @type {string} */ model, /** @type {object} */ inputs) => call("tokenize", [model, inputs]),
  };
}

/**
 * What the Worker logs is shown on the page, up to a limit. Returns what logs.
 *
 * @param {MessagePort} port
 */
function forwardConsole(port) {
  let lines = 0;
  const log = (/** @type {unknown[]} */ ...values) => {
    lines += 1;
    if (lines > MAX_LINES) return;
    const line = values.map(shown).join(" ");
    port.postMessage({ log: lines === MAX_LINES ? "… (the rest is not shown)" : line.length > MAX_LINE ? `${line.slice(0, MAX_LINE)}…` : line });
  };
  for (const level of /** @type {const} */ (["log", "info", "warn", "error", "debug"])) console[level] = log;
  return log;
}

/** @param {unknown} value */
function shown(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return String(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
