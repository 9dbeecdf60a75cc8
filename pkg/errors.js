// The error classes that the binding throws, and the way of an error across a Web Worker's boundary.

/** A failed request: `name` is "AiError", `message` is "CODE: text". */
export class InferenceUpstreamError extends Error {
  /**
   * @param {string} message
   * @param {{internalCode?: number, httpCode?: number, description?: string, body?: object}} [details]
   */
  constructor(message, details = {}) {
    super(message);
    this.name = "AiError";
    // Not enumerable, as on the live binding, where an error has only its name and message.
    for (const [key, value] of Object.entries(details)) Object.defineProperty(this, key, { value });
  }
}

/** The class itself is used in a way that is not possible. */
export class AiInternalError extends Error {
  constructor(message) {
    super(message);
    this.name = "AiInternalError";
  }
}

/** An error of the table, made on this side of the edge. */
export function aiError(internalCode, httpCode, description) {
  const body = { name: "AiError", internalCode, httpCode, message: `AiError: ${description}`, description };
  return new InferenceUpstreamError(`${internalCode}: ${description}`, { internalCode, httpCode, description, body });
}

/** What an aborted request throws: a DOMException, named AbortError unless the signal brings one of its own. */
export function abortError(signal) {
  const reason = signal?.reason;
  return reason instanceof DOMException ? reason : new DOMException("The operation was aborted.", "AbortError");
}

/** An error as a value that `postMessage` can carry. */
export function toMessage(error) {
  const { name, message, internalCode, httpCode, description, body } = error ?? {};
  return { name, message: message ?? String(error), internalCode, httpCode, description, body };
}

/** The error that a message carries. */
export function fromMessage({ name, message, ...details }) {
  if (details.internalCode) return new InferenceUpstreamError(message, details);
  if (name === "AbortError") return new DOMException(message, name);
  if (name === "AiInternalError") return new AiInternalError(message);
  return Object.assign(new Error(message), name ? { name } : {});
}
