// The model's load in workerd, where a request's connections and timers end with the request: whoever leaves while it
// loads holds nobody up.

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
// A fresh one each time: its model is not loaded.
beforeEach(async () => {
  server.requests.length = 0;
  worker = await startProbe({ fixture: "slow", vars: { DEFAULT_MODEL: `${server.url}/slow.gguf` } });
});
afterEach(() => worker?.stop());
after(() => server.close());

/** Asks, and leaves after a while, in the middle of the load. */
async function askAndLeave(after = 1_000) {
  const asked = worker.respond(MODEL, INPUT, {}, { signal: AbortSignal.timeout(after) });
  await assert.rejects(asked, { name: "TimeoutError" });
}

test("a client that leaves during the load does not hold up the one that came second", async () => {
  const leaving = askAndLeave();
  await sleep(500);
  const second = worker.run(MODEL, INPUT);
  await leaving;
  assert.equal((await second).response, " Paris");
});

test("nor the one that comes after it left", async () => {
  await askAndLeave();
  assert.equal((await worker.run(MODEL, INPUT)).response, " Paris");
  assert.equal(server.requests.length, 1, "the load went on meanwhile, it was not begun again");
});

test("many that come at once wait for one load", async () => {
  const answers = await Promise.all([1, 2, 3, 4].map(() => worker.run(MODEL, INPUT)));
  for (const { response } of answers) assert.equal(response, " Paris");
  assert.equal(server.requests.length, 1);
});
