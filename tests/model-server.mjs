// An HTTP server for the real model's file that simulates every kind of failing download.

import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { setTimeout as sleep } from "node:timers/promises";
import { listening } from "../scripts/lib/ports.mjs";
import { MODEL_PATH } from "./real-model.mjs";

const PIECE = 1 << 20;
/** The number of bytes after which a connection is cut. */
export const CUT = 20_000_000;

/**
 * Starts the server. Its paths:
 * - `/model.gguf`: the file; accepts range requests;
 * - `/locked.gguf`: the file, only with the header `authorization: Bearer key`, otherwise 401;
 * - `/cut.gguf`: the first connection is cut after `CUT` bytes;
 * - `/cut-without-range.gguf`: like `/cut.gguf`, but ranges are ignored;
 * - `/cut-for-good.gguf`: the first connection is cut after `CUT` bytes, all later ones at once;
 * - `/busy-once.gguf`: 503 at the first request;
 * - `/missing.gguf`: always 404; `/forbidden.gguf`: always 403; `/broken.gguf`: always 500;
 * - `/slow.gguf`: takes about `slowness` milliseconds.
 *
 * @returns {Promise<{url: string, requests: {path: string, range?: string}[], close(): Promise<void>}>}
 */
export async function startModelServer({ slowness = 5_000 } = {}) {
  const file = await readFile(MODEL_PATH);
  const requests = [];

  const routes = {
    "/model.gguf": (exchange) => send(exchange),
    "/locked.gguf": (exchange) => (exchange.request.headers.authorization === "Bearer key" ? send(exchange) : refuse(exchange, 401)),
    "/cut.gguf": (exchange) => send(exchange, { cut: exchange.turn === 1 }),
    "/cut-without-range.gguf": (exchange) => send(exchange, { cut: exchange.turn === 1, ranges: false }),
    "/cut-for-good.gguf": (exchange) => (exchange.turn === 1 ? send(exchange, { cut: true }) : exchange.response.destroy()),
    "/busy-once.gguf": (exchange) => (exchange.turn === 1 ? refuse(exchange, 503) : send(exchange)),
    "/missing.gguf": (exchange) => refuse(exchange, 404),
    "/forbidden.gguf": (exchange) => refuse(exchange, 403),
    "/broken.gguf": (exchange) => refuse(exchange, 500),
    "/slow.gguf": (exchange) => send(exchange, { pause: slowness / (file.length / PIECE) }),
  };

  async function send({ request, response, range }, { ranges = true, cut = false, pause = 0 } = {}) {
    const start = ranges && range ? Number(/^bytes=(\d+)-$/.exec(range)[1]) : 0;
    const partial = start > 0 ? { "content-range": `bytes ${start}-${file.length - 1}/${file.length}` } : {};
    response.writeHead(start > 0 ? 206 : 200, { "content-length": file.length - start, ...partial });
    const end = cut ? CUT : file.length;
    for (let at = start; at < end && !request.destroyed; at += PIECE) {
      await new Promise((resolve) => response.write(file.subarray(at, Math.min(at + PIECE, end)), resolve));
      if (pause > 0) await sleep(pause);
    }
    if (cut) response.destroy();
    else response.end();
  }

  const server = createServer((request, response) => {
    const { range } = request.headers;
    requests.push({ path: request.url, range });
    const turn = requests.filter(({ path }) => path === request.url).length;
    const route = routes[request.url] ?? ((exchange) => refuse(exchange, 404));
    Promise.resolve(route({ request, response, range, turn })).catch(() => response.destroy());
  });
  return { ...(await listening(server)), requests };
}

function refuse({ response }, status) {
  response.writeHead(status, { "content-type": "text/plain" }).end("no\n");
}
