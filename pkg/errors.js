// The error classes that the binding throws, and their conversion to and from messages of a Web Worker.

/** @import { ErrorMessage } from "./internal.d.ts" */

/** A failed request: `name` is "AiError", `message` is "CODE: text". */
export class InferenceUpstreamError extends Error {
  /**
   * @param {string} message
   * @param {{internalCode?: number, httpCode?: number, description?: string, body?: object}} [details]
   */
  constructor(message, details = {}) {
    super(message);
    this.name = "AiError";
    // Not enumerable: an error of the live binding has only a name and a message.
    for (const [key, value] of Object.entries(details)) Object.defineProperty(this, key, { value });
  }
}

/** The `Ai` class was used in an unsupported way. */
export class AiInternalError extends Error {
  /** @param {string} message */
  constructor(message) {
    super(message);
    this.name = "AiInternalError";
  }
}

/**
 * The body of an error, as the binding sends it.
 *
 * @param {number} internalCode for instance 5004
 * @param {number} httpCode
 * @param {string} description
 */
export const wireError = (internalCode, httpCode, description) => ({ name: "AiError", internalCode, httpCode, message: `AiError: ${description}`, description });

/**
 * An error with a code of Workers AI that is created in JavaScript, not in the crate.
 *
 * @param {number} internalCode for instance 5004
 * @param {number} httpCode
 * @param {string} description
 */
export function aiError(internalCode, httpCode, description) {
  const body = wireError(internalCode, httpCode, description);
  return new InferenceUpstreamError(`${internalCode}: ${description}`, { internalCode, httpCode, description, body });
}

/**
 * The error that an aborted request throws: the signal's reason, by default an `AbortError`.
 *
 * @param {AbortSignal} [signal]
 */
export function abortError(signal) {
  // The caller's own reason, as `fetch` rejects with it.
  if (signal?.aborted && signal.reason !== undefined) return signal.reason;
  return new DOMException("The operation was aborted.", "AbortError");
}

/**
 * Whether a request failed because its model needs more memory than this engine has, so that another one is to answer it.
 *
 * @param {unknown} error
 */
export const wantsMore = (error) => error instanceof Error && error.name === "NeedsMoreMemory";

/**
 * Whether a request failed because its model's queue was full (`too_many` in src/engine/mod.rs), so that it may find a place later. That memory runs out
 * has the same code.
 *
 * @param {unknown} error
 */
export const isQueueFull = (error) => error instanceof InferenceUpstreamError && /^3040: Out of capacity: \d+ requests are already waiting/.test(error.message);

/** The error of a call after `close()`. */
export const closed = () => new AiInternalError("This Ai is closed. Create another one.");

/**
 * Converts an error to a value that `postMessage` can clone.
 *
 * @param {unknown} error
 * @returns {ErrorMessage}
 */
export function toMessage(error) {
  const { name, message, internalCode, httpCode, description, body } = /** @type {Partial<ErrorMessage>} */ (error ?? {});
  return { name, message: message ?? String(error), internalCode, httpCode, description, body };
}

/**
 * Converts the value of `toMessage` back to an error.
 *
 * @param {ErrorMessage} message
 */
export function fromMessage({ name, message, ...details }) {
  if (details.internalCode) return new InferenceUpstreamError(message, details);
  if (name === "AbortError") return new DOMException(message, name);
  if (name === "AiInternalError") return new AiInternalError(message);
  return Object.assign(new Error(message), name ? { name } : {});
}
