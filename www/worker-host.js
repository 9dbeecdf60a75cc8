// The page's side of the sandbox: starts a Worker that the user has typed, answers its `env.AI`, receives its response.

import { make, messageOf } from "./dom.js";
import { receiveStream, sendStream } from "./port-streams.js";

/**
 * @import { Place } from "./browser-place.js"
 * @import { Failure, SentRequest } from "./worker-boot.js"
 *
 * @typedef {object} Answer
 * @property {number} status
 * @property {string} statusText
 * @property {[string, string][]} headers
 * @property {ReadableStream<Uint8Array> | null} body
 * @property {() => Promise<boolean>} finish waits for the work that was passed to `waitUntil`; resolves to whether it has ended in time
 */

/** A Worker failed: its line, if it is known. */
export class WorkerFailure extends Error {
  /** @param {Failure} failure */
  constructor({ message, line }) {
    super(message);
    this.line = line;
  }
}

/** How long work that was passed to `waitUntil` may go on after the response, as at Cloudflare. */
const WORK_LIMIT_MS = 30_000;
const IMPORTS = /Failed to resolve module specifier|bare specifier|Module name, .* does not resolve|import.*(?:failed|error)/i;
const ENDED_EARLY = "It could not be started. Its imports cannot be loaded here: a Worker in this tab is one module without packages.";

/**
 * Runs a Worker for one request. It lives until `signal` is aborted.
 *
 * @param {object} options
 * @param {string} options.code
 * @param {SentRequest} options.request
 * @param {() => Place | null} options.place
 * @param {(line: string) => void} options.onLog
 * @param {AbortSignal} options.signal
 * @returns {Promise<Answer>}
 * @throws {WorkerFailure}
 */
export async function runWorker({ code, request, place, onLog, signal }) {
  const boot = await bootScript();
  // Stopped, or another run has begun meanwhile.
  signal.throwIfAborted();
  // It has an origin of its own, which neither this page's storage nor its server is for.
  const frame = make("iframe", { hidden: true, title: "Sandbox", sandbox: "allow-scripts", src: "/sandbox.html" });
  const { port1, port2 } = new MessageChannel();
  /** The requests to the model that are being computed. */
  const computing = new AbortController();
  const { promise: work, resolve: finished } = /** @type {PromiseWithResolvers<boolean>} */ (Promise.withResolvers());
  const finish = () => {
    port1.postMessage({ finish: true });
    setTimeout(finished, WORK_LIMIT_MS, false);
    return work;
  };
  const end = () => {
    finished(false);
    computing.abort();
    frame.remove();
    port1.close();
  };
  return new Promise((resolve, reject) => {
    const fail = (/** @type {Failure} */ { message, line }) => reject(new WorkerFailure({ message: readable(message), line: line || undefined }));
    const onMessage = (/** @type {MessageEvent} */ { source, data }) => {
      if (source !== frame.contentWindow) return;
      if (data.failed) fail(data.failed);
      if (data.ready) frame.contentWindow?.postMessage({ boot, code, request }, "*", [port2]);
    };
    addEventListener("message", onMessage, { signal });
    signal.addEventListener("abort", () => {
      end();
      reject(signal.reason);
    });
    port1.onmessage = async ({ data, ports }) => {
      if (data.log !== undefined) onLog(data.log);
      else if (data.failed) fail(data.failed.name === "SyntaxError" && !data.failed.line ? { ...data.failed, line: await lineOfError(frame, code, signal) } : data.failed);
      else if (data.answer) resolve({ ...data.answer, body: data.hasBody ? receiveStream(ports[0]) : null, finish });
      else if (data.finished) finished(true);
      else port1.postMessage(...(await called(data, place(), computing.signal)));
    };
    document.body.append(frame);
  });
}

/** @type {Promise<string> | undefined} */
let fetched;

/** The two modules that run in the sandbox, as one classic script. */
function bootScript() {
  fetched ??= Promise.all(["/port-streams.js", "/worker-boot.js"].map(scriptText)).then(
    (texts) => texts.join("\n"),
    (error) => {
      // The next run asks again.
      fetched = undefined;
      throw error;
    },
  );
  return fetched;
}

/** The text of a module without its imports and exports. @param {string} file */
async function scriptText(file) {
  const response = await fetch(file).catch(() => null);
  if (!response?.ok) throw new Error(`The server of this page ${response ? `answers ${file} with status ${response.status}` : "does not answer"}. Run the Worker again when it does.`);
  return (await response.text()).replaceAll(/^export |^import .*$/gm, "");
}

/**
 * The line of an error that keeps code from being parsed; 0 if it is not known.
 *
 * @param {HTMLIFrameElement} frame
 * @param {string} code
 * @param {AbortSignal} signal aborted when the frame is removed
 * @returns {Promise<number>}
 */
function lineOfError(frame, code, signal) {
  return new Promise((resolve) => {
    addEventListener("message", ({ source, data }) => source === frame.contentWindow && data.line !== undefined && resolve(data.line), { signal });
    signal.addEventListener("abort", () => resolve(0));
    frame.contentWindow?.postMessage({ parse: code }, "*");
  });
}

/** @param {string} message of an error event */
function readable(message) {
  const text = message.replace(/^Uncaught /, "");
  if (text === "") return ENDED_EARLY;
  return IMPORTS.test(text) ? `${text.replace(/\.$/, "")}. ${ENDED_EARLY}` : text;
}

/**
 * Answers a call of `env.AI`.
 *
 * @param {{id: number, method: string, args: any[]}} call
 * @param {Place | null} place
 * @param {AbortSignal} signal
 * @returns {Promise<[message: object, transfer: Transferable[]]>}
 */
async function called({ id, method, args }, place, signal) {
  try {
    if (!place) throw new Error("No model is loaded yet: wait until it is, or choose another one.");
    const [model, input] = args;
    const value = method === "run" ? await place.run(model, input, signal) : method === "tokenize" ? await place.tokenize(model, input) : await place.models();
    if (!(value instanceof ReadableStream)) return [{ id, value }, []];
    const { port1, port2 } = new MessageChannel();
    sendStream(value, port1);
    return [{ id, isStream: true }, [port2]];
  } catch (error) {
    return [{ id, error: { name: /** @type {any} */ (error)?.name ?? "Error", message: messageOf(error) } }, []];
  }
}
