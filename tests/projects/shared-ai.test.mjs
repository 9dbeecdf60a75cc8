// An `Ai` over the engine that processes share (pkg/dev/shared-ai.js): it behaves as one with an engine of its own.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ai, AiInternalError, InferenceUpstreamError } from "workers-ai-local";
import { withLocalAi } from "../../pkg/dev/miniflare.js";
import { sharedAi } from "../../pkg/dev/shared-ai.js";
import { readAnswer } from "../sse.mjs";
import { MODEL, SAYS, environment } from "./project.mjs";

const CHILD = fileURLToPath(new URL("engine-process.mjs", import.meta.url));
const OPTIONS = { onWarning() {} };
const HI = { prompt: "Hi" };

let folder;
let env;
const outside = { ...process.env };
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-shared-"));
  env = await environment(folder);
  for (const name of ["WORKERS_AI_LOCAL_MODEL", "WORKERS_AI_LOCAL_CACHE"]) process.env[name] = env[name];
});
after(async () => {
  for (const name of ["WORKERS_AI_LOCAL_MODEL", "WORKERS_AI_LOCAL_CACHE"]) {
    if (outside[name] === undefined) delete process.env[name];
    else process.env[name] = outside[name];
  }
  await rm(folder, { recursive: true, force: true });
});

describe("an Ai over a shared engine", () => {
  let ai;
  let own;
  before(async () => {
    ai = await sharedAi(OPTIONS);
    own = new Ai(OPTIONS);
  });
  after(() => Promise.all([ai.close(), own.close()]));

  test("answers with objects, streams and raw responses", async () => {
    assert.deepEqual(await ai.run(MODEL, HI), await own.run(MODEL, HI));
    assert.deepEqual((await readAnswer(await ai.run(MODEL, { ...HI, stream: true }))).pieces, (await readAnswer(await own.run(MODEL, { ...HI, stream: true }))).pieces);
    const raw = await ai.run(MODEL, HI, { returnRawResponse: true });
    assert.deepEqual([raw.status, raw.headers.get("content-type"), (await raw.json()).response], [200, "application/json", SAYS]);
    assert.equal(decodeURI(raw.headers.get("workers-ai-local-model")), env.WORKERS_AI_LOCAL_MODEL);
  });

  test("fails with the same errors", async () => {
    for (const [model, input] of [["@cf/no/such", HI], [MODEL, { prompt: "Hi", temperature: 9 }], [MODEL, { prompt: "Hi", max_tokens: 1e6 }]]) {
      const [here, there] = await Promise.all([ai, own].map((each) => each.run(model, input).catch((error) => error)));
      assert.ok(here instanceof InferenceUpstreamError, here.stack);
      assert.deepEqual([here.message, here.internalCode, here.httpCode, here.body], [there.message, there.internalCode, there.httpCode, there.body]);
    }
    const raw = await ai.run("@cf/no/such", HI, { returnRawResponse: true });
    assert.deepEqual([raw.status, (await raw.json()).internalCode], [400, 5007]);
  });

  test("has the other members", async () => {
    assert.deepEqual(await ai.models({ search: "llama" }), await own.models({ search: "llama" }));
    assert.deepEqual(await ai.tokenize(MODEL, HI), await own.tokenize(MODEL, HI));
    assert.deepEqual([(await ai.load(MODEL)).backend, ai.backend], ["cpu", "cpu"]);
    assert.equal((await ai.stats()).models.length, 1);
    await assert.rejects(ai.load("@cf/no/such"), InferenceUpstreamError);
    const response = await ai.fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify({ model: MODEL, messages: [{ role: "user", content: "Hi" }] }) });
    assert.equal((await response.json()).choices[0].message.content, SAYS);
    const tooLarge = await ai.fetch("/v1/chat/completions", { method: "POST", body: new Uint8Array(9 << 20) });
    assert.deepEqual([tooLarge.status, (await tooLarge.json()).error.code], [413, 3006]);
  });

  test("stops when its signal fires", async () => {
    const before = AbortSignal.abort();
    await assert.rejects(ai.run(MODEL, HI, { signal: before }), { name: "AbortError" });
    const controller = new AbortController();
    const stream = await ai.run(MODEL, { ...HI, stream: true }, { signal: controller.signal });
    controller.abort();
    await assert.rejects(new Response(stream).text(), { name: "AbortError" });
  });
});

test("the engine may be in another process, until that ends", async () => {
  const child = fork(CHILD, ["{}"], { env: { ...process.env, ...env }, stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] });
  await once(child, "message");
  child.send("load");
  assert.deepEqual((await once(child, "message"))[0], child.pid);
  const ai = await sharedAi(OPTIONS);
  assert.equal((await ai.run(MODEL, HI)).response, SAYS);
  assert.ok((await ai.stats()).models[0].tokens > 0);
  const entries = path.join(folder, "cache", "engines");
  const [file] = await readdir(entries);
  assert.equal(JSON.parse(await readFile(path.join(entries, file), "utf8")).pid, child.pid);
  const ended = once(child, "exit");
  child.disconnect();
  await ended;
  assert.equal((await ai.run(MODEL, HI)).response, SAYS);
  await ai.close();
});

test("two of a process share it, and each ends on its own", async () => {
  const [one, two] = [await sharedAi(OPTIONS), await sharedAi(OPTIONS)];
  await one.run(MODEL, HI);
  await one.close();
  await one.close();
  await assert.rejects(one.run(MODEL, HI), AiInternalError);
  assert.equal((await two.run(MODEL, HI)).response, SAYS);
  await two.close();
  assert.deepEqual(await readdir(path.join(folder, "cache", "engines")), []);
});

test("the server of an engine is there as long as anybody in the process uses it", async () => {
  const options = await withLocalAi({}, OPTIONS);
  const ai = await sharedAi(OPTIONS);
  await ai.close();
  const { link } = options.unsafeBindings[0].options;
  const headers = { "workers-ai-local-key": link.key, "cf-consn-model-id": MODEL };
  const response = await fetch(`http://${link.address}/run?version=3`, { method: "POST", headers, body: JSON.stringify({ inputs: HI }) });
  assert.equal((await response.json()).response, SAYS);
});

test("options that are wrong are refused at once", async () => {
  for (const options of [{ threads: 128 }, { build: "nope" }, { models: { a: 3 } }, { script: [{ txt: 1 }] }]) {
    await assert.rejects(sharedAi({ ...OPTIONS, ...options }), AiInternalError);
    await assert.rejects(sharedAi({ ...OPTIONS, ...options }), AiInternalError);
  }
});

test("a script with functions is one of this process", async () => {
  const ai = await sharedAi({ script: [(model, { prompt }) => ({ text: `${prompt}!` })] });
  assert.equal((await ai.run(MODEL, HI)).response, "Hi!");
  await ai.close();
});
