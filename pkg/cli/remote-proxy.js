// Requests in the form in which Miniflare sends those of a binding to a server that stands for it (`remoteProxyConnectionString`).

/** The headers of the wrapped request have this prefix. */
const HEADER = "mf-header-";

/**
 * Whether a request asks if the server speaks RPC over a WebSocket; this one does not.
 *
 * @param {string} url path and query
 */
export const isRpcProbe = (url) => url.startsWith("/?") && new URLSearchParams(url.slice(2)).has("MF-Binding");

/**
 * Whether a request wraps one of a binding. Its own path says nothing.
 *
 * @param {import("node:http").IncomingHttpHeaders} headers
 */
export const isWrapped = (headers) => headers["mf-url"] !== undefined;

/**
 * The request of the binding; the given one if it wraps none.
 *
 * @param {Request} request
 */
export function unwrapped(request) {
  const url = request.headers.get("mf-url");
  if (url === null || !URL.canParse(url)) return request;
  const headers = [...request.headers].filter(([name]) => name.startsWith(HEADER)).map(([name, value]) => /** @type {[string, string]} */ ([name.slice(HEADER.length), value]));
  const { method, body, signal } = request;
  // TypeScript's DOM library does not know `duplex`, which streams as bodies require.
  const init = { method, headers, body, duplex: "half", signal };
  return new Request(url, init);
}
