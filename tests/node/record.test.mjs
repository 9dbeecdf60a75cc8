// Recorded answers: real ones once, the same ones afterwards, without a model.

import assert from "node:assert/strict";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { createServer as createHttpServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Ai, AiInternalError } from "workers-ai-local";
import { createServer } from "../../pkg/cli/serve.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { MODEL } from "../real-model.mjs";
import { chunksOf, eventsIn, readAnswer } from "../sse.mjs";

const ASK = { messages: [{ role: "user", content: "Name a colour." }], temperature: 0.9, max_tokens: 12 };
const TOOLS = [{ name: "paint", parameters: { type: "object", properties: { colour: { enum: ["red", "blue"] } }, required: ["colour"] } }];

let folder;
before(async () => void (folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-record-"))));
after(() => rm(folder, { recursive: true, force: true }));

/** The model file is missing: a request that needs a model fails. */
const NO_MODEL = { default: "/no/such/model.gguf" };
const recording = (name) => new Ai({ record: { folder: path.join(folder, name), mode: "auto" } });
const replaying = (name, mode = "replay") => new Ai({ ...NO_MODEL, record: { folder: path.join(folder, name), mode } });
const filesOf = async (name) => (await readdir(path.join(folder, name))).sort();

describe("a recorded answer", () => {
  test("is given again, as an object and as a stream, without a model", async () => {
    const first = await readAnswer(await recording("text").run(MODEL, { ...ASK, stream: true }));
    const ai = replaying("text");
    const again = await readAnswer(await ai.run(MODEL, { ...ASK, stream: true }));
    assert.deepEqual([again.pieces, again.usage, again.finish_reason], [first.pieces, first.usage, first.finish_reason]);
    const whole = await ai.run(MODEL, { ...ASK, stream: false, stop: null });
    assert.deepEqual([whole.response, whole.usage], [first.text, first.usage]);
    assert.deepEqual((await ai.stats()).models, []);
    assert.equal((await filesOf("text")).length, 1);
  });

  test("does not depend on the order of fields, but on everything else", async () => {
    const ai = replaying("text");
    const { max_tokens, temperature, messages } = ASK;
    assert.ok(await ai.run(MODEL, { max_tokens, temperature, messages }));
    for (const [model, input] of [[MODEL, { ...ASK, max_tokens: 13 }], ["@cf/meta/llama-3.1-8b-instruct", ASK]]) {
      await assert.rejects(ai.run(model, input), (error) => error.internalCode === 5004 && error.message.includes("no recorded answer") && error.message.includes("Name a colour."));
    }
  });

  test("may be a call, a limit, or an error that the request itself causes", async () => {
    const inputs = [
      { ...ASK, tools: TOOLS, tool_choice: "required", max_tokens: 60 },
      { ...ASK, max_tokens: 2 },
      { ...ASK, max_tokens: 90_000 },
      { ...ASK, response_format: { type: "json_schema", json_schema: { type: "object", properties: { a: { type: "string", minLength: 50 } }, required: ["a"] } }, max_tokens: 3 },
    ];
    const outcome = (ai, input) =>
      ai.run(MODEL, input).then(
        ({ response, tool_calls, finish_reason, usage }) => ({ response, tool_calls: tool_calls?.map(({ id, ...call }) => (assert.ok(id), call)), finish_reason, usage }),
        ({ message }) => message,
      );
    const real = recording("kinds");
    const first = [];
    for (const input of inputs) first.push(await outcome(real, input));
    assert.equal(first[0].finish_reason, "tool_calls");
    assert.equal(first[1].finish_reason, "length");
    assert.match(first[2], /^5021: /);
    assert.match(first[3], /^5024: /);
    const again = [];
    for (const input of inputs) again.push(await outcome(replaying("kinds"), input));
    assert.deepEqual(again, first);
  });

  test("has all of its choices", async () => {
    const id = "@cf/zai-org/glm-5.2";
    const input = { ...ASK, n: 3 };
    const answer = async (ai) => {
      const { choices, usage } = await ai.run(id, input);
      return { choices: choices.map(({ message: { content }, finish_reason }) => [content, finish_reason]), usage };
    };
    const real = new Ai({ onWarning() {}, record: { folder: path.join(folder, "choices"), mode: "auto" } });
    const first = await answer(real);
    assert.equal(new Set(first.choices.map(([content]) => content)).size, 3, "with this temperature they differ");
    assert.deepEqual(await answer(replaying("choices")), first);
    await real.close();

    const service = createHttpServer((_, response) => {
      response.setHeader("content-type", "text/event-stream");
      const chunk = (index, delta, finish_reason = null) => `data: ${JSON.stringify({ choices: [{ index, delta, finish_reason }] })}\n\n`;
      const usage = { prompt_tokens: 3, completion_tokens: 4, total_tokens: 7 };
      response.end([chunk(0, { content: "re" }), chunk(1, { content: "bl" }), chunk(1, { content: "ue" }, "length"), chunk(0, { content: "d" }, "stop"), `data: ${JSON.stringify({ choices: [], usage })}\n\n`, "data: [DONE]\n\n"].join(""));
    });
    const { url, close } = await listening(service);
    const remote = { remote: { [id]: "always" }, account: { id: "a", token: "t", url: `${url}/client/v4` } };
    const asked = { messages: ASK.messages, n: 2 };
    try {
      const ai = new Ai({ ...NO_MODEL, ...remote, record: { folder: path.join(folder, "choices of the service"), mode: "auto" } });
      await chunksOf(await ai.run(id, { ...asked, stream: true }));
    } finally {
      await close();
    }
    const { choices, usage } = await replaying("choices of the service").run(id, asked);
    assert.deepEqual(choices.map(({ index, message, finish_reason }) => [index, message.content, finish_reason]), [[0, "red", "stop"], [1, "blue", "length"]]);
    assert.equal(usage.completion_tokens, 4);
  });

  test("that is not read to its end is not recorded", async () => {
    const ai = recording("cut");
    const reader = (await ai.run(MODEL, { ...ASK, stream: true })).getReader();
    await reader.read();
    await reader.cancel();
    await ai.run(MODEL, { ...ASK, max_tokens: 1 });
    assert.equal((await filesOf("cut")).length, 1);
  });

  test("is a file that a person can read and change", async () => {
    const [name] = await filesOf("text");
    const file = path.join(folder, "text", name);
    const recorded = JSON.parse(await readFile(file, "utf8"));
    assert.deepEqual([recorded.model, recorded.input], [MODEL, ASK]);
    recorded.answer = { parts: [{ text: "Green." }] };
    await writeFile(file, JSON.stringify(recorded));
    assert.equal((await replaying("text").run(MODEL, ASK)).response, "Green.");
    await writeFile(file, "{");
    await assert.rejects(replaying("text").run(MODEL, ASK), (error) => error.internalCode === 5004 && error.message.includes(name) && error.message.includes("damaged"));
  });
});

test("in CI, nothing is recorded", async () => {
  const { CI } = process.env;
  try {
    process.env.CI = "true";
    const ai = new Ai({ ...NO_MODEL, record: path.join(folder, "ci") });
    await assert.rejects(ai.run(MODEL, ASK), (error) => error.internalCode === 5004 && error.message.includes("commit the file"));
    delete process.env.CI;
    await assert.rejects(new Ai({ ...NO_MODEL, record: path.join(folder, "ci") }).run(MODEL, ASK), (error) => error.internalCode === 3042);
  } finally {
    if (CI === undefined) delete process.env.CI;
    else process.env.CI = CI;
  }
});

test("with mode record, an answer is recorded anew", async () => {
  const name = "anew";
  await recording(name).run(MODEL, { ...ASK, seed: 1 });
  const [file] = await filesOf(name);
  await writeFile(path.join(folder, name, file), "{");
  await new Ai({ record: { folder: path.join(folder, name), mode: "record" } }).run(MODEL, { ...ASK, seed: 1 });
  assert.ok((await replaying(name).run(MODEL, { ...ASK, seed: 1 })).response);
});

test("answers of the service are recorded too, in both dialects", async () => {
  const script = [
    { input: "text", text: "One two three" },
    { input: "call", text: "Well,", calls: [{ name: "paint", arguments: { colour: "red" } }] },
  ];
  const service = await listening(createServer(new Ai({ script })));
  const remote = { remote: { [MODEL]: "always" }, account: { id: "a", token: "t", url: `${service.url}/client/v4` } };
  const ask = (ai, body) => ai.fetch("/v1/chat/completions", { method: "POST", body: JSON.stringify({ model: MODEL, ...body }) });
  const user = (content) => [{ role: "user", content }];
  const openaiTools = [{ type: "function", function: TOOLS[0] }];
  try {
    const ai = new Ai({ ...NO_MODEL, ...remote, record: { folder: path.join(folder, "service"), mode: "auto" } });
    await ai.run(MODEL, { prompt: "text" });
    await readAnswer(await ai.run(MODEL, { prompt: "call", tools: TOOLS, stream: true }));
    await (await ask(ai, { messages: user("text") })).json();
    await (await ask(ai, { messages: user("call"), tools: openaiTools, stream: true })).text();
    assert.equal((await filesOf("service")).length, 4);
  } finally {
    await service.close();
  }
  const again = replaying("service");
  assert.equal((await again.run(MODEL, { prompt: "text" })).response, "One two three");
  const called = await again.run(MODEL, { prompt: "call", tools: TOOLS });
  assert.deepEqual([called.response, called.tool_calls[0].arguments, called.usage.completion_tokens], ["Well,", { colour: "red" }, 2]);
  assert.equal((await (await ask(again, { messages: user("text") })).json()).choices[0].message.content, "One two three");
  const events = eventsIn(...(await chunksOf((await ask(again, { messages: user("call"), tools: openaiTools, stream: true })).body)));
  assert.match(events.join("\n"), /"arguments":"\{\\"colour\\":\\"red\\"\}"/);
});

test("of the service, answers of other tasks are recorded as they are, and broken ones are not", async () => {
  const events = (...data) => data.map((each) => `data: ${each}\n\n`).join("");
  const answers = {
    bge: { type: "application/json", body: JSON.stringify({ success: true, result: { shape: [1, 2], data: [[0.5, -1]] } }) },
    cut: { type: "text/event-stream", body: 'data: {"response":"a"}\n\ndata: {"respo' },
    open: { type: "text/event-stream", body: events('{"response":"a"}') },
    failed: { type: "text/event-stream", body: events('{"response":"a"}', '{"errors":[{"code":3040,"message":"busy"}]}', "[DONE]") },
    whole: { type: "text/event-stream", body: events('{"response":"a"}', '{"response":"b","usage":{"prompt_tokens":1,"completion_tokens":2}}', "[DONE]") },
  };
  const service = await listening(
    createHttpServer((request, response) => {
      const { type, body } = answers[request.url.split("/").at(-1)];
      response.setHeader("content-type", type).end(body);
    }),
  );
  const record = { folder: path.join(folder, "tasks"), mode: "auto" };
  const remote = { remote: { "*": "always" }, account: { id: "a", token: "t", url: service.url } };
  const ask = async (ai, name) => {
    const answer = await ai.run(`@cf/a/${name}`, { prompt: "Hi", ...(name === "bge" ? {} : { stream: true }) });
    return answer instanceof ReadableStream ? new Response(answer).text() : answer;
  };
  try {
    const ai = new Ai({ ...NO_MODEL, ...remote, record, onWarning() {} });
    for (const name of ["cut", "open", "failed", "whole"]) assert.equal(await ask(ai, name), answers[name].body, name);
    assert.deepEqual(await ask(ai, "bge"), { shape: [1, 2], data: [[0.5, -1]] });
    assert.deepEqual((await filesOf("tasks")).map((name) => name.replace(/-.*/, "")), ["bge", "whole"]);
  } finally {
    await service.close();
  }
  const again = new Ai({ ...NO_MODEL, record });
  assert.deepEqual(await ask(again, "bge"), { shape: [1, 2], data: [[0.5, -1]] });
  assert.match(await ask(again, "whole"), /"response":"a".*"response":"b".*\[DONE\]/s);
});

test("what is no folder is refused", () => {
  for (const record of [3, "", {}, { folder: "a", mode: "never" }]) assert.throws(() => new Ai({ record }), AiInternalError);
});
