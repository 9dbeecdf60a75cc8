// Batches: queued together, computed in the background, asked for by their id.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { Ai } from "workers-ai-local";
import { scriptedModel } from "../scripted-model.mjs";

const MODEL = "@cf/meta/llama-3.1-8b-instruct";
const QUEUE = { queueRequest: true };

const scripted = () => new Ai({ default: scriptedModel().bytes, onWarning() {} });

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

describe("a batch", () => {
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
});
