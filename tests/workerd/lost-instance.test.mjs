// A request that breaks the engine in workerd: a stream of another model goes on, to the same text.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, test } from "node:test";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { listening } from "../../scripts/lib/ports.mjs";
import { FAILURES, WORDS } from "../lost-instance.mjs";
import { MODEL } from "../real-model.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const FILES = { "/counting.gguf": scriptedModel({ script: WORDS }).bytes, "/other.gguf": scriptedModel().bytes };

let server;
let worker;
before(async () => {
  server = await listening(createServer((request, response) => response.end(FILES[request.url])));
  const vars = { COUNTING: `${server.url}/counting.gguf`, OTHER: `${server.url}/other.gguf`, MODEL };
  worker = await startDevWorker({ quiet: true, vars, configs: ["tests/workerd/fixtures/breaking/wrangler.toml"] });
});
after(async () => {
  await worker?.stop();
  await server?.close();
});

for (const how of Object.keys(FAILURES)) {
  test(`while a stream is read, another request breaks the instance by ${how}`, async () => {
    const { text, error, later, replaced } = await (await fetch(`${worker.url}/?how=${how}`)).json();
    assert.match(error, FAILURES[how].says);
    assert.deepEqual([text, later, replaced], [WORDS.join(""), "Hello there!", FAILURES[how].replaced]);
  });
}
