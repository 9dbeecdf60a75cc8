// Requests that are forwarded to the real service. A server that speaks its REST API stands for it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { EventEmitter, once } from "node:events";
import { createServer as createHttpServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { Ai, AiInternalError } from "workers-ai-local";
import { createServer } from "../../pkg/cli/serve.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { MODEL, MODEL_PATH } from "../real-model.mjs";
import { CLI } from "../serve-process.mjs";
import { chunksOf, eventsIn, readAnswer } from "../sse.mjs";

const REMOTE = "@cf/meta/llama-3.1-8b-instruct";
/** What an embedding model answers: no text generation. */
const VECTOR = { shape: [1, 2], data: [[0.25, -1]] };

let service;
let server;
let url;
/** The requests that the service got: method, path and token. */
const asked = [];
/** Says when a client of the path `/slow` has left. */
const left = new EventEmitter();

before(async () => {
  const ai = new Ai({ script: [{ input: "busy", error: 3040 }, { input: "breaks", text: "One two three", error: 3008, delay: 50 }, { text: "from the service" }] });
  service = await listening(createServer(ai));
  server = await listening(
    createHttpServer(async (request, response) => {
      const { method, headers } = request;
      asked.push([method, request.url, headers.authorization]);
      const body = Buffer.concat(await request.toArray());
      if (headers.authorization !== "Bearer secret") {
        response.writeHead(401, { "content-type": "application/json" });
        return response.end(JSON.stringify({ success: false, result: null, errors: [{ code: 10000, message: "Authentication error" }] }));
      }
      if (request.url.endsWith("/bge")) return response.end(JSON.stringify({ success: true, errors: [], result: VECTOR }));
      if (request.url.endsWith("/null")) return response.end("null");
      if (request.url.endsWith("/slow")) return void request.socket.once("close", () => left.emit("left"));
      if (request.url.endsWith("/html")) return response.writeHead(502, { "content-type": "text/html" }).end("<h1>Bad gateway");
      const answer = await fetch(service.url + request.url, { method, headers: { "content-type": headers["content-type"] }, body });
      response.writeHead(answer.status, { "content-type": answer.headers.get("content-type") });
      try {
        for await (const chunk of answer.body) response.write(chunk);
        response.end();
      } catch {
        response.destroy();
      }
    }),
  );
  ({ url } = server);
});
after(async () => {
  await server?.close();
  await service?.close();
});

const account = () => ({ id: "me", token: "secret", url });
const forwarding = (remote, more) => new Ai({ remote, account: account(), ...more });
const fails = (code, status, says) => (error) => {
  assert.equal(error.name, "AiError", error.stack);
  assert.match(error.message, new RegExp(`^${code}: .*${says.source}`, "s"));
  assert.equal(error.httpCode, status);
  return true;
};

// The server stands for `https://api.cloudflare.com/client/v4`; ours has that path.
const base = () => `${url}/client/v4`;
const always = () => new Ai({ remote: { "*": "always" }, account: { ...account(), url: base() } });

describe("a forwarded request", () => {
  test("gets the service's object, with the account's token", async () => {
    const { response, usage } = await always().run(REMOTE, { prompt: "Hi" });
    assert.deepEqual([response, usage.completion_tokens], ["from the service", 3]);
    assert.deepEqual(asked.at(-1), ["POST", `/client/v4/accounts/me/ai/run/${REMOTE}`, "Bearer secret"]);
  });

  test("gets its stream, piece by piece", async () => {
    const { pieces } = await readAnswer(await always().run(REMOTE, { prompt: "Hi", stream: true }));
    assert.deepEqual(pieces, ["from", " the", " service"]);
  });

  test("gets its errors, with their codes and status", async () => {
    await assert.rejects(always().run(REMOTE, { prompt: "busy" }), fails(3040, 429, /Capacity/));
    await assert.rejects(always().run(REMOTE, { temperature: "hot" }), fails(5006, 400, /oneOf/));
    const wrong = new Ai({ remote: { [REMOTE]: "always" }, account: { id: "me", token: "wrong", url: base() } });
    await assert.rejects(wrong.run(REMOTE, { prompt: "Hi" }), fails(10000, 401, /Authentication error/));
    await assert.rejects(wrong.run(REMOTE, { prompt: "Hi" }), fails(10000, 401, /CLOUDFLARE_API_TOKEN/));
    await assert.rejects(always().run("@cf/a/html", { prompt: "Hi" }), fails(3008, 502, /HTTP 502 and no JSON/));
    await assert.rejects(always().run("@cf/a/null", { prompt: "Hi" }), fails(3008, 400, /HTTP 200/));
  });

  test("whose stream breaks off ends with an error", async () => {
    const stream = await always().run(REMOTE, { prompt: "breaks", stream: true });
    await assert.rejects(chunksOf(stream), fails(3008, 408, /broke off/));
  });

  test("ends at the service, too, when its caller leaves", async () => {
    const leave = new AbortController();
    const running = always().run("@cf/a/slow", { prompt: "Hi" }, { signal: leave.signal });
    while (!asked.at(-1)?.[1].endsWith("/slow")) await new Promise((resolve) => setTimeout(resolve, 5));
    const gone = once(left, "left");
    leave.abort();
    await assert.rejects(running, { name: "AbortError" });
    await gone;
  });

  test("is never for another path than that of a model", async () => {
    const before = asked.length;
    for (const model of ["../../../zones/z/purge_cache", "@cf/..%2f..", "@cf/a/../../x", "@cf/a?b", "@cf/a#b", "@cf\\..\\a", "", "@cf/a//b"]) {
      await assert.rejects(always().run(model, { prompt: "Hi" }), fails(5007, 400, /No such model/), model);
    }
    assert.equal(asked.length, before);
  });

  test("may be for a model of another task", async () => {
    assert.deepEqual(await always().run("@cf/baai/bge", { text: ["a"] }), VECTOR);
  });

  test("works over HTTP, in both dialects", async () => {
    const ai = always();
    const rest = await ai.fetch(`/client/v4/accounts/any/ai/run/${REMOTE}`, { method: "POST", body: JSON.stringify({ prompt: "Hi" }) });
    assert.equal((await rest.json()).result.response, "from the service");
    assert.equal(rest.headers.get("workers-ai-local-model"), "service");
    const chat = (body) => ai.fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify({ model: REMOTE, messages: [{ role: "user", content: "Hi" }], ...body }) });
    assert.equal((await (await chat()).json()).choices[0].message.content, "from the service");
    assert.equal(asked.at(-1)[1], "/client/v4/accounts/me/ai/v1/chat/completions");
    const events = eventsIn(...(await chunksOf((await chat({ stream: true })).body)));
    assert.equal(events.slice(0, -1).map((event) => JSON.parse(event).choices[0]?.delta.content ?? "").join(""), "from the service");
    const refused = await chat({ messages: [{ role: "user", content: "busy" }] });
    assert.deepEqual([refused.status, (await refused.json()).error.code], [429, 3040]);
  });
});

test("when-missing asks for ids without a file of their own only", async () => {
  const ai = new Ai({ models: { [MODEL]: MODEL_PATH }, remote: { "*": "when-missing", "@cf/own/never": "when-missing" }, account: { ...account(), url: base() } });
  const before = asked.length;
  assert.notEqual((await ai.run(MODEL, { prompt: "Hi", max_tokens: 2 })).response, "from the service");
  assert.equal(asked.length, before);
  assert.equal((await ai.run(REMOTE, { prompt: "Hi" })).response, "from the service");
});

test("without an account, or without its service, the error says what to do", async () => {
  const none = new Ai({ remote: { [REMOTE]: "always" }, account: { id: "", token: "", url: base() } });
  await assert.rejects(none.run(REMOTE, { prompt: "Hi" }), fails(5004, 400, /CLOUDFLARE_ACCOUNT_ID and CLOUDFLARE_API_TOKEN/));
  const away = new Ai({ remote: { [REMOTE]: "always" }, account: { ...account(), url: "http://127.0.0.1:9" } });
  await assert.rejects(away.run(REMOTE, { prompt: "Hi" }), fails(3008, 408, /could not be reached/));
});

test("the account of the environment is wrangler's", async () => {
  const before = { ...process.env };
  try {
    Object.assign(process.env, { CLOUDFLARE_ACCOUNT_ID: "env", CLOUDFLARE_API_TOKEN: "secret", CLOUDFLARE_API_BASE_URL: base() });
    await new Ai({ remote: { [REMOTE]: "always" } }).run(REMOTE, { prompt: "Hi" });
    assert.equal(asked.at(-1)[1], `/client/v4/accounts/env/ai/run/${REMOTE}`);
  } finally {
    for (const name of ["CLOUDFLARE_ACCOUNT_ID", "CLOUDFLARE_API_TOKEN", "CLOUDFLARE_API_BASE_URL"]) {
      if (before[name] === undefined) delete process.env[name];
      else process.env[name] = before[name];
    }
  }
});

test("on the command line, --forward names the ids", async () => {
  const env = { ...process.env, CLOUDFLARE_ACCOUNT_ID: "cli", CLOUDFLARE_API_TOKEN: "secret", CLOUDFLARE_API_BASE_URL: base() };
  const run = (...args) => promisify(execFile)(process.execPath, [CLI, "run", ...args, "Hi"], { env });
  assert.equal((await run("--model", REMOTE, "--forward", REMOTE)).stdout, "from the service\n");
  assert.equal(asked.at(-1)[1], `/client/v4/accounts/cli/ai/run/${REMOTE}`);
  assert.equal((await run("--model", REMOTE, "--forward", "*=when-missing")).stdout, "from the service\n");
  await assert.rejects(run("--forward", `${REMOTE}=sometimes`), ({ code, stderr }) => code === 2 && stderr.includes("--forward takes a model id"));
});

test("what cannot be understood is refused", () => {
  assert.throws(() => new Ai({ remote: { [REMOTE]: "sometimes" } }), AiInternalError);
  assert.throws(() => new Ai({ remote: "always" }), AiInternalError);
  assert.ok(forwarding({ [REMOTE]: "always" }));
});
