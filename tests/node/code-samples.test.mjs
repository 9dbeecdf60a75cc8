// The code that the playground shows for its settings runs, and makes exactly the request that the page makes: against a real `serve` and the
// real model, and in Node with `env.AI` as a Worker has it.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { text as textOf } from "node:stream/consumers";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Ai } from "workers-ai-local";
import { samples } from "../../www/code-samples.js";
import { inputOf } from "../../www/request.js";
import { MODEL_PATH } from "../real-model.mjs";
import { startServe } from "../serve-process.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const MODEL = "@cf/meta/llama-3.1-8b-instruct";

const WEATHER = { name: "get_weather", description: "The weather in a city", parameters: { type: "object", properties: { city: { type: "string" } }, required: ["city"] }, on: true };
const SCHEMA = { type: "object", properties: { colour: { enum: ["red", "it's blue"] }, "odd name": { type: "integer", minimum: 1, maximum: 3 } }, required: ["colour", "odd name"], additionalProperties: false };
const SETTINGS = { model: MODEL, system: "", format: "text", tools: [], toolChoice: "", sampling: { max_tokens: 12, temperature: 0 }, raw: false };
const CALL = { id: "abcdefghi", type: "function", function: { name: "get_weather", arguments: '{"city":"Paris"}' } };
const user = (content) => ({ role: "user", content });

const CASES = {
  "a text, with quotes of both kinds and a line break": { settings: { system: "You're brief." }, messages: [user("Say \"it's\"\nfine: `${x}`.")] },
  "every sampling field": {
    settings: { sampling: { max_tokens: 12, temperature: 0.7, top_p: 0.9, top_k: 20, seed: 7, repetition_penalty: 1.1, frequency_penalty: 0.1, presence_penalty: 0.2, stop: ["\n\n", "END"], logit_bias: { 42: -100 } } },
    messages: [user("Tell me about the sea.")],
  },
  "a conversation": { messages: [user("Hi"), { role: "assistant", content: "Hello!" }, user("Who are you?")] },
  "a tool that must be called": { settings: { tools: [WEATHER, { ...WEATHER, name: "not_offered", on: false }], toolChoice: "required", sampling: { max_tokens: 60, temperature: 0 } }, messages: [user("Weather in Paris?")] },
  "the answer of a tool": {
    settings: { tools: [WEATHER], toolChoice: "required", sampling: { max_tokens: 20, temperature: 0 } },
    messages: [user("Weather in Paris?"), { role: "assistant", content: null, tool_calls: [CALL] }, { role: "tool", tool_call_id: CALL.id, name: "get_weather", content: '{"celsius": 21}' }],
  },
  "JSON of a schema": { settings: { format: "json_schema", schema: SCHEMA, sampling: { max_tokens: 60, temperature: 0 } }, messages: [user("Choose.")] },
  "a raw prompt": { settings: { raw: true }, messages: [user("1, 2, 3, it's 4,")] },
};

let folder;
let server;
let ai;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-samples-"));
  await mkdir(path.join(folder, "node_modules"));
  await symlink(ROOT, path.join(folder, "node_modules", "workers-ai-local"));
  for (const name of ["ai", "openai", "workers-ai-provider"]) await symlink(path.join(ROOT, "node_modules", name), path.join(folder, "node_modules", name));
  server = await startServe("--port", "0", "--gguf", MODEL_PATH);
  ai = new Ai({ default: MODEL_PATH, onWarning() {} });
});
after(async () => {
  await server?.stop();
  await ai?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Runs a program to its end, and returns what it prints. */
async function runs(command, args, env = {}) {
  const child = spawn(command, args, { cwd: folder, env: { ...process.env, ...env } });
  const [out, error, [code]] = await Promise.all([textOf(child.stdout), textOf(child.stderr), once(child, "close")]);
  assert.equal(code, 0, `${error}${out}`);
  return out;
}

let count = 0;
async function saved(code) {
  const file = path.join(folder, `example-${(count += 1)}.mjs`);
  await writeFile(file, code);
  return file;
}

/** The response of a Worker, and the requests that it makes. */
async function responseOf(code) {
  const { default: worker } = await import(pathToFileURL(await saved(code)).href);
  const asked = [];
  const AI = { run: (model, input, options) => (asked.push({ model, input }), ai.run(model, input, options)) };
  const response = await worker.fetch(new Request("http://worker.local/"), { AI });
  return { text: await response.text(), asked };
}

/** The text of server-sent events. */
const said = (events) => [...events.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data).response).join("");

for (const [what, { settings, messages }] of Object.entries(CASES)) {
  describe(what, () => {
    const input = inputOf({ ...SETTINGS, ...settings }, messages);
    const made = () => Object.fromEntries(samples({ model: MODEL, input, base: server.url, source: MODEL_PATH }).map((sample) => [sample.name, sample]));
    const streams = !input.tools && !input.response_format;
    /** What the page would get. */
    let expected;
    before(async () => (expected = await ai.run(MODEL, input)));
    const called = ({ name, arguments: values }) => ({ name, values: typeof values === "string" ? JSON.parse(values) : values });

    test("as a Worker", async () => {
      const { text, asked } = await responseOf(made().Worker.code);
      assert.deepEqual(asked, [{ model: MODEL, input: streams ? { ...input, stream: true } : input }]);
      if (streams) assert.equal(said(text), expected.response);
      else assert.deepEqual(JSON.parse(text).response, expected.response);
    });

    test("as curl", async () => {
      const out = await runs("sh", ["-c", made().curl.code]);
      if (streams) assert.equal(said(out), expected.response);
      else {
        const { success, result } = JSON.parse(out);
        assert.ok(success);
        assert.deepEqual(result.response, expected.response);
        assert.deepEqual(result.tool_calls?.map(called), expected.tool_calls?.map(called));
      }
    });

    test("as a program in Node", async () => {
      const out = await runs(process.execPath, [await saved(made().Node.code)]);
      if (streams) assert.equal(out, expected.response);
      else assert.deepEqual(JSON.parse(out).response, expected.response);
    });

    test("with OpenAI's SDK", async () => {
      const { code, note } = made()["OpenAI SDK"];
      if (input.raw) return assert.deepEqual([code, /no raw prompts: use the Worker or curl/.test(note)], [null, true]);
      const out = await runs(process.execPath, [await saved(code)]);
      if (streams) return assert.equal(out, expected.response);
      const message = JSON.parse(out);
      if (input.response_format) assert.deepEqual(JSON.parse(message.content), expected.response);
      else assert.deepEqual([message.content, message.tool_calls?.map((call) => called(call.function))], [expected.response, expected.tool_calls?.map(called)]);
    });

    test("with the AI SDK", async () => {
      const { code, note } = made()["AI SDK"];
      if (input.raw) return assert.deepEqual([code, /no raw prompts: use the Worker or curl/.test(note)], [null, true]);
      const { text, asked } = await responseOf(code);
      const [{ model, input: sent }] = asked;
      assert.equal(model, MODEL);
      // Everything but the messages and tools, which the SDK spells in its own way, is the same.
      for (const [field, value] of Object.entries(input)) if (!["messages", "tools", "response_format"].includes(field)) assert.deepEqual(sent[field], value, field);
      assert.deepEqual(sent.messages.map(({ role }) => role), input.messages.map(({ role }) => role));
      assert.deepEqual(sent.tools?.map((tool) => tool.function.name), input.tools?.map((tool) => tool.function.name));
      if (streams) assert.equal(text, expected.response);
      else if (input.response_format) assert.deepEqual(JSON.parse(text), expected.response);
      else assert.deepEqual(JSON.parse(text).toolCalls.map(({ toolName, input }) => ({ name: toolName, values: input })), (expected.tool_calls ?? []).map(called));
    });
  });
}

test("a model of one id is named for that id only", () => {
  const made = samples({ model: MODEL, input: { messages: [user("Hi")] }, base: "http://127.0.0.1:9000", source: "/own model.gguf", own: true });
  for (const { name, run } of made) {
    if (name !== "Node") assert.ok(run.includes(`--gguf '/own model.gguf' --model ${MODEL}`), `${name}: ${run}`);
  }
  assert.ok(made.at(-1).code.includes(`new Ai({ models: { "${MODEL}": "/own model.gguf" } })`), made.at(-1).code);
});

test("a key, and a name of a model, are in the commands", () => {
  const input = { messages: [user("Hi")] };
  const made = samples({ model: MODEL, input, base: "http://127.0.0.1:9000", hasKey: true, source: "hf:maker/model-GGUF:Q4_K_M" });
  const [, curl, openAi] = made;
  assert.match(curl.code, /-H "authorization: Bearer \$KEY"/);
  assert.match(openAi.code, /apiKey: process\.env\.KEY/);
  assert.equal(curl.run, 'npx workers-ai-local serve --port 9000 --gguf hf:maker/model-GGUF:Q4_K_M --key "$KEY"');
  for (const { code } of made) assert.notEqual(code, null);
  assert.match(made.at(-1).code, /new Ai\(\{ default: "hf:maker\/model-GGUF:Q4_K_M" \}\)/);
});
