// The documentation's samples, unmodified, in `wrangler dev` as `npm start` starts it.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { EXAMPLE_CONFIGS } from "../../scripts/dev-worker.mjs";
import { eventsIn } from "../sse.mjs";
import { activity, eventually, startProbe } from "./worker.mjs";

let worker;
before(async () => {
  worker = await startProbe({ fixture: "probe", configs: EXAMPLE_CONFIGS });
});
after(() => worker?.stop());

describe("the streaming sample", () => {
  test("streams events, and the computation ends when the client disconnects", async () => {
    const leave = new AbortController();
    const response = await fetch(`${worker.url}/`, { signal: leave.signal });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    const reader = response.body.getReader();
    const chunks = [];
    for (let events = 0; events < 5; events = eventsIn(...chunks).length) chunks.push((await reader.read()).value);
    const pieces = eventsIn(...chunks).map((event) => JSON.parse(event));
    assert.ok(pieces.every(({ response, usage }) => typeof response === "string" && response !== "" && !usage), "the text arrives in several pieces");
    assert.equal((await activity(worker)).active, 1);

    leave.abort();
    await eventually("no request is in progress", async () => (await activity(worker)).active === 0);
    const { tokens } = await activity(worker);
    await sleep(1000);
    assert.deepEqual(await activity(worker), { active: 0, tokens }, "nothing is computed without a client");
    // The sample's default limit is 1,800 tokens.
    assert.ok(tokens < 1000);
  });
});

describe("the sample with one object", () => {
  test("returns the answer and its usage", async () => {
    const response = await fetch(`${worker.url}/object`);
    assert.equal(response.status, 200);
    const answer = await response.json();
    assert.deepEqual(Object.keys(answer).toSorted(), ["finish_reason", "response", "usage"]);
    assert.ok(answer.response.length > 0);
    assert.ok(["stop", "length"].includes(answer.finish_reason));
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.equal(total_tokens, prompt_tokens + completion_tokens);
    assert.ok(completion_tokens > 0 && completion_tokens <= 256);
  });
});

describe("the browser snippet", () => {
  test("is served in a page", async () => {
    const response = await fetch(`${worker.url}/snippet`);
    assert.equal(response.status, 200);
    assert.match(response.headers.get("content-type"), /^text\/html/);
    assert.ok((await response.text()).includes('const source = new EventSource("/");'));
  });
});
