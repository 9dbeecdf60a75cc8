// `workers-ai-local serve`: the HTTP server, in a separate process or, where a test inspects the engine, in this process.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFile, stat } from "node:fs/promises";
import { Agent, request as httpRequest } from "node:http";
import { connect, createServer as createTcpServer } from "node:net";
import { networkInterfaces } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Ai, DEFAULT_MODEL } from "workers-ai-local";
import { answeringAny } from "../../pkg/cli/any-model.js";
import { fileNameOf } from "../../pkg/cli/engine.js";
import { createServer } from "../../pkg/cli/serve.js";
import { freePort, listening } from "../../scripts/lib/ports.mjs";
import { MODEL, MODEL_PATH } from "../real-model.mjs";
import { CLI, startServe } from "../serve-process.mjs";
import { chunksOf, eventsIn, readAnswer } from "../sse.mjs";

const STORY = { prompt: "Once upon a time", raw: true, temperature: 1, seed: 5, max_tokens: 10 };
/** Has more tokens than any test reads. */
const LONG = { ...STORY, max_tokens: 2000 };
/** Milliseconds: longer than a token takes, so that an ongoing computation becomes visible. */
const WHILE = 400;
const RUN = `/client/v4/accounts/local/ai/run/${MODEL}`;
const CHAT = { model: MODEL, messages: [{ role: "user", content: "Name a colour." }], temperature: 0, max_tokens: 8 };

/** Runs a command that fails, until it exits; returns its exit code and stderr. */
async function failing(...args) {
  const child = spawn(process.execPath, [CLI, "serve", ...args], { stdio: ["ignore", "ignore", "pipe"] });
  let error = "";
  child.stderr.setEncoding("utf8").on("data", (text) => (error += text));
  const [code] = await once(child, "close");
  return { code, error };
}

const isOneLine = (error, says) => assert.ok(error.startsWith(`error: ${says}`) && error.indexOf("\n") === error.length - 1, error);

/** Polls until `check` returns something truthy; fails after 5 s. */
async function eventually(what, check) {
  for (const end = Date.now() + 5_000; Date.now() < end; await sleep(20)) {
    if (await check()) return;
  }
  assert.fail(`not within 5 s: ${what}`);
}

describe("serve", () => {
  const own = new Ai({ onWarning() {} });
  let server;
  let post;
  before(async () => {
    server = await startServe("--port", "0");
    // Like the documented curl command: without a JSON content type.
    post = (where, body, init) => fetch(`${server.url}${where}`, { method: "POST", body: JSON.stringify(body), ...init });
  });
  after(() => server?.stop());

  test("prints its address, an example request and the playground's address to stderr", async () => {
    assert.match(server.url, /^http:\/\/127\.0\.0\.1:\d+$/);
    assert.ok(server.said.includes(path.basename(MODEL_PATH)));
    assert.match(server.said, new RegExp(`Playground +${server.url}/\n`));
    const [, address, body] = / curl (\S+) .*-d '(.+)'\n/.exec(server.said);
    const response = await fetch(address, { method: "POST", headers: { "content-type": "application/json" }, body });
    assert.equal(response.status, 200);
    assert.notEqual((await response.json()).choices[0].message.content, "");
    assert.equal(server.out, "");
  });

  for (const [what, where] of Object.entries({
    "the model's id unencoded": RUN,
    "the model's id percent-encoded": `/client/v4/accounts/local/ai/run/${encodeURIComponent(MODEL)}?unknown=1`,
  })) {
    test(`REST, ${what}: an object in an envelope`, async () => {
      const response = await post(where, STORY);
      assert.equal(response.status, 200);
      assert.equal(response.headers.get("content-type"), "application/json");
      const { result, ...envelope } = await response.json();
      assert.deepEqual(envelope, { success: true, errors: [], messages: [] });
      const expected = await own.run(MODEL, STORY);
      assert.equal(result.response, expected.response);
      assert.equal(result.finish_reason, expected.finish_reason);
      assert.equal(result.usage.completion_tokens, expected.usage.completion_tokens);
    });
  }

  test("REST: a stream without an envelope", async () => {
    const response = await post(RUN, { ...STORY, stream: true });
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    const answer = await readAnswer(response.body);
    assert.equal(answer.text, (await own.run(MODEL, STORY)).response);
    assert.equal(answer.usage.completion_tokens, 10);
  });

  for (const prefix of ["/v1", "/client/v4/accounts/local/ai/v1"]) {
    test(`OpenAI's chat completions at ${prefix}: an object, and the same as a stream`, async () => {
      const response = await post(`${prefix}/chat/completions`, CHAT);
      assert.equal(response.status, 200);
      const completion = await response.json();
      assert.equal(completion.object, "chat.completion");
      assert.equal(completion.choices.length, 1);
      const { message, finish_reason } = completion.choices[0];
      const { model, ...input } = CHAT;
      const expected = await own.run(model, input);
      assert.deepEqual([message.role, message.content, finish_reason], ["assistant", expected.response, expected.finish_reason]);
      assert.equal(completion.usage.completion_tokens, expected.usage.completion_tokens);

      const streamed = await post(`${prefix}/chat/completions`, { ...CHAT, stream: true, stream_options: { include_usage: true } });
      assert.equal(streamed.headers.get("content-type"), "text/event-stream");
      const events = eventsIn(...(await chunksOf(streamed.body)));
      assert.equal(events.pop(), "[DONE]");
      const chunks = events.map((event) => JSON.parse(event));
      for (const { object, choices } of chunks) {
        assert.equal(object, "chat.completion.chunk");
        assert.ok(Array.isArray(choices));
      }
      const { choices, usage } = chunks.at(-1);
      assert.deepEqual(choices, []);
      assert.equal(usage.completion_tokens, expected.usage.completion_tokens);
      assert.equal(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join(""), message.content);
    });
  }

  test("OpenAI's list of models, and a single model", async () => {
    const { object, data } = await (await fetch(`${server.url}/v1/models`)).json();
    assert.equal(object, "list");
    const ids = data.map(({ id }) => id);
    for (const { name } of await own.models()) assert.ok(ids.includes(name), name);
    for (const id of [MODEL, encodeURIComponent(MODEL)]) {
      const response = await fetch(`${server.url}/v1/models/${id}`);
      assert.equal((await response.json()).id, MODEL);
    }
  });

  test("a body that is too long is answered with 413 and code 3006 before all of it is sent", async () => {
    for (const headers of [{ "content-length": 1e12 }, { "transfer-encoding": "chunked" }]) {
      const sent = httpRequest(`${server.url}${RUN}`, { method: "POST", headers });
      sent.on("error", () => {});
      let over = false;
      const answered = once(sent, "response").finally(() => (over = true));
      const piece = Buffer.alloc(1 << 16, " ");
      for (let bytes = 0; !over && bytes < 1e9; bytes += piece.length) {
        await new Promise((resolve) => sent.write(piece, resolve));
      }
      const [response] = await answered;
      assert.equal(response.statusCode, 413);
      const { success, errors } = JSON.parse(Buffer.concat(await chunksOf(response)));
      assert.deepEqual([success, errors[0].code], [false, 3006]);
      sent.destroy();
    }
  });

  for (const kind of ["Content-Length: 67108864", "Transfer-Encoding: chunked"]) {
    test(`a client that sends all of a body that is too long before it reads receives the answer too (${kind})`, async () => {
      const socket = connect(new URL(server.url).port, "127.0.0.1").setEncoding("utf8");
      const body = Buffer.alloc(1 << 26, " ");
      socket.write(`POST ${RUN} HTTP/1.1\r\nHost: localhost\r\n${kind}\r\n\r\n`);
      if (kind.endsWith("chunked")) socket.write(`${body.length.toString(16)}\r\n`);
      await new Promise((resolve, reject) => {
        socket.on("error", reject);
        socket.write(body, (error) => (error ? reject(error) : resolve()));
      });
      let answer = "";
      for await (const text of socket) {
        answer += text;
        if (answer.includes("\r\n0\r\n")) break;
      }
      assert.match(answer, /^HTTP\/1\.1 413 .*"code":3006/s);
    });
  }

  test("unknown paths and models and invalid input are errors in the form of the surface", async () => {
    const nowhere = await fetch(`${server.url}/nowhere`);
    assert.equal(nowhere.status, 404);
    assert.equal((await nowhere.json()).success, false);
    const error = await post("/v1/chat/completions", { ...CHAT, temperature: 9 });
    assert.equal(error.status, 400);
    const body = await error.json();
    assert.match(body.error.message, /temperature/);
    assert.equal(body.errors[0].code, 5006);
    assert.equal((await post("/client/v4/accounts/local/ai/run/@cf/no/such", STORY)).status, 400);
  });

  test("requests that a web Request cannot represent are rejected with 400, and the server keeps working", async () => {
    const { port } = new URL(server.url);
    for (const start of ["TRACE / HTTP/1.1", "GET // HTTP/1.1"]) {
      const socket = connect(port, "127.0.0.1");
      socket.write(`${start}\r\nHost: localhost\r\nConnection: close\r\n\r\n`);
      assert.match(Buffer.concat(await chunksOf(socket)).toString(), /^HTTP\/1\.1 400 /, start);
    }
    assert.equal((await fetch(`${server.url}/v1/models`)).status, 200);
  });

  test("logs a line for each request: method, path, status and time", async () => {
    await fetch(`${server.url}/nowhere/at/all?key=secret`);
    await eventually("the line is there", () => /^GET \/nowhere\/at\/all 404 \d+ ms$/m.test(server.said));
    assert.match(server.said, new RegExp(`^POST ${RUN} 200 \\d+ ms$`, "m"));
    assert.doesNotMatch(server.said, /secret/, "the log omits the query, which may contain secrets");
  });

  test("accepts connections from this machine only", async () => {
    const { port } = new URL(server.url);
    const answers = (port, host) =>
      new Promise((resolve) => {
        const socket = connect({ port, host });
        socket.on("connect", () => resolve(true)).on("error", () => resolve(false));
        socket.on("close", () => resolve(false)).setTimeout(2_000, () => socket.destroy());
        socket.on("connect", () => socket.destroy());
      });
    // A server that listens on all interfaces shows which other addresses of this machine are reachable at all.
    const everywhere = createTcpServer().listen(0, "0.0.0.0");
    await once(everywhere, "listening");
    const addresses = Object.values(networkInterfaces()).flat().filter(({ family }) => family === "IPv4");
    const others = [...addresses.map(({ address }) => address), "127.0.0.2"].filter((address) => address !== "127.0.0.1");
    const reached = [];
    for (const address of others) {
      if (await answers(everywhere.address().port, address)) reached.push(address);
    }
    everywhere.close();
    assert.ok(reached.length > 0, "this machine has another reachable address");
    for (const address of reached) assert.equal(await answers(port, address), false, address);
    assert.equal(await answers(port, "127.0.0.1"), true);
  });

  test("serves the playground: its page, the package and the model", async () => {
    const page = await fetch(`${server.url}/`);
    assert.equal(page.headers.get("content-type"), "text/html; charset=utf-8");
    assert.equal(page.headers.get("cross-origin-opener-policy"), "same-origin");
    assert.equal(page.headers.get("cross-origin-embedder-policy"), "require-corp");
    assert.equal(page.headers.get("cross-origin-resource-policy"), "same-origin");
    assert.equal(await page.text(), await readFile(new URL("../../www/index.html", import.meta.url), "utf8"));
    const types = { "/pkg/browser.js": /^text\/javascript/, "/pkg/wasm/simd128/workers_ai_local_bg.wasm": /^application\/wasm$/ };
    for (const [file, type] of Object.entries(types)) {
      const response = await fetch(`${server.url}${file}`, { method: "HEAD" });
      assert.equal(response.status, 200);
      assert.match(response.headers.get("content-type"), type);
    }
    const model = await fetch(`${server.url}/models/${DEFAULT_MODEL.file}`, { method: "HEAD" });
    assert.equal(Number(model.headers.get("content-length")), (await stat(MODEL_PATH)).size);
    for (const outside of ["/..%2fpackage.json", "/pkg/..%2f..%2fpackage.json", "/pkg/%2e%2e/%2e%2e/package.json"]) {
      assert.equal((await fetch(`${server.url}${outside}`)).status, 404, outside);
    }
  });

  test("allows no other origin to read responses, unless --cors says so", async () => {
    const headers = { origin: "https://a.example" };
    const asked = { ...headers, "access-control-request-method": "POST", "access-control-request-headers": "content-type" };
    for (const [where, init] of [
      ["/v1/models", { headers }],
      [RUN, { method: "POST", headers, body: JSON.stringify({ ...STORY, max_tokens: 1 }) }],
      [RUN, { method: "OPTIONS", headers: asked }],
      ["/", { headers }],
    ]) {
      const response = await fetch(`${server.url}${where}`, init);
      assert.equal(response.status, 403, where);
      assert.equal(response.headers.get("access-control-allow-origin"), null, where);
      await response.body?.cancel();
    }
  });

  test("GET /health says that the model is loaded, also to who has no key", async () => {
    const response = await fetch(`${server.url}/health`);
    assert.deepEqual([response.status, response.headers.get("content-type")], [200, "application/json"]);
    assert.deepEqual(await response.json(), { status: "ok", model: path.basename(MODEL_PATH), backend: "cpu" });
    assert.equal((await fetch(`${server.url}/health`, { method: "HEAD" })).status, 200);
    assert.doesNotMatch(server.said, /\/health/, "the log omits what is asked every few seconds");
    assert.equal((await fetch(`${server.url}/health`, { headers: { origin: "https://a.example" } })).status, 403);
    let health = { status: "loading", model: "a.gguf", backend: null };
    const own = await listening(createServer({}, { access: { key: "secret" }, health: () => health }));
    const loading = await fetch(`${own.url}/health`);
    assert.deepEqual([loading.status, await loading.json()], [503, health]);
    assert.equal((await fetch(`${own.url}/v1/models`)).status, 401);
    await own.close();
  });

  test("a port in use causes a one-line error and exit code 1", async () => {
    const { port } = new URL(server.url);
    const { code, error } = await failing("--port", port);
    assert.equal(code, 1);
    isOneLine(error, `port ${port} is in use: `);
  });
});

describe("serve when it is stopped", { skip: process.platform === "win32" }, () => {
  const ask = (server, input) => fetch(`${server.url}${RUN}`, { method: "POST", body: JSON.stringify({ ...input, stream: true }) });
  const rest = async (reader) => {
    let text = "";
    for (let step; !(step = await reader.read()).done; ) text += new TextDecoder().decode(step.value);
    return text;
  };

  for (const signal of ["SIGINT", "SIGTERM"]) {
    test(`${signal}: answers in progress end, and no request begins`, async (t) => {
      const server = await startServe("--port", "0");
      t.after(() => server.child.kill("SIGKILL"));
      const agent = new Agent({ keepAlive: true });
      const kept = () =>
        new Promise((resolve, reject) => httpRequest(`${server.url}/v1/models`, { agent }, (response) => response.resume().on("end", () => resolve(response.statusCode))).on("error", reject).end());
      assert.equal(await kept(), 200);
      const reader = (await ask(server, { ...STORY, max_tokens: 60 })).body.getReader();
      await reader.read();
      server.child.kill(signal);
      await eventually("it says so", () => /^Stopping once the answer in progress has ended, in 5 s at the latest/m.test(server.said));
      await assert.rejects(fetch(`${server.url}/v1/models`));
      await assert.rejects(kept());
      assert.match(await rest(reader), /data: \[DONE\]/);
      const answered = Date.now();
      assert.equal(await server.ended, 0);
      assert.ok(Date.now() - answered < 1_500, "kept connections do not delay the end");
      assert.doesNotMatch(server.said, /error|cut off/i);
      agent.destroy();
    });
  }

  test("an answer that takes longer is cut off after some seconds, at the second signal at once", async (t) => {
    for (const [again, atMost] of [[false, 10_000], [true, 2_000]]) {
      const server = await startServe("--port", "0");
      t.after(() => server.child.kill("SIGKILL"));
      const reader = (await ask(server, { ...LONG, raw: true, prompt: "1 1 1 1 1 1" })).body.getReader();
      await reader.read();
      const stopped = Date.now();
      server.child.kill("SIGINT");
      await eventually("it says so", () => /^Stopping once/m.test(server.said));
      if (again) server.child.kill("SIGINT");
      await assert.rejects(rest(reader), "an answer that is cut off must not look complete");
      assert.equal(await server.ended, 0);
      assert.ok(Date.now() - stopped < atMost);
      assert.ok(again || Date.now() - stopped >= 4_900);
      assert.doesNotMatch(server.said, /error/i);
    }
  });
});

describe("serve --any-model", () => {
  let server;
  before(async () => {
    server = await startServe("--port", "0", "--any-model");
  });
  after(() => server?.stop());
  const post = (where, body, headers = {}) => fetch(`${server.url}${where}`, { method: "POST", headers, body: typeof body === "string" ? body : JSON.stringify(body) });

  test("answers ids that do not exist with the default model, on every surface, and says so once", async () => {
    const input = { ...STORY, max_tokens: 2 };
    for (const model of ["gpt-4o", "gpt-4o", "@cf/no/such"]) {
      const completion = await (await post("/v1/chat/completions", { ...CHAT, model })).json();
      assert.deepEqual([completion.model, completion.choices.length], [MODEL, 1]);
      const own = await (await post("/v1/chat/completions", CHAT)).json();
      assert.equal(completion.choices[0].message.content, own.choices[0].message.content);
      for (const id of [model, encodeURIComponent(model)]) {
        const { success, result } = await (await post(`/client/v4/accounts/local/ai/run/${id}`, input)).json();
        assert.deepEqual([success, result.usage.completion_tokens], [true, 2]);
      }
      const wire = await post("/run?version=3", { inputs: input, options: {} }, { "cf-consn-model-id": model });
      assert.equal((await wire.json()).usage.completion_tokens, 2);
    }
    assert.equal(server.said.match(/^note: gpt-4o does not exist; .* answers instead\.$/gm).length, 1);
  });

  test("leaves all else as it is: known ids, streams, errors", async () => {
    const stream = await post("/v1/chat/completions", { ...CHAT, model: "gpt-4o", stream: true });
    assert.equal(eventsIn(...(await chunksOf(stream.body))).pop(), "[DONE]");
    assert.equal((await (await post("/v1/chat/completions", { ...CHAT, model: "@cf/meta/llama-3.1-8b-instruct" })).json()).model, "@cf/meta/llama-3.1-8b-instruct");
    for (const [body, status, code] of [
      ["{", 400, 5004],
      [{ ...CHAT, model: undefined }, 400, 5006],
      [{ ...CHAT, model: "gpt-4o", temperature: 9 }, 400, 5006],
      [" ".repeat((8 << 20) + 1), 413, 3006],
    ]) {
      const response = await post("/v1/chat/completions", body);
      const { errors } = await response.json();
      assert.deepEqual([response.status, errors[0].code], [status, code]);
    }
  });

  test("answers them in the Responses API and for embeddings, too", async () => {
    const response = await (await post("/v1/responses", { model: "gpt-5", input: "Hi", max_output_tokens: 2 })).json();
    assert.deepEqual([response.model, response.object], [MODEL, "response"]);
    const embeddings = await (await post("/v1/embeddings", { model: "text-embedding-3-small", input: "Hi" })).json();
    assert.deepEqual([embeddings.model, embeddings.data[0].embedding.length], ["@cf/sentence-transformers/all-minilm-l6-v2", 384]);
  });

  test("reads no more of a body than the engine does", async () => {
    let pulled = 0;
    const endless = new ReadableStream({ pull: (controller) => (pulled += 1, controller.enqueue(new Uint8Array(10))) });
    const engine = { fetch: async (request) => new Response(String((await request.arrayBuffer()).byteLength)) };
    const request = new Request("http://localhost/v1/chat/completions", { method: "POST", body: endless, duplex: "half" });
    const response = await answeringAny(engine, { model: MODEL, maxBodyBytes: 95 }).fetch(request);
    assert.equal(await response.text(), "100");
    assert.ok(pulled < 20);
  });

  test("ids that are forwarded exist", async () => {
    const asked = [];
    const engine = { fetch: async (request) => (asked.push(new URL(request.url).pathname), new Response("", { status: 404 })) };
    const any = answeringAny(engine, { model: MODEL, others: ["@cf/new/model"], maxBodyBytes: 1000 });
    for (const id of ["@cf/new/model", "gpt-4o"]) await any.fetch(new Request(`http://localhost/client/v4/accounts/a/ai/run/${id}`, { method: "POST", body: "{}" }));
    const run = (id) => `/client/v4/accounts/a/ai/run/${id}`;
    assert.deepEqual(asked, [run("@cf/new/model"), "/v1/models/gpt-4o", run(MODEL)]);
    assert.match((await failing("--any-model", "--forward", "*")).error, /^error: --forward \* .* choose one/);
  });

  test("without it they do not exist", async (t) => {
    const other = await startServe("--port", "0");
    t.after(other.stop);
    const response = await fetch(`${other.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify({ ...CHAT, model: "gpt-4o" }) });
    assert.deepEqual([response.status, (await response.json()).errors[0].code], [400, 5007]);
  });
});

test("the name of a model file is shown without the query of its URL", () => {
  assert.equal(fileNameOf("https://h.example/a/m.gguf?X-Amz-Signature=secret#b"), "m.gguf");
  assert.equal(fileNameOf(path.join("a", "m?.gguf")), "m?.gguf");
});

describe("serve with options", () => {
  test("uses the given port, model file, model id and origins", async () => {
    const port = await freePort();
    const model = "@cf/own/model";
    const server = await startServe(
      ...["--port", String(port), "--gguf", MODEL_PATH, "--model", model],
      ...["--cors", "https://a.example", "--cors", "http://localhost:5173/"],
    );
    try {
      assert.equal(server.url, `http://127.0.0.1:${port}`);
      const body = JSON.stringify({ ...STORY, max_tokens: 1 });
      const ask = (origin) => fetch(`${server.url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", headers: { origin }, body });
      const preflight = (origin) =>
        fetch(`${server.url}/v1/chat/completions`, {
          method: "OPTIONS",
          headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "authorization,content-type" },
        });
      for (const origin of ["https://a.example", "http://localhost:5173"]) {
        const response = await ask(origin);
        assert.equal(response.status, 200);
        assert.equal(response.headers.get("access-control-allow-origin"), origin);
        const allowed = await preflight(origin);
        assert.ok(allowed.ok);
        assert.equal(allowed.headers.get("access-control-allow-origin"), origin);
        assert.match(allowed.headers.get("access-control-allow-methods"), /\bPOST\b/);
        assert.match(allowed.headers.get("access-control-allow-headers"), /authorization.*content-type/i);
      }
      for (const origin of ["https://b.example", "http://a.example", "https://a.example.org"]) {
        for (const response of [await ask(origin), await preflight(origin)]) {
          assert.equal(response.headers.get("access-control-allow-origin"), null, origin);
        }
      }
      assert.doesNotMatch(server.said, /^note:/m, "no note: the id has a model file");
    } finally {
      await server.stop();
    }
  });

  test("--strict refuses ids without a file of their own, and the engine's other options apply", async (t) => {
    const server = await startServe("--port", "0", "--strict", "--threads", "1", "--backend", "cpu");
    t.after(server.stop);
    const ask = async (model) => (await fetch(`${server.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify({ ...CHAT, model }) })).json();
    assert.equal((await ask("@cf/meta/llama-3.1-8b-instruct")).errors[0].code, 5007);
    assert.equal((await ask(MODEL)).choices.length, 1);
    const { code, error } = await failing("--port", "0", "--backend", "webgpu");
    assert.deepEqual([code, /^error: 5004: .* Use --backend cpu to compute on the CPU\.$/m.test(error)], [1, true]);
  });

  test("--gguf without --model answers for every id, and --cors * allows every origin", async () => {
    const server = await startServe("--port", "0", "--gguf", MODEL_PATH, "--cors", "*");
    try {
      const response = await fetch(`${server.url}/v1/models`, { headers: { origin: "https://a.example" } });
      assert.ok(["*", "https://a.example"].includes(response.headers.get("access-control-allow-origin")));
      const answer = await fetch(`${server.url}/v1/chat/completions`, { method: "POST", body: JSON.stringify({ ...CHAT, model: "@cf/meta/llama-3-8b-instruct" }) });
      assert.equal(answer.status, 200);
    } finally {
      await server.stop();
    }
  });

  test("--host 0.0.0.0 says who can use the server; --key asks for a bearer token, and answers under every name", async () => {
    const WARNING = /Every machine that reaches this address can use the server\. --key KEY asks for a bearer token\./;
    const asked = async (...args) => {
      const server = await startServe("--port", "0", ...args);
      const { port } = new URL(server.url);
      const status = async (headers) => {
        const sent = httpRequest({ port, host: "127.0.0.1", path: "/v1/models", headers }).end();
        const [response] = await once(sent, "response");
        response.resume();
        return response.statusCode;
      };
      const key = { authorization: "Bearer secret" };
      const seen = [await status({}), await status({ host: "dev.example" }), await status({ host: "dev.example", ...key }), await status({ host: "evil.example", ...key })];
      await server.stop();
      return { warned: WARNING.test(server.said), seen };
    };
    assert.deepEqual(await asked("--host", "0.0.0.0"), { warned: true, seen: [200, 200, 200, 200] });
    assert.deepEqual(await asked("--host", "0.0.0.0", "--key", "secret"), { warned: false, seen: [401, 401, 200, 200] });
    assert.deepEqual(await asked("--allow-host", "dev.example"), { warned: false, seen: [200, 200, 200, 403] });
  });

  for (const [args, says] of [
    [["now"], 'serve takes no argument "now"'],
    [["--loud"], "unknown option --loud"],
    [["--anymodel"], "unknown option --anymodel: did you mean --any-model?"],
    [["--any-model", "--strict"], "--strict refuses ids that --any-model answers: choose one"],
    [["--threads", "0"], '--threads takes a whole number from 1 to 64, not "0"'],
    [["--port"], "--port needs a value"],
    [["--port", "http"], '--port takes a number, not "http"'],
    [["--port", "70000"], '--port takes a number from 0 to 65535, not "70000"'],
    [["--port", "1.5"], '--port takes a number from 0 to 65535, not "1.5"'],
    [["--cors", "a.example"], '--cors takes an origin such as http://localhost:3000, or *, not "a.example"'],
    [["--cors", "https://a.example/page"], "--cors takes an origin"],
  ]) {
    test(`invalid arguments cause a one-line error and exit code 2: ${args.join(" ")}`, async () => {
      const { code, error } = await failing(...args);
      assert.equal(code, 2);
      isOneLine(error, says);
    });
  }

  test("a missing file or an unavailable address causes a one-line error and exit code 1", async () => {
    const file = await failing("--port", "0", "--gguf", "/no/such.gguf");
    assert.equal(file.code, 1);
    isOneLine(file.error, "3042: ");
    // An address reserved for documentation, which no machine has.
    const address = await failing("--port", "0", "--host", "192.0.2.1");
    assert.equal(address.code, 1);
    isOneLine(address.error, "cannot listen on port 0 of 192.0.2.1 (EADDRNOTAVAIL)");
  });
});

describe("a client of the server", () => {
  const ai = new Ai({ onWarning() {} });
  let url;
  let close;

  const listen = (served) => listening(createServer(served));

  before(async () => {
    await ai.load();
    ({ url, close } = await listen(ai));
  });
  after(() => close?.());

  const post = (input, init) => fetch(`${url}${RUN}`, { method: "POST", body: JSON.stringify(input), ...init });
  async function activity() {
    const { models } = await ai.stats();
    return { active: models[0].active, tokens: models[0].tokens };
  }
  async function isOver() {
    await eventually("no request is in progress", async () => (await activity()).active === 0);
    const before = await activity();
    await sleep(WHILE);
    assert.deepEqual(await activity(), before, "nothing is computed without a reader");
  }

  test("that disconnects in the middle of a stream stops the computation", async () => {
    const leave = new AbortController();
    const reader = (await post({ ...LONG, stream: true }, { signal: leave.signal })).body.getReader();
    await reader.read();
    assert.equal((await activity()).active, 1);
    leave.abort();
    await assert.rejects(reader.read());
    await isOver();
  });

  test("that disconnects while it waits for an object stops the computation", async () => {
    const { tokens } = await activity();
    const leave = new AbortController();
    const asked = post(LONG, { signal: leave.signal });
    asked.catch(() => {});
    await eventually("the answer is being computed", async () => (await activity()).tokens > tokens);
    leave.abort();
    await assert.rejects(asked, { name: "AbortError" });
    await isOver();
  });

  test("that disconnects while it sends its request leaves no request in progress", async () => {
    const sent = httpRequest(`${url}${RUN}`, { method: "POST", headers: { "content-length": 1000 } });
    const closed = new Promise((resolve) => sent.on("close", resolve));
    sent.on("error", () => {}).write('{"prompt":', () => sent.destroy());
    await closed;
    await isOver();
    assert.equal((await post({ ...STORY, max_tokens: 1 })).status, 200);
  });

  test("receives a stream while it is being computed", async () => {
    const { body } = await post({ ...LONG, stream: true });
    const reader = body.getReader();
    const { value } = await reader.read();
    assert.ok(eventsIn(value).length >= 1, "whole events");
    assert.equal((await activity()).active, 1, "the answer is not complete");
    await reader.cancel();
    await isOver();
  });

  // The model's answers are shorter than the operating system's socket buffers, so the following tests use synthetic streams.
  const over = (source) => listen({ fetch: async () => new Response(new ReadableStream(source, { highWaterMark: 0 }), { headers: { "content-type": "text/event-stream" } }) });

  test("receives the headers of a stream at once, before there are any bytes", async () => {
    const server = await over({});
    try {
      // Without the headers this would wait until the timeout.
      const response = await fetch(server.url + RUN, { method: "POST", body: "{}", signal: AbortSignal.timeout(5_000) });
      assert.equal(response.headers.get("content-type"), "text/event-stream");
      await response.body.cancel();
    } finally {
      server.close();
    }
  });

  test("that does not read makes the stream wait, and cancels it by disconnecting", async () => {
    let pulled = 0;
    let cancelled;
    const isCancelled = new Promise((resolve) => (cancelled = resolve));
    const server = await over({
      async pull(controller) {
        // Slow enough that a server without backpressure fails the test before it fills the memory.
        await sleep(2);
        pulled += 1;
        controller.enqueue(new Uint8Array(1 << 16));
      },
      cancel: cancelled,
    });
    try {
      const sent = httpRequest(server.url + RUN, { method: "POST" }).end("{}");
      sent.on("error", () => {});
      const [response] = await once(sent, "response");
      response.on("error", () => {}).pause();
      let before = -1;
      await eventually("the stream is paused", async () => {
        const same = pulled === before;
        before = pulled;
        await sleep(WHILE);
        return same;
      });
      assert.ok(pulled > 0);
      response.resume();
      await eventually("the stream continues when it is read", () => pulled > before);
      sent.destroy();
      await isCancelled;
    } finally {
      server.close();
    }
  });

  test("sees a failed stream as cut off, not as complete", async () => {
    let pulls = 0;
    const server = await over({
      pull(controller) {
        if ((pulls += 1) > 1) throw new Error("the engine failed");
        controller.enqueue(new TextEncoder().encode("data: {}\n\n"));
      },
    });
    try {
      const response = await fetch(server.url + RUN, { method: "POST", body: "{}" });
      assert.equal(response.status, 200);
      await assert.rejects(response.text());
    } finally {
      server.close();
    }
  });
});
