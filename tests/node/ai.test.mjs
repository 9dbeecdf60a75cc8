// The `Ai` class in Node: object answers, sampling, stop strings, the instance's properties, raw responses, model ids and features that
// are not available locally.

import assert from "node:assert/strict";
import { before, describe, test } from "node:test";
import { Ai, AiInternalError, DEFAULT_MODEL, InferenceUpstreamError } from "workers-ai-local";
import { MODEL, PARIS, chatTurn } from "../real-model.mjs";
import { readAnswer } from "../sse.mjs";

const OWN_PROPERTIES = ["lastRequestId", "aiGatewayLogId", "lastRequestHttpStatusCode", "lastRequestInternalStatusCode"];
/** A model of the catalogue that has no local weights: the default model answers for it. */
const STOOD_IN = "@cf/meta/llama-3.1-8b-instruct";

const ai = new Ai({ onWarning() {} });
const run = (input, options) => ai.run(MODEL, input, options);
const textOf = async (input) => (await run(input)).response;
const ownProperties = (object) => OWN_PROPERTIES.map((name) => object[name]);

before(() => ai.load());

describe("an answer in one object", () => {
  test("has the text, the exact usage and the finish reason", async () => {
    const fresh = await run({ ...PARIS, max_tokens: 6 });
    assert.match(fresh.response, /^ Paris/, "the answer comes from a real model");
    assert.deepEqual(fresh, {
      response: fresh.response,
      usage: { prompt_tokens: 5, completion_tokens: 6, total_tokens: 11, prompt_tokens_details: { cached_tokens: 0 } },
      finish_reason: "length",
    });
  });

  test("reports the cached prompt tokens: all but the last one when the prompt is the same", async () => {
    await run({ ...PARIS, max_tokens: 1 });
    const { usage } = await run({ ...PARIS, max_tokens: 2 });
    assert.deepEqual(usage, { prompt_tokens: 5, completion_tokens: 2, total_tokens: 7, prompt_tokens_details: { cached_tokens: 4 } });
  });

  test("has the finish reason `stop` when the model ends its turn", async () => {
    const { response, usage, finish_reason } = await run({ prompt: `${chatTurn("Say OK.")}OK`, raw: true, temperature: 0, max_tokens: 12 });
    assert.equal(finish_reason, "stop");
    assert.ok(usage.completion_tokens < 12);
    assert.doesNotMatch(response, /<\|/, "the end-of-turn token is not part of the text");
  });

  for (const max_tokens of [0, 1, 3]) {
    test(`has at most max_tokens tokens (${max_tokens})`, async () => {
      const { response, usage, finish_reason } = await run({ ...PARIS, max_tokens });
      assert.deepEqual([usage.completion_tokens, finish_reason], [max_tokens, "length"]);
      assert.equal(response === "", max_tokens === 0);
    });
  }

  test("accepts max_completion_tokens, OpenAI's name for the limit", async () => {
    assert.equal((await run({ ...PARIS, max_completion_tokens: 2 })).usage.completion_tokens, 2);
  });
});

describe("prompts", () => {
  const question = "Is water wet?";
  const short = { temperature: 0, max_tokens: 4 };

  test("a prompt that is not raw becomes a user turn", async () => {
    const unscoped = await run({ prompt: question, ...short });
    const messages = await run({ messages: [{ role: "user", content: question }], ...short });
    assert.equal(unscoped.response, messages.response);
    assert.equal(unscoped.usage.prompt_tokens, messages.usage.prompt_tokens);
  });

  test("a raw prompt reaches the model unchanged", async () => {
    const raw = await run({ prompt: question, raw: true, ...short });
    const unscoped = await run({ prompt: question, ...short });
    assert.ok(raw.usage.prompt_tokens < unscoped.usage.prompt_tokens, "the chat template was not applied");
    const inTurns = `<|im_start|>system\nBe brief.<|im_end|>\n${chatTurn(question)}`;
    const written = await run({ prompt: inTurns, raw: true, ...short });
    const messages = await run({ messages: [{ role: "system", content: "Be brief." }, { role: "user", content: question }], ...short });
    assert.equal(written.response, messages.response, "a raw prompt with the template's text gets the same answer");
    assert.equal(written.usage.prompt_tokens, messages.usage.prompt_tokens);
  });

  test("content may be a list of text parts", async () => {
    const parts = [{ type: "text", text: "Is water" }, { type: "text", text: " wet?" }];
    const inParts = await run({ messages: [{ role: "user", content: parts }], ...short });
    const whole = await run({ messages: [{ role: "user", content: question }], ...short });
    assert.equal(inParts.response, whole.response);
    assert.equal(inParts.usage.prompt_tokens, whole.usage.prompt_tokens);
  });

  test("input that JSON omits is ignored: undefined, null, functions", async () => {
    const dressed = { ...PARIS, max_tokens: 3, tools: undefined, seed: null, messages: undefined, onDone() {}, unknown_key: 1 };
    assert.equal(await textOf(dressed), await textOf({ ...PARIS, max_tokens: 3 }));
  });
});

describe("sampling", () => {
  const start = { prompt: "Once upon a time", raw: true, max_tokens: 8 };
  const drawn = { ...start, temperature: 1 };
  const repetitive = { prompt: "one two one two one two one two", raw: true, temperature: 0, max_tokens: 8 };

  test("temperature 0 is greedy: the text is always the same, whatever the seed", async () => {
    const greedy = await textOf({ ...start, temperature: 0 });
    assert.equal(await textOf({ ...start, temperature: 0 }), greedy);
    assert.equal(await textOf({ ...start, temperature: 0, seed: 99 }), greedy);
  });

  test("the same seed produces the same text, another seed a different one", async () => {
    const first = await textOf({ ...drawn, seed: 1 });
    assert.equal(await textOf({ ...drawn, seed: 1 }), first);
    assert.notEqual(await textOf({ ...drawn, seed: 2 }), first);
    assert.notEqual(await textOf({ ...drawn, seed: 9_999_999_999 }), first);
  });

  test("without a seed, each run samples differently", async () => {
    assert.notEqual(await textOf({ ...start, temperature: 5 }), await textOf({ ...start, temperature: 5 }));
  });

  test("the temperature changes the sampled text", async () => {
    assert.notEqual(await textOf({ ...start, temperature: 4, seed: 1 }), await textOf({ ...start, temperature: 0.5, seed: 1 }));
  });

  test("top_k 1 and a tiny top_p leave only the greedy token", async () => {
    const greedy = await textOf({ ...start, temperature: 0 });
    assert.equal(await textOf({ ...start, temperature: 5, seed: 1, top_k: 1 }), greedy);
    assert.equal(await textOf({ ...start, temperature: 2, seed: 1, top_p: 0.0001 }), greedy);
  });

  test("top_k and top_p limit the candidates", async () => {
    const hot = { ...start, temperature: 5, seed: 3 };
    const uncut = await textOf(hot);
    assert.notEqual(await textOf({ ...hot, top_k: 2 }), uncut);
    assert.notEqual(await textOf({ ...hot, top_p: 0.05 }), uncut);
    assert.equal(await textOf({ ...hot, top_p: 1.5 }), uncut, "top_p above 1 has no effect");
  });

  test("each penalty changes a repetitive greedy text", async () => {
    const greedy = await textOf(repetitive);
    for (const penalty of ["repetition_penalty", "frequency_penalty", "presence_penalty"]) {
      assert.notEqual(await textOf({ ...repetitive, [penalty]: 2 }), greedy, penalty);
    }
  });

  test("penalties of 0 have no effect, and additive ones may be negative", async () => {
    const greedy = await textOf(repetitive);
    assert.equal(await textOf({ ...repetitive, repetition_penalty: 0, frequency_penalty: 0, presence_penalty: 0 }), greedy);
    const words = (text) => new Set(text.trim().split(/[ -]/)).size;
    assert.ok(words(await textOf({ ...repetitive, frequency_penalty: -2 })) <= words(greedy), "a negative penalty rewards repetition");
  });
});

describe("stop strings", () => {
  const counting = { prompt: `${chatTurn("Count to ten.")}1, 2, 3, 4,`, raw: true, temperature: 0, max_tokens: 16 };

  test("the answer ends before the first one that occurs", async () => {
    const whole = await textOf(counting);
    assert.match(whole, / 7,/, "precondition: the model continues to count");
    const { response, finish_reason, usage } = await run({ ...counting, stop: "7" });
    assert.equal(response, whole.slice(0, whole.indexOf("7")));
    assert.equal(finish_reason, "stop");
    assert.ok(usage.completion_tokens < 16, "no tokens are computed after the stop string");
    assert.equal(await textOf({ ...counting, stop: ["never", "6", "7"] }), whole.slice(0, whole.indexOf("6")));
  });

  test("a stop string may span several tokens", async () => {
    const whole = await textOf(counting);
    assert.equal(await textOf({ ...counting, stop: "6, 7" }), whole.slice(0, whole.indexOf("6, 7")));
  });

  test("a stream contains no part of a stop string, and one that does not occur changes nothing", async () => {
    const whole = await textOf(counting);
    const stopped = await readAnswer(await run({ ...counting, stop: ["6, 7"], stream: true }));
    assert.equal(stopped.text, whole.slice(0, whole.indexOf("6, 7")));
    assert.equal(stopped.finish_reason, "stop");
    const unstopped = await readAnswer(await run({ ...counting, stop: ["6, 8", ""], stream: true }));
    assert.equal(unstopped.text, whole);
    assert.equal(unstopped.finish_reason, "length");
  });
});

describe("properties of the instance", () => {
  const unused = () => new Ai();

  test("there are four, initially null", () => {
    const fresh = unused();
    assert.deepEqual(Object.keys(fresh), OWN_PROPERTIES);
    assert.deepEqual(ownProperties(fresh), [null, null, null, null]);
  });

  test("after success: a unique request id, and status 200", async () => {
    const running = run({ ...PARIS, max_tokens: 1 });
    assert.equal(ai.lastRequestId, "", "empty while the request runs");
    await running;
    const first = ai.lastRequestId;
    assert.match(first, /^[\w-]{8,}$/);
    assert.equal(ai.lastRequestHttpStatusCode, 200);
    await run({ ...PARIS, max_tokens: 1 });
    assert.notEqual(ai.lastRequestId, first);
    assert.equal(ai.aiGatewayLogId, null);
  });

  test("after a failure: the request id and both codes", async () => {
    const fresh = unused();
    await assert.rejects(fresh.run("@cf/x/y", { prompt: "a" }));
    assert.match(fresh.lastRequestId, /^[\w-]{8,}$/);
    assert.deepEqual([fresh.lastRequestHttpStatusCode, fresh.lastRequestInternalStatusCode], [400, 5007]);
  });

  test("are not shared between instances", async () => {
    const other = unused();
    await run({ ...PARIS, max_tokens: 1 });
    assert.deepEqual(ownProperties(other), [null, null, null, null]);
  });
});

describe("returnRawResponse", () => {
  test("of an object: JSON, with a content type without charset", async () => {
    const response = await run({ ...PARIS, max_tokens: 2 }, { returnRawResponse: true });
    assert.ok(response instanceof Response);
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.equal(response.headers.get("cf-ai-req-id"), ai.lastRequestId);
    const { response: text } = await response.json();
    assert.equal(text, await textOf({ ...PARIS, max_tokens: 2 }));
  });

  test("of a stream: server-sent events", async () => {
    const response = await run({ ...PARIS, max_tokens: 2, stream: true }, { returnRawResponse: true });
    assert.equal(response.status, 200);
    assert.equal(response.headers.get("content-type"), "text/event-stream");
    assert.equal(response.headers.get("cf-ai-req-id"), ai.lastRequestId);
    assert.equal((await readAnswer(response.body)).usage.completion_tokens, 2);
  });

  test("names the model file that was used, in a header", async () => {
    const response = await ai.run(STOOD_IN, { ...PARIS, max_tokens: 1 }, { returnRawResponse: true });
    assert.match(decodeURI(response.headers.get("workers-ai-local-model")), new RegExp(`${DEFAULT_MODEL.file}$`));
  });

  test("of an error: a response with the binding's error body, not an exception", async () => {
    const response = await ai.run("@cf/x/y", { prompt: "a" }, { returnRawResponse: true });
    assert.equal(response.status, 400);
    assert.equal(response.headers.get("content-type"), "application/json");
    assert.equal(response.headers.get("cf-ai-req-id"), ai.lastRequestId);
    const description = "No such model @cf/x/y or task";
    assert.deepEqual(await response.json(), { name: "AiError", internalCode: 5007, httpCode: 400, message: `AiError: ${description}`, description });
  });
});

describe("model ids", () => {
  const codeOf = (promise) => promise.then(() => assert.fail("no error"), (error) => error.message);

  test("an unknown id is 5007", async () => {
    await assert.rejects(ai.run("@cf/x/y", { prompt: "a" }), (error) => {
      assert.ok(error instanceof InferenceUpstreamError && error instanceof Error);
      assert.equal(error.name, "AiError");
      assert.equal(error.message, "5007: No such model @cf/x/y or task");
      return true;
    });
    assert.equal(await codeOf(ai.run("@cf/x/y", {})), "5007: No such model @cf/x/y or task", "5007 takes precedence over 5006");
  });

  test("an id without local weights is served by the default model, with one warning per id", async () => {
    const warnings = [];
    const warned = new Ai({ onWarning: (text) => warnings.push(text) });
    const input = { ...PARIS, max_tokens: 1 };
    await warned.run(MODEL, input);
    assert.deepEqual(warnings, [], "the default model's own id causes no warning");
    const { response } = await warned.run(STOOD_IN, input);
    assert.equal(response, await textOf(input));
    await warned.run(STOOD_IN, input);
    await warned.run("@cf/meta/llama-2-7b-chat-int8", input);
    await warned.run("@cf/meta/llama-2-7b-chat-int8", input);
    assert.equal(warnings.length, 2);
    assert.ok(warnings[0].includes(STOOD_IN) && warnings[0].includes(DEFAULT_MODEL.file), warnings[0]);
  });

  test("without onWarning, the warning goes to the console", async (t) => {
    const warn = t.mock.method(console, "warn", () => {});
    const plain = new Ai({ default: new Uint8Array() });
    for (let i = 0; i < 2; i += 1) await assert.rejects(plain.run(STOOD_IN, { prompt: "a" }));
    assert.equal(warn.mock.callCount(), 1);
    assert.match(warn.mock.calls[0].arguments[0], /^workers-ai-local: @cf\/meta\/llama-3\.1-8b-instruct has no local weights/);
  });

  test("strict rejects an id without local weights", async () => {
    const strict = new Ai({ strict: true, models: { "@cf/own/empty": new Uint8Array() } });
    assert.equal(await codeOf(strict.run(STOOD_IN, { prompt: "a" })), `5007: No such model ${STOOD_IN} or task`);
    assert.match(await codeOf(strict.run("@cf/own/empty", { prompt: "a" })), /^5004: /, "the configured file is read");
  });
});

describe("models()", () => {
  // Those for embeddings have tests of their own.
  const task = "Text Generation";
  const names = async (params) => (await ai.models({ task, ...params })).map(({ name }) => name);
  const DOCUMENTED = [
    "@cf/meta/llama-2-7b-chat-fp16",
    "@cf/meta/llama-2-7b-chat-int8",
    "@cf/mistral/mistral-7b-instruct-v0.1",
    "@hf/codellama/codellama-7b-hf",
    "@cf/meta/llama-3-8b-instruct",
    "@cf/meta/llama-3.1-8b-instruct",
    "@cf/meta/llama-3.1-70b-instruct",
  ];

  test("returns an array with the documented models, the newer ones and the default model", async () => {
    const listed = await names();
    for (const id of [...DOCUMENTED, "@cf/meta/llama-3.3-70b-instruct-fp8-fast", "@cf/zai-org/glm-5.3", MODEL]) assert.ok(listed.includes(id), id);
  });

  test("describes each as the models API does", async () => {
    const listings = await ai.models({ task });
    assert.equal(new Set(listings.map(({ id }) => id)).size, listings.length, "ids are unique");
    for (const { id, source, description, task, tags, properties } of listings) {
      assert.match(id, /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/);
      assert.ok([1, 2].includes(source) && typeof description === "string" && Array.isArray(tags) && Array.isArray(properties));
      assert.deepEqual([task.id, task.name], ["c329a1f9-323d-4e91-b2aa-582dd4188d34", "Text Generation"]);
    }
    const int8 = listings.find(({ name }) => name === "@cf/meta/llama-2-7b-chat-int8");
    assert.deepEqual(int8.properties, [
      { property_id: "context_window", value: "2048" },
      { property_id: "planned_deprecation_date", value: "2026-05-30" },
    ]);
  });

  test("filters and pages", async () => {
    const of = async (filter) => (await names()).filter(filter);
    assert.deepEqual(await names({ author: "mistral" }), await of((id) => id.split("/")[1] === "mistral"));
    assert.deepEqual(await names({ search: "70b" }), ["@cf/meta/llama-3.1-70b-instruct", "@cf/meta/llama-3.3-70b-instruct-fp8-fast"]);
    assert.deepEqual(await names({ source: 2 }), await of((id) => id.startsWith("@hf/")));
    assert.deepEqual(await names({ task: "Text Generation" }), await names());
    assert.deepEqual(await names({ task: "Image Classification" }), []);
    const stable = await names({ hide_experimental: true });
    assert.ok(stable.includes("@cf/zai-org/glm-5.3") && !stable.includes("@cf/microsoft/phi-2"));
    const all = await names();
    assert.deepEqual(await names({ page: 1, per_page: 3 }), all.slice(0, 3));
    assert.deepEqual(await names({ page: 2, per_page: 3 }), all.slice(3, 6));
    assert.deepEqual(await names({ page: 99, per_page: 3 }), []);
  });
});

describe("features that are not available locally", () => {
  const internal = (word) => (error) => {
    assert.ok(error instanceof AiInternalError && error instanceof Error);
    assert.equal(error.name, "AiInternalError");
    assert.match(error.message, word);
    return true;
  };

  const members = { gateway: /Gateway/, autorag: /AutoRAG/, aiSearch: /AI Search/, toMarkdown: /Markdown/, websearch: /Web search/ };
  for (const [member, word] of Object.entries(members)) {
    test(`${member}() rejects with AiInternalError`, async () => {
      assert.equal(typeof ai[member], "function");
      await assert.rejects(async () => ai[member]("id"), internal(word));
    });
  }

  test("options that need such a feature reject with AiInternalError, others are ignored", async () => {
    await assert.rejects(run(PARIS, { websocket: true }), internal(/websocket/i));
    await assert.rejects(run(PARIS, { queueRequest: true }), internal(/queueRequest/));
    const ignored = { gateway: { id: "x" }, tags: ["a"], prefix: "p", rejectIfBusy: true, sessionOptions: {}, "x-session-affinity": "s", extraHeaders: { a: "b" }, later: 1 };
    assert.equal((await run({ ...PARIS, max_tokens: 1 }, ignored)).usage.completion_tokens, 1);
    assert.equal((await run({ ...PARIS, max_tokens: 1 }, null)).usage.completion_tokens, 1);
  });

  test("getLogs() returns an empty array", () => assert.deepEqual(ai.getLogs(), []));
});
