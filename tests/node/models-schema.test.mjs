// The JSON Schemas that the models API returns (`GET …/ai/models/schema`): inputs that are answered fit them, and so do the answers. Ajv compares.

import assert from "node:assert/strict";
import { after, describe, test } from "node:test";
import { Ajv } from "ajv";
import { Ai } from "workers-ai-local";
import { EMBEDDING_MODEL } from "../real-embeddings.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const ai = new Ai({ default: scriptedModel().bytes, onWarning() {} });
after(() => ai.close());
const ajv = new Ajv({ strict: false });

async function schemasOf(model) {
  const response = await ai.fetch(`http://localhost/client/v4/accounts/a/ai/models/schema?model=${encodeURIComponent(model)}`);
  assert.equal(response.status, 200);
  const { input, output } = (await response.json()).result;
  return { input: ajv.compile(input), output: ajv.compile(output) };
}

const fits = (validate, value) => assert.ok(validate(value), `${JSON.stringify(value)}: ${ajv.errorsText(validate.errors)}`);

const messages = [
  { role: "user", content: "Hi" },
  { role: "assistant", content: null, tool_calls: [{ id: "c", type: "function", function: { name: "f", arguments: "{}" } }] },
  { role: "tool", tool_call_id: "c", content: [{ type: "text", text: "1" }] },
  { role: "user", content: { type: "text", text: "Well?" } },
];
const SCHEMA = { type: "object", properties: { a: { type: "boolean" } }, required: ["a"], additionalProperties: false };
const ALLOWED = { type: "allowed_tools", allowed_tools: { mode: "auto", tools: [{ type: "function", function: { name: "f" } }] } };
const OLDER = [
  { prompt: "Hi", max_tokens: 3, stop: "x", lora: undefined },
  { messages, temperature: 0, chat_template_kwargs: { enable_thinking: false }, reasoning_effort: "low" },
  { messages, tools: [{ name: "f", description: "d", parameters: SCHEMA }], tool_choice: "required" },
  { messages, tools: [{ type: "function", function: { name: "f" } }], tool_choice: ALLOWED },
  { messages: [...messages, { role: "assistant", content: [{ type: "refusal", refusal: "No." }] }, { role: "assistant", content: null, refusal: "No." }] },
  { messages, functions: [{ name: "f", code: "return 1" }, { name: "g", description: "d", parameters: SCHEMA }] },
  { prompt: "Hi", response_format: { type: "json_schema", json_schema: SCHEMA } },
  { prompt: "Hi", guided_json: SCHEMA },
];
const CHAT = [...OLDER, { messages, n: 2, logprobs: true, top_logprobs: 2, logit_bias: { 97: -100 }, prediction: { type: "content", content: "Hello there!" } }];
const MODELS = {
  "@cf/meta/llama-3.1-8b-instruct": OLDER,
  "@cf/qwen/qwq-32b": OLDER,
  "@cf/meta/llama-4-scout-17b-16e-instruct": OLDER,
  "@cf/moonshotai/kimi-k2.6": CHAT,
  "@cf/aisingapore/gemma-sea-lion-v4-27b-it": CHAT,
  "@cf/openai/gpt-oss-20b": [...CHAT, { input: "Hi", instructions: "Be brief.", reasoning: { effort: null, summary: null } }, { input: messages.slice(0, 1), max_output_tokens: 2 }],
};

describe("the schemas of the models API", () => {
  for (const [model, inputs] of Object.entries(MODELS)) {
    test(`fit what ${model} takes and answers`, async () => {
      const { input, output } = await schemasOf(model);
      for (const given of inputs) {
        fits(input, JSON.parse(JSON.stringify(given)));
        fits(output, await ai.run(model, given));
      }
      assert.ok(!input({ text: "Hi" }), "an input without a prompt");
      assert.ok(!input({ prompt: "Hi", temperature: 6 }), "a number out of its range");
      assert.ok(!output({ text: "Hi" }), "another answer");
    });
  }

  test("fit what embedding models take and answer", async () => {
    const { input, output } = await schemasOf("@cf/baai/bge-m3");
    const inputs = [{ text: "a" }, { text: ["a", "b"], pooling: "cls" }, { query: "a", contexts: [{ text: "b" }] }, { contexts: [{ text: "b" }] }, { queries: "a", documents: ["b"], instruction: "c" }];
    for (const given of inputs) {
      fits(input, given);
      fits(output, await ai.run(EMBEDDING_MODEL, given));
    }
    assert.ok(!input({ prompt: "a" }));
  });
});

describe("fields of newer types", () => {
  test("guided_json constrains the answer, which stays text", async () => {
    const { response } = await ai.run("@cf/qwen/qwq-32b", { prompt: "Hi", guided_json: SCHEMA });
    assert.equal(typeof response, "string");
    fits(ajv.compile(SCHEMA), JSON.parse(response));
    const { choices } = await ai.run("@cf/moonshotai/kimi-k2.6", { messages: messages.slice(0, 1), guided_json: SCHEMA });
    fits(ajv.compile(SCHEMA), JSON.parse(choices[0].message.content));
  });

  test("functions without code can be called", async () => {
    const functions = [{ name: "f", description: "d", parameters: SCHEMA }];
    const { choices } = await ai.run("@cf/moonshotai/kimi-k2.6", { messages: messages.slice(0, 1), functions, tool_choice: "required" });
    assert.equal(choices[0].message.tool_calls[0].function.name, "f");
  });

  test("a token that the model does not have is an error", async () => {
    const biased = (logit_bias) => ai.run("@cf/moonshotai/kimi-k2.6", { messages: messages.slice(0, 1), logit_bias });
    await assert.rejects(biased({ 4000000000: 100 }), { message: /^5006: '\/logit_bias\/4000000000' is not the number of a token of the model's vocabulary, which has \d+$/ });
    assert.ok((await biased({ 0: 1 })).choices);
  });
});
