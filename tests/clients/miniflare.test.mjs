// Miniflare's own `ai` binding in front of `serve`, by the headers that Miniflare wraps a binding's requests in.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Miniflare, convertV4MiniflareOptions } from "miniflare";
import { Ai } from "workers-ai-local";
import { createServer } from "../../pkg/cli/serve.js";
import { listening } from "../../scripts/lib/ports.mjs";

const WORKER = `export default { async fetch(request, env) {
  const run = (prompt, more, options) => env.AI.run("@cf/meta/llama-3.1-8b-instruct", { prompt, ...more }, options);
  const { pathname } = new URL(request.url);
  if (pathname === "/stream") return new Response(await run("Hi", { stream: true }));
  if (pathname === "/error") return run("busy").then(Response.json, ({ name, message }) => Response.json({ name, message }));
  if (pathname === "/models") return Response.json((await env.AI.models({ search: "llama-2" })).map(({ name }) => name));
  return Response.json({ ...(await run("Hi")), class: env.AI.constructor.name, id: env.AI.lastRequestId });
} };`;

let server;
let miniflare;
before(async () => {
  server = await listening(createServer(new Ai({ script: [{ input: "busy", error: 3040 }, { text: "Hello there" }] })));
  const ai = { binding: "AI", remoteProxyConnectionString: new URL(server.url) };
  miniflare = new Miniflare(convertV4MiniflareOptions({ modules: true, script: WORKER, compatibilityDate: "2026-04-21", ai }));
});
after(async () => {
  await miniflare?.dispose();
  await server?.close();
});
const get = (pathname) => miniflare.dispatchFetch(`http://localhost${pathname}`);

test("objects and streams", async () => {
  const answer = await (await get("/")).json();
  assert.deepEqual([answer.response, answer.class], ["Hello there", "Ai"]);
  assert.match(answer.id, /^[\da-f-]{36}$/);
  assert.match(await (await get("/stream")).text(), /"response":" there".*data: \[DONE\]/s);
});

test("errors and the catalogue", async () => {
  assert.deepEqual(await (await get("/error")).json(), { name: "AiError", message: "3040: Capacity temporarily exceeded, please try again" });
  assert.ok((await (await get("/models")).json()).includes("@cf/meta/llama-2-7b-chat-int8"));
});

test("a question for RPC over a WebSocket is refused", async () => {
  assert.equal((await fetch(`${server.url}/?MF-Binding=AI`)).status, 404);
  assert.equal((await fetch(`${server.url}/?a=b`)).status, 200, "the playground");
});
