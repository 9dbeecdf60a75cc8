// Requests and responses of Node's HTTP servers, as the `Request` and `Response` of `Ai.fetch`.

import { once } from "node:events";

/** @import { IncomingMessage, ServerResponse } from "node:http" */

/** The longest body that `Ai.fetch` accepts. */
export const MAX_BODY_BYTES = 8 << 20;

/**
 * Converts Node's request to a `Request`; `null` if its method or URL is not valid there.
 *
 * @param {IncomingMessage} request
 * @param {AbortSignal} signal
 */
export function toRequest(request, signal) {
  const { method, url = "/" } = request;
  const body = method === "GET" || method === "HEAD" ? undefined : bodyOf(request);
  // Node joins repeated headers to one string, except `set-cookie`, which clients do not send.
  const headers = /** @type {[string, string][]} */ (Object.entries(request.headers));
  // TypeScript's DOM library does not know `duplex`, which streams as bodies require.
  const init = { method, headers, body, duplex: "half", signal };
  try {
    return new Request(new URL(url, "http://localhost"), init);
  } catch {
    return null;
  }
}

/**
 * A request's body, read on demand. After a cancel, the rest is read and discarded: clients read the response only after that.
 *
 * @param {IncomingMessage} request
 */
function bodyOf(request) {
  const chunks = request.iterator({ destroyOnReturn: false });
  return new ReadableStream(
    {
      async pull(controller) {
        const { done, value } = await chunks.next();
        if (done) controller.close();
        else controller.enqueue(value);
      },
      async cancel() {
        await chunks.return?.();
        request.resume();
      },
    },
    { highWaterMark: 0 },
  );
}

/**
 * Sends a response at the speed of its client: when the client stops reading, the computation pauses.
 *
 * @param {Response} answer
 * @param {ServerResponse} response
 * @param {AbortSignal} signal
 */
export async function sendResponse(answer, response, signal) {
  response.writeHead(answer.status, Object.fromEntries(answer.headers));
  response.flushHeaders();
  for await (const chunk of answer.body ?? []) {
    if (!response.write(chunk)) await once(response, "drain", { signal });
  }
  response.end();
}
