// A user's Worker that does `import { Ai } from "workers-ai-local"`, with a model in R2.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { MODEL, PARIS } from "../real-model.mjs";
import { readAnswer } from "../sse.mjs";
import { activity, eventually, startProbe } from "./worker.mjs";

let worker;
before(async () => {
  worker = await startProbe({ fixture: "library" });
});
after(() => worker?.stop());

test("the model in the bucket computes the answer", async () => {
  assert.equal((await worker.run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");
  const { models } = await worker.call("stats");
  assert.match(models[0].name, /^R2 object .*\.gguf$/);
});

test("answers can be streamed", async () => {
  const answer = await readAnswer((await worker.respond(MODEL, { ...PARIS, max_tokens: 3, stream: true })).body);
  assert.equal(answer.text, " Paris.\n");
});

test("the computations of disconnected clients end, also of more clients than the queue has places", async () => {
  for (let client = 0; client < 10; client += 1) {
    const leave = new AbortController();
    const response = await worker.respond(MODEL, { ...PARIS, max_tokens: 4000, stream: true }, {}, { signal: leave.signal });
    await response.body.getReader().read();
    leave.abort();
    await sleep(100);
  }
  await eventually("no request is in progress", async () => (await activity(worker)).active === 0);
});

test("a missing object in the bucket is error 3042, and the next request works", async () => {
  await assert.rejects(worker.run("@cf/own/missing", PARIS), (error) => {
    assert.equal(error.name, "AiError");
    assert.match(error.message, /^3042: The model file R2 object no-such-object was not found/);
    return true;
  });
  assert.equal((await worker.run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");
});

test("a script answers, without a model", async () => {
  const ask = (input) => fetch(`${worker.url}/scripted/run`, { method: "POST", body: JSON.stringify({ model: MODEL, input }) });
  assert.equal((await (await ask({ prompt: "Hi" })).json()).response, "Written before.");
  assert.deepEqual((await readAnswer((await ask({ prompt: "Hi", stream: true })).body)).pieces, ["Written", " before."]);
  const busy = await ask({ prompt: "busy" });
  assert.deepEqual([busy.status, (await busy.json()).message], [599, "3040: Capacity temporarily exceeded, please try again"]);
});
