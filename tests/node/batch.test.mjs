// Batches: queued together, computed in the background, asked for by their id.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { afterEach, describe, mock, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { Ai } from "workers-ai-local";
import { inProject } from "../../scripts/lib/project.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const MODEL = "@cf/meta/llama-3.1-8b-instruct";
const QUEUE = { queueRequest: true };

const execute = promisify(execFile);

const MINUTE = 60_000;

const scripted = (config = {}) => new Ai({ default: scriptedModel().bytes, onWarning() {}, ...config });
/** The same request, several times. */
const times = (count) => Array.from({ length: count }, () => ({ prompt: "Hi" }));

/** Asks until the batch is complete. */
async function complete(ask) {
  for (let count = 0; count < 600; count += 1) {
    const batch = await ask();
    if (batch.responses) return batch;
    assert.ok(["queued", "running"].includes(batch.status), batch.status);
    await sleep(20);
  }
  throw new Error("the batch does not end");
}

/** A script whose answers come when the test releases them; `begun` has those that were asked for. */
function held() {
  const begun = [];
  const script = [() => new Promise((resolve) => begun.push(() => resolve({ text: "late" })))];
  return { ai: new Ai({ script }), begun };
}

/** Waits until this many answers were asked for, and a little longer, in case there are more. */
async function settled(begun, count) {
  for (let tries = 0; begun.length < count && tries < 100; tries += 1) await sleep(10);
  await sleep(100);
  assert.equal(begun.length, count);
}

const post = (ai, query, body, headers = {}) => ai.fetch(`/client/v4/accounts/a/ai/run/${MODEL}${query}`, { method: "POST", body: JSON.stringify(body), headers });

describe("a batch", () => {
  afterEach(() => mock.timers.reset());

  test("is computed in the background, each request by itself", async () => {
    const ai = scripted();
    const requests = Array.from({ length: 9 }, (_, index) => ({ prompt: `Hi ${index}`, external_reference: `ref-${index}` }));
    requests[4] = { prompt: "Hi", temperature: 9 };
    requests[5] = { messages: [{ role: "user", content: "Hi" }], stream: true };
    const queued = await ai.run(MODEL, { requests }, QUEUE);
    assert.deepEqual(queued, { status: "queued", request_id: queued.request_id, model: MODEL });
    const { responses, usage } = await complete(() => ai.run(MODEL, { request_id: queued.request_id }));
    assert.deepEqual(responses.map(({ id }) => id), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert.deepEqual(responses.map(({ success }) => success), responses.map((_, index) => index !== 4));
    assert.match(responses[4].error, /^5006: .*temperature/);
    assert.equal(responses[5].result.response, "Hello there!", "an object, whatever it asked for");
    assert.deepEqual([responses[8].external_reference, responses[5].external_reference], ["ref-8", undefined]);
    assert.equal(usage.completion_tokens, 8 * responses[0].result.usage.completion_tokens);
    // It can be asked for again, by another Ai of this program too.
    assert.deepEqual((await scripted().run(MODEL, { request_id: queued.request_id })).responses, responses);
    assert.equal(ai.lastRequestHttpStatusCode, 200);
  });

  test("the shape of its answers is that of the id", async () => {
    const ai = scripted();
    const { request_id } = await ai.run("@cf/zai-org/glm-5.3", { requests: [{ messages: [{ role: "user", content: "Hi" }] }] }, QUEUE);
    const { responses } = await complete(() => ai.run("@cf/zai-org/glm-5.3", { request_id }));
    assert.equal(responses[0].result.choices[0].message.content, "Hello there!");
  });

  test("over REST", async () => {
    const ai = scripted();
    const post = async (query, body) => {
      const response = await ai.fetch(`/client/v4/accounts/a/ai/run/${MODEL}${query}`, { method: "POST", body: JSON.stringify(body) });
      return { status: response.status, ...(await response.json()) };
    };
    const queued = await post("?queueRequest=true", { requests: [{ prompt: "Hi" }] });
    assert.deepEqual([queued.status, queued.success, queued.result.status], [200, true, "queued"]);
    const { responses } = await complete(async () => (await post("?queueRequest=true", { request_id: queued.result.request_id })).result);
    assert.equal(responses[0].result.response, "Hello there!");
    const unqueued = await post("", { requests: [{ prompt: "Hi" }] });
    assert.deepEqual([unqueued.status, unqueued.errors[0].code], [400, 5006]);
    const unknown = await post("?queueRequest=true", { request_id: "none" });
    assert.deepEqual([unknown.status, unknown.success, unknown.errors[0].code], [404, false, 3042]);
    // The word alone makes no batch.
    assert.equal((await post("", { prompt: 'What does "requests": mean?' })).result.response, "Hello there!");
  });

  test("that cannot be queued is an error at once", async () => {
    const ai = scripted();
    const queue = (requests, model = MODEL, options = QUEUE) => ai.run(model, { requests }, options);
    await assert.rejects(queue([{ prompt: "Hi" }], MODEL, {}), { name: "AiError", message: /^5006: .*queueRequest/ });
    await assert.rejects(queue([]), { message: /^5006/ });
    await assert.rejects(queue(["Hi"]), { message: /^5006: .*\/requests\/0/ });
    await assert.rejects(queue([{ prompt: "Hi" }], "@cf/no/such-model"), { message: /^5007/ });
    await assert.rejects(queue([{ prompt: "x".repeat(10_000_001) }]), { message: /^3006/ });
    await assert.rejects(queue([{ prompt: "€".repeat(3_400_000) }]), { message: /^3006/ }, "bytes are counted, not characters");
    await assert.rejects(queue(Array.from({ length: 1001 }, () => ({ prompt: "Hi" }))), { message: /^5006/ });
    await assert.rejects(ai.run(MODEL, { request_id: "none" }), { message: /^3042: .*no batch none/ });
    const raw = await ai.run(MODEL, { request_id: "none" }, { returnRawResponse: true });
    assert.equal(raw.status, 404);
    assert.equal((await ai.run(MODEL, { prompt: "Hi" })).response, "Hello there!", "and harms nothing");
  });

  test("of a script: each answer is given once, and its own ids are known", async () => {
    const script = [
      { model: "@cf/own/model", text: "one", times: 1 },
      { text: "two", times: 1 },
    ];
    const ai = new Ai({ script });
    const texts = async (model) => {
      const { request_id } = await ai.run(model, { requests: [{ prompt: "Hi" }, { prompt: "Hi" }] }, QUEUE);
      return (await complete(() => ai.run(model, { request_id }))).responses.map(({ success, result }) => (success ? result.response : null));
    };
    assert.deepEqual(await texts(MODEL), ["two", null]);
    assert.deepEqual(await texts("@cf/own/model"), ["one", null]);
  });

  test("of a closed Ai ends with errors, not silence", async () => {
    const ai = new Ai({ script: [{ text: "slow", delay: 300 }] });
    const { request_id } = await ai.run(MODEL, { requests: Array.from({ length: 6 }, () => ({ prompt: "Hi" })) }, QUEUE);
    await ai.close();
    const { responses } = await complete(() => scripted().run(MODEL, { request_id }));
    assert.ok(responses.some(({ success, error }) => !success && error));
  });

  test("waits for places in a full queue", async () => {
    const ai = scripted({ queue: 1 });
    const { request_id } = await ai.run(MODEL, { requests: times(6) }, QUEUE);
    const { responses } = await complete(() => ai.run(MODEL, { request_id }));
    assert.deepEqual(responses.map(({ success, error }) => [success, error]), responses.map(() => [true, undefined]));
  });

  test("that waits keeps no process alive", async () => {
    const program = `
      import { Ai } from "workers-ai-local";
      const ai = new Ai({ default: { name: "never.gguf", open: () => new Promise(() => {}) }, queue: 1, onWarning() {} });
      await ai.run("${MODEL}", { requests: [{ prompt: "Hi" }, { prompt: "Hi" }] }, { queueRequest: true });
      console.log("queued");`;
    const { stdout } = await execute(process.execPath, ["--input-type=module", "--eval", program], { cwd: inProject(), timeout: 10_000 });
    assert.equal(stdout, "queued\n");
  });

  test("ends with the errors of its requests, also if memory runs out or the script is out of capacity", async () => {
    const message = "Out of memory: the context needs 5.0 MB more than is available.";
    const ai = new Ai({ script: [{ input: "memory", error: { code: 3040, status: 429, message } }, { error: 3040 }] });
    const { request_id } = await ai.run(MODEL, { requests: [{ prompt: "memory" }, { prompt: "Hi" }] }, QUEUE);
    const { responses } = await complete(() => ai.run(MODEL, { request_id }));
    assert.deepEqual(responses.map(({ error }) => error), [`3040: ${message}`, "3040: Capacity temporarily exceeded, please try again"]);
  });

  test("that takes long is computed once, however often it is asked for", async () => {
    const { ai, begun } = held();
    const { request_id } = await ai.run(MODEL, { requests: times(2) }, QUEUE);
    mock.timers.enable({ apis: ["Date"], now: Date.now() });
    for (let asked = 1; asked <= 3; asked += 1) {
      mock.timers.setTime(Date.now() + 61_000);
      assert.equal((await ai.run(MODEL, { request_id })).status, "queued");
    }
    await settled(begun, 2);
    for (const release of begun) release();
    const { responses } = await complete(() => ai.run(MODEL, { request_id }));
    assert.deepEqual(responses.map(({ result }) => result.response), ["late", "late"]);
  });

  test("whose timers have stopped is begun again, once, by who asks for it", async () => {
    // In workerd, they stop with the request that queued the batch.
    mock.timers.enable({ apis: ["Date", "setInterval"], now: Date.now() });
    const { ai, begun } = held();
    const { request_id } = await ai.run(MODEL, { requests: times(6) }, QUEUE);
    await settled(begun, 4);
    mock.timers.setTime(Date.now() + MINUTE);
    await Promise.all([1, 2, 3].map(() => ai.run(MODEL, { request_id })));
    await settled(begun, 4 + 4);
    // What the first run still gets is disregarded, and it begins nothing more.
    for (const release of begun.slice(0, 4)) release();
    await settled(begun, 8);
    assert.equal((await ai.run(MODEL, { request_id })).status, "queued");
    for (const release of begun.slice(4)) release();
    await settled(begun, 10);
    for (const release of begun.slice(8)) release();
    assert.equal((await complete(() => ai.run(MODEL, { request_id }))).responses.length, 6);
  });

  test("that does not end within a day is dropped, and gives its places back", async () => {
    const long = scriptedModel({ script: ["again"], next: { again: "again" }, context: 100_000 }).bytes;
    const ai = new Ai({ default: long, queue: 4, onWarning() {} });
    const requests = Array.from({ length: 6 }, () => ({ prompt: "Hi", max_tokens: 90_000 }));
    const { request_id } = await ai.run(MODEL, { requests }, QUEUE);
    const active = async () => (await ai.stats()).models[0]?.active;
    for (let tries = 0; (await active()) !== 4 && tries < 100; tries += 1) await sleep(20);
    assert.equal(await active(), 4);
    mock.timers.enable({ apis: ["Date"], now: Date.now() });
    mock.timers.setTime(Date.now() + 23 * 60 * MINUTE);
    assert.match((await ai.run(MODEL, { request_id })).status, /^(queued|running)$/);
    mock.timers.setTime(Date.now() + 2 * 60 * MINUTE);
    await assert.rejects(ai.run(MODEL, { request_id }), { message: /^3042: .*for a day/ });
    for (let tries = 0; (await active()) > 0 && tries < 100; tries += 1) await sleep(20);
    assert.equal(await active(), 0);
    await ai.close();
  });

  test("is asked for by an input that has nothing else: other inputs may have any further field", async () => {
    const ai = scripted();
    for (const input of [{ prompt: "Hi" }, { messages: [{ role: "user", content: "Hi" }] }]) {
      assert.equal((await ai.run(MODEL, { ...input, request_id: "trace-1" })).response, "Hello there!");
      const { result } = await (await post(ai, "", { ...input, request_id: "trace-1" })).json();
      assert.equal(result.response, "Hello there!");
    }
  });

  test("is a list", async () => {
    const ai = scripted();
    const mismatch = { message: "5006: Type mismatch of '/requests', 'array' not in 'string'" };
    await assert.rejects(ai.run(MODEL, { requests: "Hi" }), mismatch);
    await assert.rejects(ai.run("@cf/baai/bge-m3", { requests: "Hi" }), mismatch);
  });

  test("is what the query asks for: a queue for one request is an error", async () => {
    const response = await post(scripted(), "?queueRequest=true", { prompt: "Hi" });
    assert.equal(response.status, 400);
    const { errors } = await response.json();
    assert.deepEqual([errors[0].code, errors[0].message], [3003, "AiError: queueRequest is for batches: send {requests: [...]} as the input."]);
  });

  test("for an id without files is 5007 at once where such ids are refused", async () => {
    const ai = scripted({ strict: true, models: { "@cf/own/model": scriptedModel().bytes } });
    await assert.rejects(ai.run(MODEL, { requests: times(2) }, QUEUE), { message: /^5007: No such model/ });
    const texts = { requests: [{ text: "a" }] };
    await assert.rejects(ai.run("@cf/baai/bge-m3", texts, QUEUE), { message: /^5007: No such model @cf\/baai\/bge-m3/ });
    const { request_id } = await ai.run("@cf/own/model", { requests: times(2) }, QUEUE);
    const { responses } = await complete(() => ai.run("@cf/own/model", { request_id }));
    assert.deepEqual(responses.map(({ success }) => success), [true, true]);
    const script = new Ai({ strict: true, script: [{ text: "one", times: 1 }, { text: "two" }] });
    const queued = await script.run(MODEL, { requests: times(2) }, QUEUE);
    const answers = await complete(() => script.run(MODEL, { request_id: queued.request_id }));
    assert.deepEqual(answers.responses.map(({ result }) => result.response), ["one", "two"], "nothing asks the script but the requests");
  });

  test("over HTTP can be read by the pages that may read other responses", async () => {
    const origin = "https://a.example";
    const cors = async (setting, body, query) => {
      const { headers } = await post(scripted({ cors: setting }), query, body, { origin });
      return ["access-control-allow-origin", "access-control-expose-headers", "vary"].map((name) => headers.get(name));
    };
    for (const [setting, allowed] of [[undefined, null], [true, "*"], [[origin], origin], [["https://b.example"], null]]) {
      const ofPrompt = await cors(setting, { prompt: "Hi" }, "");
      assert.equal(ofPrompt[0], allowed);
      for (const query of ["?queueRequest=true", ""]) assert.deepEqual(await cors(setting, { requests: times(1) }, query), ofPrompt);
      assert.deepEqual(await cors(setting, { request_id: "none" }, ""), ofPrompt);
    }
  });

  test("over REST may have 10 MB, more than other bodies", async () => {
    const ai = scripted();
    const padded = (bytes) => ({ requests: [{ prompt: "Hi", padding: "x".repeat(bytes) }] });
    const queued = await (await post(ai, "?queueRequest=true", padded(9_000_000))).json();
    assert.equal(queued.result?.status, "queued");
    const { responses } = await complete(() => ai.run(MODEL, { request_id: queued.result.request_id }));
    assert.deepEqual(responses.map(({ success }) => success), [true]);
    const failure = async (query, body, headers) => {
      const { errors } = await (await post(ai, query, body, headers)).json();
      return `${errors[0].code}: ${errors[0].message}`;
    };
    assert.match(await failure("?queueRequest=true", padded(10_100_000)), /^3006: .*smaller batches/);
    const { request_id } = await ai.run(MODEL, padded(9_000_000), QUEUE);
    await complete(() => ai.run(MODEL, { request_id }));
    assert.match(await failure("", { prompt: "Hi", padding: "x".repeat(9_000_000) }), /^3006: .*8388608 bytes/);
    // Other requests stay below the limit of others, also where the length says in advance that it may be a batch.
    const stated = { "content-length": "9000041" };
    assert.match(await failure("", { prompt: "Hi", padding: "x".repeat(9_000_000) }, stated), /^3006: .*8388608 bytes/);
    const inBody = { ...padded(9_000_000), queueRequest: true };
    assert.equal((await (await post(ai, "", inBody, { "content-length": String(JSON.stringify(inBody).length) })).json()).result?.status, "queued");
  });
});
