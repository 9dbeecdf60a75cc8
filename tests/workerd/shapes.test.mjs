// Both shapes of answers through the genuine binding, with what a model thinks before it answers.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { after, before, describe, test } from "node:test";
import { eventData } from "workers-ai-local/sse";
import { listening } from "../../scripts/lib/ports.mjs";
import { CHATML, USER_DEFINED, scriptedModel } from "../scripted-model.mjs";
import { chunksOf, eventsIn } from "../sse.mjs";
import { startGenuine } from "./genuine.mjs";

const OLDER = "@cf/meta/llama-3.1-8b-instruct";
const CHAT = "@cf/zai-org/glm-5.2";
const RESPONSES = "@cf/openai/gpt-oss-20b";
const CHAT_OR_TEXT = "@cf/qwen/qwen3-30b-a3b-fp8";

const { bytes } = scriptedModel({
  template: `${CHATML}{% if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}`,
  script: ["<think>", "I", " wonder", ".", "</think>", "Hello", " there", "!"],
  tokens: ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED })),
});
const [THOUGHT, TEXT, TOKENS] = ["I wonder.", "Hello there!", 8];
const messages = [{ role: "user", content: "Hi" }];
const CITY = { type: "object", properties: { city: { type: "string", enum: ["Oslo", "Rome"] } }, required: ["city"], additionalProperties: false };
const tools = [{ type: "function", function: { name: "weather", parameters: CITY } }];

let files;
let worker;
before(async () => {
  files = await listening(createServer((_, response) => response.writeHead(200, { "content-length": bytes.length }).end(bytes)));
  worker = await startGenuine({ DEFAULT_MODEL: `${files.url}/model.gguf` });
});
after(async () => {
  await worker?.stop();
  await files?.close();
});

/** The values of a stream's events, without the last one. */
async function events(model, input, how) {
  const response = await worker.respond(model, { ...input, stream: true }, {}, how);
  const all = eventsIn(...(await chunksOf(response.body)));
  assert.equal(all.pop(), "[DONE]");
  return all.map((data) => JSON.parse(data));
}
/** The values of the named events of a response. */
async function namedEvents(input, how) {
  const all = [];
  const { body } = await worker.respond(RESPONSES, { ...input, stream: true }, {}, how);
  for await (const data of eventData(body)) all.push(JSON.parse(data));
  return all;
}
const joined = (values) => values.map((value) => value ?? "").join("");

for (const [whose, how] of [
  ["the binding", {}],
  ["new Ai(service)", { own: true }],
]) {
  describe(`through ${whose}`, () => {
    test("an older id: text and thought beside each other, object and stream", async () => {
      const { response, reasoning_content, reasoning, usage, finish_reason } = await worker.run(OLDER, { messages }, {}, how);
      assert.deepEqual([response, reasoning_content, reasoning, finish_reason], [TEXT, THOUGHT, THOUGHT, "stop"]);
      assert.equal(usage.completion_tokens, TOKENS);
      const all = await events(OLDER, { messages }, how);
      for (const { response } of all) assert.equal(typeof response, "string");
      assert.equal(joined(all.map(({ response }) => response)), TEXT);
      assert.equal(joined(all.map(({ reasoning_content }) => reasoning_content)), THOUGHT);
      assert.equal(all.at(-1).usage.completion_tokens, TOKENS);
    });

    test("a newer id: a chat completion, object and stream", async () => {
      const { object, model, choices, usage } = await worker.run(CHAT, { messages }, {}, how);
      assert.deepEqual([object, model, choices.length], ["chat.completion", CHAT, 1]);
      const { message, finish_reason } = choices[0];
      assert.deepEqual([message.role, message.content, message.reasoning_content, finish_reason], ["assistant", TEXT, THOUGHT, "stop"]);
      assert.equal(usage.completion_tokens, TOKENS);
      const all = await events(CHAT, { messages }, how);
      for (const { object, id } of all) assert.deepEqual([object, id], ["chat.completion.chunk", all[0].id]);
      assert.equal(joined(all.map(({ choices }) => choices[0]?.delta.content)), TEXT);
      assert.equal(joined(all.map(({ choices }) => choices[0]?.delta.reasoning_content)), THOUGHT);
      assert.deepEqual([all.at(-1).choices, all.at(-1).usage.completion_tokens], [[], TOKENS]);
    });

    test("without a thought, if the request says so", async () => {
      for (const input of [{ reasoning_effort: "none" }, { reasoning_effort: null }, { chat_template_kwargs: { enable_thinking: false } }]) {
        const [{ message }] = (await worker.run(CHAT, { messages, ...input }, {}, how)).choices;
        assert.deepEqual([message.content, "reasoning_content" in message], [TEXT, false], JSON.stringify(input));
      }
    });

    test("choices and log probabilities", async () => {
      const { choices, usage } = await worker.run(CHAT, { messages, n: 2, logprobs: true, top_logprobs: 1 }, {}, how);
      assert.deepEqual(choices.map(({ index, message }) => [index, message.content]), [[0, TEXT], [1, TEXT]]);
      assert.equal(usage.completion_tokens, 2 * TOKENS);
      for (const { logprobs } of choices) assert.ok(joined(logprobs.content.map(({ token }) => token)).endsWith(TEXT));
      await assert.rejects(worker.run(CHAT, { messages, n: 5 }, {}, how), { name: "AiError", message: /^5006: .*'\/n' must be <= 4/ });
    });

    test("an input of the Responses API: a response, object and stream", async () => {
      const response = await worker.run(RESPONSES, { input: "Hi", instructions: "Be brief." }, {}, how);
      const { object, status, model, output, output_text, usage } = response;
      assert.deepEqual([object, status, model, output_text, usage.output_tokens], ["response", "completed", RESPONSES, TEXT, TOKENS]);
      assert.deepEqual(output.map(({ type, content }) => [type, content[0].text]), [["reasoning", THOUGHT], ["message", TEXT]]);
      const all = await namedEvents({ input: [{ role: "user", content: "Hi" }] }, how);
      assert.deepEqual([all[0].type, all.at(-1).type], ["response.created", "response.completed"]);
      const deltas = (type) => joined(all.filter((event) => event.type === type).map(({ delta }) => delta));
      assert.deepEqual([deltas("response.output_text.delta"), deltas("response.reasoning_text.delta")], [TEXT, THOUGHT]);
      assert.equal(all.at(-1).response.output_text, TEXT);
    });

    test("a forced call of a response; what needs the memory of a service is refused", async () => {
      const tool = { type: "function", name: "weather", parameters: CITY };
      const { output } = await worker.run(RESPONSES, { input: "Hi", tools: [tool], tool_choice: "required" }, {}, how);
      const call = output.find(({ type }) => type === "function_call");
      assert.ok(call.name === "weather" && CITY.properties.city.enum.includes(JSON.parse(call.arguments).city));
      for (const [field, value] of Object.entries({ previous_response_id: "resp_1", conversation: "conv_1", background: true })) {
        const refused = worker.run(RESPONSES, { input: "Hi", [field]: value }, {}, how);
        await assert.rejects(refused, { name: "AiError", message: new RegExp(`^5006: .*'/${field}' is not supported`) });
      }
      await assert.rejects(worker.run(CHAT, { input: "Hi" }, {}, how), { name: "AiError", message: /^5006: / }, "its type has no such input");
    });

    test("a forced call, in the shape of the id, after the thought", async () => {
      const input = { messages, tools, tool_choice: "required" };
      const older = await worker.run(OLDER, input, {}, how);
      assert.deepEqual([older.response, older.reasoning_content, older.finish_reason], [null, THOUGHT, "tool_calls"]);
      const [call] = older.tool_calls;
      assert.ok(call.name === "weather" && CITY.properties.city.enum.includes(call.arguments.city));
      const [{ message, finish_reason }] = (await worker.run(CHAT, input, {}, how)).choices;
      assert.deepEqual([message.content, message.reasoning_content, finish_reason], [null, THOUGHT, "tool_calls"]);
      const [{ type, function: called }] = message.tool_calls;
      assert.deepEqual([type, called.name], ["function", "weather"]);
      assert.ok(CITY.properties.city.enum.includes(JSON.parse(called.arguments).city));
    });
  });
}

test("a prompt for an id that answers it with a text completion; a raw Response", async () => {
  const { object, choices } = await worker.run(CHAT_OR_TEXT, { prompt: "Hi" });
  assert.deepEqual([object, choices[0].text, choices[0].finish_reason], ["text_completion", TEXT, "stop"]);
  const raw = await worker.respond(CHAT, { messages }, { returnRawResponse: true });
  assert.equal(raw.headers.get("content-type"), "application/json");
  assert.equal((await raw.json()).choices[0].message.content, TEXT);
});

test("models() lists ids of both shapes, and what they can do", async () => {
  const listed = new Map((await worker.call("models")).map(({ name, properties }) => [name, properties]));
  assert.ok(listed.has(OLDER));
  assert.ok(listed.get(CHAT).some(({ property_id, value }) => property_id === "reasoning" && value === "true"));
});
