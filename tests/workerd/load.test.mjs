// Loading the model in workerd, where a request's connections and timers end with the request: a client that disconnects during the load
// must not delay other requests.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { startModelServer } from "../model-server.mjs";
import { MODEL, PARIS } from "../real-model.mjs";
import { startProbe } from "./worker.mjs";

const INPUT = { ...PARIS, max_tokens: 1 };

let server;
let worker;
before(async () => {
  server = await startModelServer({ slowness: 4_000 });
});
// Each test starts a new Worker, whose model is not loaded yet.
beforeEach(async () => {
  server.requests.length = 0;
  worker = await startProbe({ fixture: "slow", vars: { DEFAULT_MODEL: `${server.url}/slow.gguf` } });
});
afterEach(() => worker?.stop());
after(() => server.close());

/** Sends a request and disconnects after `after` milliseconds, during the load. */
async function askAndLeave(after = 1_000) {
  const asked = worker.respond(MODEL, INPUT, {}, { signal: AbortSignal.timeout(after) });
  await assert.rejects(asked, { name: "TimeoutError" });
}

test("a client that disconnects during the load does not delay a request that is already waiting", async () => {
  const leaving = askAndLeave();
  await sleep(500);
  const second = worker.run(MODEL, INPUT);
  await leaving;
  assert.equal((await second).response, " Paris");
});

test("a client that disconnects during the load does not delay a later request", async () => {
  await askAndLeave();
  assert.equal((await worker.run(MODEL, INPUT)).response, " Paris");
  assert.equal(server.requests.length, 1, "the load was continued, not restarted");
});

test("simultaneous requests wait for one load", async () => {
  const answers = await Promise.all([1, 2, 3, 4].map(() => worker.run(MODEL, INPUT)));
  for (const { response } of answers) assert.equal(response, " Paris");
  assert.equal(server.requests.length, 1);
});
