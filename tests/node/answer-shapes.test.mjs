// The shape of an answer belongs to the model: the binding's own, or OpenAI's. And what only OpenAI's has room for: choices, log probabilities.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { USER_DEFINED, scriptedModel } from "../scripted-model.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { readValues } from "../sse.mjs";

const OLDER = "@cf/meta/llama-3.1-8b-instruct";
const CHAT = "@cf/zai-org/glm-5.3";
const CHAT_OR_TEXT = "@cf/qwen/qwen3-30b-a3b-fp8";

const scripted = (options) => new Ai({ default: scriptedModel(options).bytes, onWarning() {} });
const messages = [{ role: "user", content: "Hi" }];

describe("shapes", () => {
  const ai = scripted();

  test("of the older ids", async () => {
    const answer = await ai.run(OLDER, { messages });
    assert.deepEqual(Object.keys(answer), ["response", "usage", "finish_reason"]);
  });

  test("of the newer ids: a chat completion, object and stream", async () => {
    const { id, created, ...answer } = await ai.run(CHAT, { messages });
    assert.match(id, /^chatcmpl-/);
    assert.ok(Math.abs(created - Date.now() / 1000) < 100);
    assert.deepEqual(answer, {
      object: "chat.completion",
      model: CHAT,
      choices: [
        { index: 0, message: { role: "assistant", content: "Hello there!", refusal: null }, logprobs: null, finish_reason: "stop" },
      ],
      usage: answer.usage,
    });
    const events = await readValues(await ai.run(CHAT, { messages, stream: true }));
    assert.equal(events.map(({ choices }) => choices[0]?.delta.content ?? "").join(""), "Hello there!");
    assert.equal(events[0].choices[0].delta.role, "assistant");
    assert.equal(events.at(-2).choices[0].finish_reason, "stop");
    assert.deepEqual(events.at(-1).choices, []);
    assert.equal(events.at(-1).usage.completion_tokens, answer.usage.completion_tokens);
  });

  test("of ids that answer a prompt with a text completion", async () => {
    const answer = await ai.run(CHAT_OR_TEXT, { prompt: "Hi" });
    assert.deepEqual([answer.object, answer.choices[0].text, answer.choices[0].finish_reason], ["text_completion", "Hello there!", "stop"]);
    const events = await readValues(await ai.run(CHAT_OR_TEXT, { prompt: "Hi", stream: true }));
    assert.equal(events.map(({ choices }) => choices[0]?.text ?? "").join(""), "Hello there!");
    assert.equal((await ai.run(CHAT_OR_TEXT, { messages })).choices[0].message.content, "Hello there!");
  });

  test("are the same over REST; /v1/chat/completions has one for all", async () => {
    const post = async (path, body) => (await ai.fetch(path, { method: "POST", body: JSON.stringify(body) })).json();
    for (const [id, field] of [
      [OLDER, "response"],
      [CHAT, "choices"],
    ]) {
      const { result } = await post(`/client/v4/accounts/a/ai/run/${id}`, { messages });
      assert.ok(field in result, id);
      assert.equal((await post("/v1/chat/completions", { model: id, messages })).object, "chat.completion");
    }
  });

  test("JSON mode and tools", async () => {
    const json = scripted({ script: ['{"a": 1}'] });
    const format = { type: "json_schema", json_schema: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] } };
    const [choice] = (await json.run(CHAT, { messages, response_format: format })).choices;
    assert.deepEqual(JSON.parse(choice.message.content), { a: 1 });
    const tools = [{ type: "function", function: { name: "f", parameters: { type: "object", properties: {} } } }];
    const calling = await ai.run(CHAT, { messages, tools, tool_choice: "required" });
    const [call] = calling.choices[0].message.tool_calls;
    assert.deepEqual([call.type, call.function, calling.choices[0].finish_reason], ["function", { name: "f", arguments: "{}" }, "tool_calls"]);
    assert.equal(calling.choices[0].message.content, null);
  });

  test("a model that has no default limit goes on to the end of its window, the stand-in to 2,000 tokens", async () => {
    const endless = scriptedModel({ script: ["a", "b"], next: { b: "a" }, context: 2300 }).bytes;
    const own = new Ai({ models: { [CHAT]: endless }, default: endless, onWarning() {} });
    const used = async (id) => (await own.run(id, { messages })).usage;
    const { total_tokens } = await used(CHAT);
    assert.equal(total_tokens, 2300);
    assert.equal((await used("@cf/zai-org/glm-5.2")).completion_tokens, 2000);
    assert.equal((await used(OLDER)).completion_tokens, 256);
  });
});

describe("choices", () => {
  test("differ by their seeds, and are what the seeds give alone", async () => {
    const ai = new Ai({ default: MODEL_PATH, onWarning() {} });
    const input = { messages: [{ role: "user", content: "Name a colour." }], temperature: 1.2, seed: 7, max_tokens: 12 };
    const { choices, usage } = await ai.run(CHAT, { ...input, n: 3 });
    assert.deepEqual(choices.map(({ index }) => index), [0, 1, 2]);
    const alone = [];
    let tokens = 0;
    for (const seed of [7, 8, 9]) {
      const answer = await ai.run(CHAT, { ...input, seed });
      alone.push(answer.choices[0].message.content);
      tokens += answer.usage.completion_tokens;
      assert.equal(answer.usage.prompt_tokens, usage.prompt_tokens);
    }
    assert.deepEqual(choices.map(({ message }) => message.content), alone);
    assert.ok(new Set(alone).size > 1, "the seeds give different answers");
    assert.equal(usage.completion_tokens, tokens);
    const events = await readValues(await ai.run(CHAT, { ...input, n: 3, stream: true }));
    const texts = ["", "", ""];
    for (const { choices } of events) for (const { index, delta } of choices) texts[index] += delta.content ?? "";
    assert.deepEqual(texts, alone);
    const roles = events.flatMap(({ choices }) => choices).filter(({ delta }) => delta.role);
    assert.deepEqual(roles.map(({ index }) => index).sort(), [0, 1, 2]);
    await ai.close();
  });

  test("more than 4 are an error, the older shape has one", async () => {
    const ai = scripted();
    await assert.rejects(ai.run(CHAT, { messages, n: 5 }), { name: "AiError", message: /^5006: .*'\/n' must be <= 4/ });
    assert.equal((await ai.run(OLDER, { messages, n: 2 })).response, "Hello there!");
  });
});

describe("log probabilities", () => {
  test("are those of the tokens, in objects and streams", async () => {
    const ai = new Ai({ default: MODEL_PATH, onWarning() {} });
    const input = { messages: [{ role: "user", content: "What is the capital of France?" }], temperature: 0, max_tokens: 10, logprobs: true, top_logprobs: 3 };
    const [choice] = (await ai.run(CHAT, input)).choices;
    const { content } = choice.logprobs;
    assert.equal(content.map(({ token }) => token).join(""), choice.message.content);
    for (const { token, logprob, bytes, top_logprobs } of content) {
      assert.equal(new TextDecoder().decode(Uint8Array.from(bytes)), token);
      assert.equal(top_logprobs.length, 3);
      assert.deepEqual([top_logprobs[0].token, top_logprobs[0].logprob], [token, logprob], "greedy: the likeliest one");
      assert.ok(top_logprobs.reduce((sum, { logprob }) => sum + Math.exp(logprob), 0) <= 1.0001);
    }
    const events = await readValues(await ai.run(CHAT, { ...input, stream: true }));
    const streamed = events.flatMap(({ choices }) => choices[0]?.logprobs?.content ?? []);
    assert.deepEqual(streamed, content);
    const without = await ai.run(CHAT, { ...input, logprobs: false, top_logprobs: null });
    assert.equal(without.choices[0].logprobs, null);
    assert.equal(without.choices[0].message.content, choice.message.content);
    await ai.close();
  });
});

test("tokenize says the text of each token", async () => {
  const ai = new Ai({ default: MODEL_PATH, onWarning() {} });
  const { tokens, pieces, text } = await ai.tokenize(OLDER, { messages: [{ role: "user", content: "Hello there" }] });
  assert.equal(pieces.length, tokens.length);
  assert.equal(pieces.join(""), text);
  assert.deepEqual(pieces.slice(-10), ["user", "\n", "Hello", " there", "<|im_end|>", "\n", "<|im_start|>", "ass", "istant", "\n"]);
  // A character of several tokens has no text in any of them.
  const tower = await ai.tokenize(OLDER, { prompt: "🗼", raw: true });
  assert.ok(tower.pieces.length > 1 && tower.pieces.every((piece) => piece.includes("\ufffd")), JSON.stringify(tower));
  await ai.close();
});

describe("biases and predictions", () => {
  test("a bias makes a token certain or impossible, and out of range it is an error", async () => {
    const ai = scripted();
    const real = new Ai({ default: MODEL_PATH, onWarning() {} });
    const { tokens: paris } = await real.tokenize(OLDER, { prompt: " Paris", raw: true });
    const input = { messages: [{ role: "user", content: "What is the capital of France?" }], temperature: 0, max_tokens: 10 };
    assert.match((await real.run(OLDER, input)).response, /Paris/);
    assert.doesNotMatch((await real.run(OLDER, { ...input, logit_bias: { [paris[0]]: -100 } })).response, / Paris/);
    for (const logit_bias of [{ a: 1 }, { 5: 101 }, { 5: "1" }, [1]]) {
      await assert.rejects(ai.run(OLDER, { messages, logit_bias }), { message: /^5006: .*logit_bias/ }, JSON.stringify(logit_bias));
    }
    await real.close();
  });

  test("a prediction changes no token", async () => {
    const ai = new Ai({ default: MODEL_PATH, onWarning() {} });
    const code = "function add(a, b) {\n  return a + b;\n}\n";
    const input = { messages: [{ role: "user", content: `Repeat this code:\n${code}` }], temperature: 0, max_tokens: 60 };
    const { response } = await ai.run(OLDER, input);
    for (const content of [code, response, "something else entirely, that does not occur", [{ type: "text", text: response }]]) {
      assert.equal((await ai.run(OLDER, { ...input, prediction: { type: "content", content } })).response, response);
    }
    await ai.close();
  });
});

describe("thoughts", () => {
  const template =
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content and loop.last %}({{ m.reasoning_content }}){% endif %}{{ m.content }}<|im_end|>\n{% endfor %}" +
    "<|im_start|>assistant\n{% if enable_thinking is defined and enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% if reasoning_effort %}[{{ reasoning_effort }}]{% endif %}";
  const script = ["<think>", "I", " wonder", ".", "</think>", "\n\n", "Hello", "!"];
  const tokens = ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED }));
  const thinking = () => scripted({ template, script, tokens });

  test("are apart from the text, in every shape, object and stream", async () => {
    const ai = thinking();
    const { response, reasoning_content, reasoning, usage } = await ai.run(OLDER, { messages });
    assert.deepEqual([response, reasoning_content, reasoning], ["Hello!", "I wonder.", "I wonder."]);
    assert.equal(usage.completion_tokens, 8);
    assert.deepEqual(usage.completion_tokens_details, { reasoning_tokens: 5 });
    const events = await readValues(await ai.run(OLDER, { messages, stream: true }));
    assert.equal(events.map((event) => event.response).join(""), "Hello!");
    assert.equal(events.map((event) => event.reasoning_content ?? "").join(""), "I wonder.");
    const [choice] = (await ai.run(CHAT, { messages })).choices;
    assert.deepEqual([choice.message.content, choice.message.reasoning_content], ["Hello!", "I wonder."]);
    const [text] = (await ai.run(CHAT_OR_TEXT, { prompt: "Hi" })).choices;
    assert.deepEqual([text.text, text.reasoning_content], ["Hello!", "I wonder."]);
    const chunks = await readValues(await ai.run(CHAT, { messages, stream: true }));
    assert.equal(chunks.map(({ choices }) => choices[0]?.delta.reasoning_content ?? "").join(""), "I wonder.");
    assert.equal(chunks.map(({ choices }) => choices[0]?.delta.content ?? "").join(""), "Hello!");
  });

  test("a raw prompt's answer is left as it is", async () => {
    assert.equal((await thinking().run(OLDER, { prompt: "x\n", raw: true })).response, "<think>I wonder.</think>\n\nHello!");
  });

  test("effort and enable_thinking reach the template, by the model's own names", async () => {
    const ai = thinking();
    const ending = async (id, input) => (await ai.tokenize(id, { messages, ...input })).text.split("assistant\n").at(-1);
    const off = "<think>\n\n</think>\n\n";
    assert.equal(await ending(OLDER, {}), "");
    assert.equal(await ending(OLDER, { chat_template_kwargs: { enable_thinking: false } }), off);
    assert.equal(await ending(OLDER, { reasoning_effort: "none" }), off);
    assert.equal(await ending(OLDER, { reasoning_effort: null }), off);
    assert.equal(await ending(OLDER, { reasoning_effort: "low" }), "[low]");
    assert.equal(await ending("@cf/zai-org/glm-5.2", { reasoning_effort: "low" }), "[high]");
    assert.equal(await ending("@cf/zai-org/glm-5.3", { reasoning_effort: null }), "[max]", "it cannot do without");
    const { response, reasoning_content } = await ai.run(OLDER, { messages, reasoning_effort: "none" });
    assert.equal(reasoning_content, undefined);
    assert.notEqual(response, "Hello!", "another prompt");
  });

  test("thoughts of earlier turns reach the template, which decides", async () => {
    const ai = thinking();
    const text = async (turn) => (await ai.tokenize(OLDER, { messages: [...messages, turn] })).text;
    const turn = { role: "assistant", content: "Hello!" };
    for (const name of ["reasoning_content", "reasoning"]) assert.match(await text({ ...turn, [name]: "Hm." }), /\(Hm\.\)Hello!/, name);
    assert.doesNotMatch(await text(turn), /\(/);
  });

  test("a grammar begins after the thought, also a forced call's", async () => {
    const json = scripted({ template, tokens, script: ["<think>", "I", " wonder", "</think>", "\n\n", '{"a":', " 1", "}"] });
    const format = { type: "json_schema", json_schema: { type: "object", properties: { a: { type: "integer" } }, required: ["a"] } };
    const answer = await json.run(OLDER, { messages, response_format: format });
    assert.deepEqual([answer.response.a === undefined, answer.reasoning_content], [false, "I wonder"]);
    const ai = thinking();
    const tools = [{ name: "f", parameters: { type: "object", properties: {} } }];
    const calling = await ai.run(OLDER, { messages, tools, tool_choice: "required" });
    assert.deepEqual([calling.tool_calls[0].name, calling.reasoning_content], ["f", "I wonder."]);
    const cut = ai.run(OLDER, { messages, response_format: format, max_tokens: 3 });
    await assert.rejects(cut, { message: /^5024/ }, "nothing is left for the JSON");
  });

  test("stop strings end the text, not the thought", async () => {
    const { response, reasoning_content } = await thinking().run(OLDER, { messages, stop: ["wonder", "!"] });
    assert.deepEqual([response, reasoning_content], ["Hello", "I wonder."]);
  });

  test("scripts have them too", async () => {
    const ai = new Ai({ script: [{ reasoning: "Hm, well.", text: "Hello!" }] });
    const { response, reasoning_content, usage } = await ai.run(OLDER, { messages });
    assert.deepEqual([response, reasoning_content, usage.completion_tokens_details], ["Hello!", "Hm, well.", { reasoning_tokens: 2 }]);
    const { choices } = await ai.run(CHAT, { messages, n: 2 });
    assert.deepEqual(choices.map(({ message }) => message.content), ["Hello!", "Hello!"]);
  });
});
