// The Responses API: OpenAI's client package against `…/ai/v1`, and `run()` of the models that take its input.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import OpenAI from "openai";
import { zodTextFormat } from "openai/helpers/zod";
import { Ai } from "workers-ai-local";
import { eventData } from "workers-ai-local/sse";
import { z } from "zod";
import { USER_DEFINED, callScript, scriptedFile, scriptedModel } from "../scripted-model.mjs";
import { MODEL } from "./checks.mjs";
import { startServer } from "./server.mjs";

const GPT = "@cf/openai/gpt-oss-20b";
const THINKS = {
  template:
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if m.reasoning_content %}({{ m.reasoning_content }}){% endif %}{{ m.content }}{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}<|im_end|>\n{% endfor %}" +
    "<|im_start|>assistant\n{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}{% if reasoning_effort %}[{{ reasoning_effort }}]\n{% endif %}",
  script: ["<think>", "I", " wonder", ".", "</think>", "\n\n", "Hello", " there", "!"],
  tokens: ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED })),
};
const WEATHER = { type: "function", name: "weather", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] }, strict: true };

let thinker;
let caller;
let servers = [];
let client;
let calling;
before(async () => {
  thinker = await scriptedFile(THINKS);
  caller = await scriptedFile({ script: callScript("weather", { city: "Rome" }) });
  servers = await Promise.all([startServer("--gguf", thinker.path, "--model", GPT), startServer("--gguf", caller.path, "--model", GPT)]);
  [client, calling] = servers.map(({ url }) => new OpenAI({ baseURL: `${url}/client/v4/accounts/account/ai/v1`, apiKey: "key", maxRetries: 0 }));
});
after(async () => {
  for (const server of servers) await server.stop();
  await thinker?.remove();
  await caller?.remove();
});

describe("openai's responses", () => {
  test("create: the text, and the thought as an item of its own", async () => {
    const response = await client.responses.create({ model: GPT, input: "Hi", instructions: "Be brief.", reasoning: { effort: "low" } });
    assert.equal(response.output_text, "Hello there!");
    assert.deepEqual(response.output.map(({ type }) => type), ["reasoning", "message"]);
    assert.equal(response.output[0].content[0].text, "I wonder.");
    assert.deepEqual([response.status, response.object, response.model], ["completed", "response", GPT]);
    const { input_tokens, output_tokens, total_tokens, output_tokens_details } = response.usage;
    assert.equal(total_tokens, input_tokens + output_tokens);
    assert.ok(output_tokens_details.reasoning_tokens > 0 && output_tokens_details.reasoning_tokens < output_tokens);
    assert.deepEqual([response.instructions, response.reasoning.effort], ["Be brief.", "low"]);
  });

  test("a limit makes it incomplete", async () => {
    const response = await client.responses.create({ model: GPT, input: "Hi", max_output_tokens: 8 });
    assert.deepEqual([response.status, response.incomplete_details], ["incomplete", { reason: "max_output_tokens" }]);
    assert.equal(response.output_text, "Hello there");
  });

  test("stream: the client's own checks accept every event, and the result is that of create", async () => {
    const stream = client.responses.stream({ model: GPT, input: [{ role: "user", content: [{ type: "input_text", text: "Hi" }] }] });
    const kinds = [];
    let text = "";
    let thought = "";
    for await (const event of stream) {
      kinds.push(event.type);
      if (event.type === "response.output_text.delta") text += event.delta;
      if (event.type === "response.reasoning_text.delta") thought += event.delta;
    }
    assert.deepEqual([text, thought], ["Hello there!", "I wonder."]);
    assert.deepEqual([kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
    const final = await stream.finalResponse();
    const whole = await client.responses.create({ model: GPT, input: "Hi" });
    assert.equal(final.output_text, whole.output_text);
    assert.deepEqual(final.output.map(({ type, content }) => [type, content[0].text]), whole.output.map(({ type, content }) => [type, content[0].text]));
    assert.equal(final.usage.output_tokens, whole.usage.output_tokens);
  });

  test("tools: a call, and the answer to its output", async () => {
    const input = [{ role: "user", content: "How is the weather in Rome?" }];
    const response = await calling.responses.create({ model: GPT, input, tools: [WEATHER] });
    const [call] = response.output;
    assert.deepEqual([call.type, call.name, JSON.parse(call.arguments)], ["function_call", "weather", { city: "Rome" }]);
    assert.ok(call.call_id && call.id !== call.call_id);
    const stream = calling.responses.stream({ model: GPT, input, tools: [WEATHER], tool_choice: { type: "function", name: "weather" } });
    const streamed = (await stream.finalResponse()).output[0];
    assert.deepEqual([streamed.name, JSON.parse(streamed.arguments)], ["weather", { city: "Rome" }]);
    const other = { ...WEATHER, name: "other" };
    const choice = { type: "allowed_tools", mode: "required", tools: [{ type: "function", name: "weather" }] };
    const allowed = await calling.responses.create({ model: GPT, input, tools: [other, WEATHER], tool_choice: choice });
    assert.equal(allowed.output[0].name, "weather");
    const followed = [...input, ...response.output, { type: "function_call_output", call_id: call.call_id, output: "Sunny" }];
    assert.equal((await client.responses.create({ model: GPT, input: followed, tools: [WEATHER] })).output_text, "Hello there!");
  });

  test("parse: a schema", async () => {
    const Sum = z.object({ sum: z.number().int() });
    const response = await client.responses.parse({ model: MODEL, input: "What is 1 + 1?", text: { format: zodTextFormat(Sum, "sum") }, temperature: 0 });
    assert.equal(typeof response.output_parsed.sum, "number");
  });

  test("log probabilities, where they are asked for", async () => {
    const include = ["message.output_text.logprobs"];
    const { output } = await client.responses.create({ model: GPT, input: "Hi", include, top_logprobs: 2 });
    const { logprobs, text } = output.at(-1).content[0];
    assert.equal(logprobs.map(({ token }) => token).join("").trim(), text);
    assert.ok(logprobs.every(({ logprob, top_logprobs }) => logprob <= 0 && top_logprobs.length === 2));
    const without = await client.responses.create({ model: GPT, input: "Hi" });
    assert.deepEqual(without.output.at(-1).content[0].logprobs, []);
  });

  test("what needs the memory of a service is refused, with what to do instead", async () => {
    const refusals = [
      [{ previous_response_id: "resp_1" }, /send the earlier turns in 'input'/],
      [{ conversation: "conv_1" }, /send the earlier turns in 'input'/],
      [{ conversation: { id: "conv_1" } }, /send the earlier turns in 'input'/],
      [{ background: true }, /leave 'background' out/],
    ];
    for (const [fields, advice] of refusals) {
      for (const stream of [false, true]) {
        const refused = client.responses.create({ model: GPT, input: "Hi", stream, ...fields });
        await assert.rejects(refused, (error) => error.status === 400 && advice.test(error.message), JSON.stringify(fields));
      }
    }
    const absent = { previous_response_id: null, conversation: null, background: false };
    assert.equal((await client.responses.create({ model: GPT, input: "Hi", ...absent })).output_text, "Hello there!");
    await assert.rejects(client.responses.create({ model: GPT }), { status: 400 });
    await assert.rejects(client.responses.create({ model: GPT, input: [{ role: "user", content: [{ type: "input_image", image_url: "a" }] }] }), { status: 400 });
  });
});

describe("run()", () => {
  test("answers an input of the Responses API with a response, and messages with a chat completion", async () => {
    const ai = new Ai({ default: scriptedModel(THINKS).bytes, onWarning() {} });
    const response = await ai.run(GPT, { input: "Hi" });
    assert.deepEqual([response.object, response.output_text], ["response", "Hello there!"]);
    assert.equal((await ai.run(GPT, { messages: [{ role: "user", content: "Hi" }] })).object, "chat.completion");
    const events = [];
    for await (const data of eventData(await ai.run(GPT, { input: "Hi", stream: true }))) events.push(JSON.parse(data));
    assert.equal(events.at(-1).type, "response.completed");
    assert.deepEqual(events.map(({ sequence_number }) => sequence_number), events.map((_, index) => index));
    await assert.rejects(ai.run("@cf/zai-org/glm-5.3", { input: "Hi" }), { message: /^5006/ }, "its type has no such input");
  });

  test("scripts answer it too", async () => {
    const ai = new Ai({ script: [{ input: "Hi", text: "Hello!" }] });
    assert.equal((await ai.run(GPT, { input: "Hi" })).output_text, "Hello!");
    assert.equal((await ai.run(GPT, { input: [{ role: "user", content: "Hi" }] })).output_text, "Hello!");
  });
});
