// A server of a small model's file, with what downloads meet: redirects, and a file that changes on the server. For tests in every runtime.

import { createServer } from "node:http";
import { listening } from "../scripts/lib/ports.mjs";
import { scriptedModel } from "./scripted-model.mjs";

/** What the file's model says. */
export const SAYS = "The first.";
export const FILE = Buffer.from(scriptedModel({ script: [SAYS] }).bytes);
const OTHER = Buffer.from(scriptedModel({ script: ["The other."] }).bytes);

/** Pages of every origin may read all of it. */
const CORS = { "access-control-allow-origin": "*", "access-control-allow-headers": "*", "access-control-expose-headers": "*" };

/**
 * Starts the server. Its paths:
 * - `/5/m.gguf` redirects to `/4/m.gguf`, and so on to `/0/m.gguf`, the file;
 * - `/changes.gguf` is the file, breaks off after one half, and is another file from then on;
 * - those of `routes` redirect to their value, which may be changed later.
 *
 * @param {Record<string, string>} [routes]
 * @returns {Promise<{url: string, asked: Record<string, string>[], close(): Promise<void>}>} `asked`: path and headers of each request
 */
export async function startDownloadServer(routes = {}) {
  const asked = [];
  let changed = false;
  const server = await listening(
    createServer((request, response) => {
      if (request.method === "OPTIONS") return response.writeHead(204, CORS).end();
      asked.push({ path: request.url, ...request.headers });
      const send = (status, headers, body) => response.writeHead(status, { ...CORS, ...headers }).end(body);
      const redirects = Number(/^\/(\d+)\/m\.gguf$/.exec(request.url)?.[1] ?? NaN);
      if (routes[request.url]) send(302, { location: routes[request.url] }, "moved");
      else if (redirects === 0) send(200, {}, FILE);
      else if (redirects > 0) send([301, 302, 303, 307, 308][redirects % 5], { location: `../${redirects - 1}/m.gguf` }, "moved");
      else if (request.url !== "/changes.gguf") send(404, {}, "no such file");
      else if (changed) send(200, { etag: '"2"' }, OTHER);
      else {
        changed = true;
        response.writeHead(200, { ...CORS, "content-length": FILE.length, etag: '"1"' });
        response.write(FILE.subarray(0, FILE.length >> 1));
        // Later, because what a client has not read yet may be lost with the connection.
        setTimeout(() => response.destroy(), 500);
      }
    }),
  );
  return { ...server, asked };
}
