// The answers for every id fit the types that Cloudflare publishes for it, chunks and events of responses those of OpenAI's client, and events of
// older ids, of which nobody else publishes a type, that of the package. The types become JSON Schemas by ts-json-schema-generator, and Ajv
// compares: neither is ours.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { Ajv } from "ajv";
import { createGenerator } from "ts-json-schema-generator";
import { Ai } from "workers-ai-local";
import { eventData } from "workers-ai-local/sse";
import { CHATML, USER_DEFINED, scriptedModel } from "../scripted-model.mjs";
import { readValues } from "../sse.mjs";

/** Fields of answers that the types of some ids do not mention, which their clients ignore. `*` stands for each element of a list. */
const FURTHER_FIELDS = {
  // Clients of the binding read it: nothing else says that max_tokens ran out.
  finish_reason: "response",
  // In the types of newer ids only. `reasoning` is what other services call it.
  reasoning_content: "response",
  reasoning: "response",
  usage: "response",
  "usage.prompt_tokens_details": "response and chat",
  "usage.completion_tokens_details": "response and chat",
  // There are two notations of calls, of which some types mention one or none. A call has both.
  tool_calls: "response",
  "tool_calls.*.id": "response",
  "tool_calls.*.type": "response",
  "tool_calls.*.function": "response",
  "tool_calls.*.name": "response",
  "tool_calls.*.arguments": "response",
  "choices.*.message.reasoning_content": "chat",
  "choices.*.message.reasoning": "chat",
  // OpenAI's own type has it.
  "choices.*.message.refusal": "chat",
  "choices.*.delta.reasoning_content": "chunk",
  "choices.*.delta.reasoning": "chunk",
  // Two types of embeddings do not mention it. The stand-in, of the kind BERT, answers here for models that do not have it.
  pooling: "vectors",
  // OpenAI's own type has them.
  metadata: "responses",
  "output.*.content.*.annotations": "responses",
  "output.*.content.*.logprobs.*.bytes": "responses",
  "output.*.content.*.logprobs.*.top_logprobs.*.bytes": "responses",
  "usage.input_tokens_details": "responses",
  "usage.output_tokens_details": "responses",
  // They are in OpenAI's type of the whole text.
  "logprobs.*.bytes": "event",
  "logprobs.*.top_logprobs.*.bytes": "event",
  // Of a call's last event; Cloudflare's type has it.
  name: "event",
};

/**
 * Where answers differ from the published types on purpose: when, at which place, and a value of the published type.
 *
 * @type {{why: string, isOurs: (answer: object, input: object) => boolean, place: string, published: unknown}[]}
 */
const DIFFERENCES = [
  {
    why: "in JSON mode the service sends the value itself, as its documentation says; the types have only text",
    isOurs: ({ response }, { response_format }) => Boolean(response_format) && typeof response === "object" && response !== null,
    place: "response",
    published: "{}",
  },
  {
    why: "beside calls the service sends null; the types have only text",
    isOurs: ({ response, tool_calls }) => response === null && tool_calls.length > 0,
    place: "response",
    published: "",
  },
  {
    why: "OpenAI's clients need it; the types have it in chat completions only",
    isOurs: ({ object }) => object === "response",
    place: "model",
    published: undefined,
  },
  {
    why: "the default, as in OpenAI's type and in the service's inputs; the type has only none",
    isOurs: ({ object, tool_choice }) => object === "response" && ["auto", "required"].includes(tool_choice),
    place: "tool_choice",
    published: "none",
  },
  {
    why: "a response in progress has no counts yet, as in OpenAI's answers",
    isOurs: ({ status, usage }) => status === "in_progress" && usage === null,
    place: "usage",
    published: undefined,
  },
];

// ── The types ──

const FOLDER = fileURLToPath(new URL("published-types/", import.meta.url));
const generator = createGenerator({ path: `${FOLDER}answers.ts`, tsconfig: `${FOLDER}tsconfig.json`, skipTypeCheck: true, additionalProperties: true });
const answers = withWeakTypes(generator.createSchema("Answers"));
const chunk = generator.createSchema("Chunk");
const responsesEvent = generator.createSchema("ResponsesEvent");
const olderEvent = generator.createSchema("OlderEvent");
const ajv = new Ajv({ strict: false });
ajv.addSchema(answers, "answers");
const fitsChunk = ajv.compile(chunk);
const fitsResponsesEvent = ajv.compile(responsesEvent);
const fitsOlderEvent = ajv.compile(olderEvent);
/** Of each id: its type, which is a reference to one of the definitions. */
const types = answers.definitions.Answers.properties;

/** As in TypeScript, a type of which every field is optional needs one of them: otherwise it would take every object. */
function withWeakTypes(schema) {
  if (typeof schema !== "object" || schema === null) return schema;
  if (schema.type === "object" && schema.properties && !schema.required) schema.anyOf = Object.keys(schema.properties).map((key) => ({ required: [key] }));
  for (const [key, part] of Object.entries(schema)) if (key !== "anyOf" || !schema.properties) withWeakTypes(part);
  return schema;
}

const validators = new Map();
/** Compiled once for each distinct type. */
function validatorOf({ $ref }) {
  if (!validators.has($ref)) validators.set($ref, ajv.compile({ $ref: `answers${$ref}` }));
  return validators.get($ref);
}

/** The places in a value that none of the schemas mentions. */
function unmentioned(value, schemas, definitions, place = []) {
  if (typeof value !== "object" || value === null) return [];
  const all = schemas.flatMap((schema) => resolved(schema, definitions));
  if (Array.isArray(value)) {
    const items = all.flatMap(({ items }) => items ?? []);
    return value.flatMap((item) => unmentioned(item, items, definitions, [...place, "*"]));
  }
  // A type without properties takes any.
  if (all.some(({ type, properties }) => (type === undefined || type === "object") && !properties)) return [];
  return Object.entries(value).flatMap(([key, item]) => {
    const own = all.flatMap(({ properties }) => (properties && Object.hasOwn(properties, key) ? [properties[key]] : []));
    return own.length === 0 ? [[...place, key].join(".")] : unmentioned(item, own, definitions, [...place, key]);
  });
}

/** A schema without references, as its alternatives. */
function resolved(schema, definitions) {
  if (schema.$ref) return resolved(definitions[decodeURIComponent(schema.$ref.slice("#/definitions/".length))], definitions);
  const parts = schema.properties ? [] : [...(schema.anyOf ?? []), ...(schema.allOf ?? [])];
  return parts.length > 0 ? parts.flatMap((part) => resolved(part, definitions)) : [schema];
}

// ── The answers ──

const table = (await readFile(new URL("../../src/catalog.tsv", import.meta.url), "utf8")).trim().split("\n");
const rows = table.filter((line) => !line.startsWith("#")).map((line) => line.split("\t"));
/** The ids that have a type. */
const models = rows.map(([id, , , , , shape]) => ({ id, isChat: shape.startsWith("chat"), completesText: shape === "chat+text", responds: shape === "chat+responses" })).filter(({ id }) => id in types);

const messages = [{ role: "user", content: "Hi" }];
const OBJECT = { type: "object", properties: { a: { type: "boolean" } }, required: ["a"], additionalProperties: false };
const TOOLS = { tools: [{ type: "function", function: { name: "f", description: "Does nothing", parameters: OBJECT } }], tool_choice: "required" };
const FORMAT = { response_format: { type: "json_schema", json_schema: OBJECT } };
const THOUGHT = {
  // The tags are those that the template mentions.
  template: CHATML.replace("assistant\\n' }}", "assistant\\n' }}{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"),
  script: ["<think>", "I", " wonder", ".", "</think>", "\n\n", "Hello", "!"],
  tokens: ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED })),
};
const plain = new Ai({ default: scriptedModel().bytes, onWarning() {} });
const thinking = new Ai({ default: scriptedModel(THOUGHT).bytes, onWarning() {} });
after(() => Promise.all([plain.close(), thinking.close()]));

/** What is asked: the input, of which model, and what must be in the answer, so that the comparison is about it. */
const QUESTIONS = {
  "a prompt": { input: { prompt: "Hi" }, has: /Hello there!/ },
  "a conversation": { input: { messages }, has: /Hello there!/ },
  "forced calls": { input: { messages, ...TOOLS }, has: /"tool_calls":\[\{.*"name":"f"/ },
  "a tool that is not called": { input: { messages, ...TOOLS, tool_choice: "auto" }, has: /Hello there!/ },
  "JSON mode": { input: { messages, ...FORMAT }, has: /"a\\?":/ },
  "no room": { input: { messages, max_tokens: 1 }, has: /"length"/ },
  "thoughts": { ai: thinking, input: { messages }, has: /"reasoning_content":"I wonder\."/ },
  "thoughts before calls": { ai: thinking, input: { messages, ...TOOLS }, has: /"reasoning_content":"I wonder\.".*"tool_calls"|"tool_calls".*"reasoning_content":"I wonder\."/ },
  "two choices": { input: { messages, n: 2 }, has: /"index":1/, onlyChat: true },
  "log probabilities": { input: { messages, logprobs: true, top_logprobs: 2 }, has: /"top_logprobs":\[\{/, onlyChat: true },
  "two choices of a prompt, with log probabilities": { input: { prompt: "Hi", n: 2, logprobs: true }, has: /"index":1/, onlyChat: true },
};

/** The fields and differences that occurred. */
const seen = new Set();

/** An answer with values of the published types where it differs on purpose. */
function asPublished(answer, input) {
  const changed = { ...answer };
  for (const difference of DIFFERENCES.filter(({ isOurs }) => isOurs(answer, input))) {
    changed[difference.place] = difference.published;
    if (difference.published === undefined) delete changed[difference.place];
    seen.add(difference);
  }
  return changed;
}

/** Checks that the type mentions each field, or that the field is listed. */
function assertMentioned(value, schema, definitions, shape) {
  for (const place of unmentioned(value, [schema], definitions)) {
    assert.ok(FURTHER_FIELDS[place]?.split(" and ").includes(shape), `the type does not mention ${place}: ${JSON.stringify(value)}`);
    seen.add(place);
  }
}

test("the types are those of the catalogue", () => {
  assert.ok(models.length > 55, `${models.length} ids`);
  assert.ok(new Set(models.map(({ id }) => types[id].$ref)).size > 10);
});

/** Checks an answer, or an event of a stream. */
function assertFits(fits, value, schema, definitions, shape) {
  assertMentioned(value, schema, definitions, shape);
  assert.ok(fits(value), `${JSON.stringify(value)}: ${ajv.errorsText(fits.errors)}`);
}

for (const { id, isChat, completesText } of models) {
  describe(id, () => {
    for (const [name, { ai = plain, input, has, onlyChat }] of Object.entries(QUESTIONS)) {
      if (onlyChat && !isChat) continue;
      test(`the answer to ${name} fits the type`, async () => {
        const answer = await ai.run(id, input);
        assert.match(JSON.stringify(answer), has);
        assertFits(validatorOf(types[id]), asPublished(answer, input), types[id], answers.definitions, isChat ? "chat" : "response");
      });

      test(`so do the events of the stream of ${name}`, async () => {
        const events = await readValues(await ai.run(id, { ...input, stream: true }));
        assert.ok(events.length > 1);
        for (const event of events) {
          if (!isChat) {
            assertFits(fitsOlderEvent, event, olderEvent, olderEvent.definitions, "none");
          } else if (completesText && input.prompt) {
            // OpenAI's client has no type for these chunks.
            assert.equal(event.object, "text_completion");
            for (const { text } of event.choices) assert.equal(typeof text, "string");
          } else {
            assertFits(fitsChunk, event, chunk, chunk.definitions, "chunk");
          }
        }
        if (!isChat) assert.ok(events.at(-1).usage && events.at(-1).finish_reason, JSON.stringify(events.at(-1)));
      });
    }
  });
}

// ── Responses ──

const [text, tool] = [{ format: { type: "json_schema", name: "o", schema: OBJECT } }, { type: "function", name: "f", parameters: OBJECT, strict: true }];
const RESPONSES_QUESTIONS = {
  "a text": { input: { input: "Hi" }, has: /Hello there!/ },
  "messages and instructions": { input: { input: messages, instructions: "Be brief.", reasoning: { effort: "low" } }, has: /Hello there!/ },
  "forced calls": { input: { input: "Hi", tools: [tool], tool_choice: "required" }, has: /"type":"function_call"/ },
  "a schema": { input: { input: "Hi", text }, has: /"a\\?":/ },
  "no room": { input: { input: "Hi", max_output_tokens: 1 }, has: /"incomplete"/ },
  "thoughts": { ai: thinking, input: { input: "Hi" }, has: /"reasoning_text","text":"I wonder\."|"text":"I wonder\.","type":"reasoning_text"/ },
  "log probabilities": { input: { input: "Hi", include: ["message.output_text.logprobs"], top_logprobs: 2 }, has: /"top_logprobs":\[\{/ },
};

for (const { id } of models.filter(({ responds }) => responds)) {
  describe(`${id}, asked with an input`, () => {
    for (const [name, { ai = plain, input, has }] of Object.entries(RESPONSES_QUESTIONS)) {
      test(`the response to ${name} fits the type`, async () => {
        const answer = await ai.run(id, input);
        assert.match(JSON.stringify(answer), has);
        assertFits(validatorOf(types[id]), asPublished(answer, input), types[id], answers.definitions, "responses");
      });

      test(`so do the events of the stream of ${name}`, async () => {
        const events = [];
        for await (const data of eventData(await ai.run(id, { ...input, stream: true }))) events.push(JSON.parse(data));
        assert.ok(events.length > 4);
        for (const event of events) {
          assertFits(fitsResponsesEvent, event, responsesEvent, responsesEvent.definitions, "event");
          const { response } = event;
          if (response) assertFits(validatorOf(types[id]), asPublished(response, input), types[id], answers.definitions, "responses");
        }
      });
    }
  });
}

// ── Embeddings ──

const contexts = [{ text: "a" }, { text: "b" }];
const EMBEDDING_QUESTIONS = {
  "a text": { input: { text: "a" }, has: /"shape":\[1,384\]/ },
  "texts": { input: { text: ["a", "b"], pooling: "cls" }, has: /"shape":\[2,384\]/ },
  "contexts and a query": { input: { query: "a", contexts }, has: /"score":/, only: "@cf/baai/bge-m3" },
  "contexts": { input: { contexts }, has: /"shape":\[2,384\]/, only: "@cf/baai/bge-m3" },
  "queries and documents": { input: { queries: "a", documents: ["a", "b"], instruction: "Find" }, has: /"shape":\[3,384\]/, only: "@cf/qwen/qwen3-embedding-0.6b" },
};
const embeddingIds = (await plain.models({ task: "Text Embeddings" })).map(({ name }) => name).filter((name) => name in types);

test("the types of embeddings are those of the catalogue", () => {
  // The stand-in itself has none.
  assert.equal(embeddingIds.length, 6);
});

for (const id of embeddingIds) {
  describe(id, () => {
    for (const [name, { input, has, only = id }] of Object.entries(EMBEDDING_QUESTIONS)) {
      if (only !== id) continue;
      test(`the answer to ${name} fits the type`, async () => {
        const answer = await plain.run(id, input);
        assert.match(JSON.stringify(answer), has);
        assertFits(validatorOf(types[id]), answer, types[id], answers.definitions, "vectors");
      });
    }
  });
}

test("an answer of another shape, or with a wrong value, does not fit", async () => {
  const [older, newer] = await Promise.all(["@cf/qwen/qwq-32b", "@cf/zai-org/glm-5.3"].map((id) => plain.run(id, { messages })));
  for (const { id, isChat } of models) {
    const fits = validatorOf(types[id]);
    // A type of which every field is optional takes every object: the fields themselves say that it is another one.
    const other = isChat ? older : newer;
    assert.ok(!fits(other) || unmentioned(other, [types[id]], answers.definitions).length > 1, id);
    assert.ok(!fits(isChat ? { ...newer, choices: "none" } : { ...older, response: 5 }), id);
  }
  for (const id of embeddingIds) {
    const vectors = await plain.run(id, { text: "a" });
    assert.ok(!validatorOf(types[id])({ ...vectors, shape: "none" }), id);
    // A type with several forms takes a field of another form as one that it does not mention.
    if (id !== "@cf/baai/bge-m3") assert.ok(!validatorOf(types[id])({ ...vectors, data: [["a"]] }), id);
  }
  for (const { id } of models.filter(({ responds }) => responds)) {
    const response = asPublished(await plain.run(id, { input: "Hi" }), {});
    const fits = validatorOf(types[id]);
    assert.ok(fits(response) && !fits({ ...response, output: "none" }) && !fits({ ...response, output: [{ type: "message" }] }), id);
    assert.ok(!fits(newer.choices[0]) && !fits(older), id);
  }
  const delta = { type: "response.output_text.delta", item_id: "a", output_index: 0, content_index: 0, delta: "Hi", logprobs: [], sequence_number: 1 };
  assert.ok(fitsResponsesEvent(delta) && !fitsResponsesEvent({ ...delta, delta: 5 }) && !fitsResponsesEvent({ ...delta, type: "response.other" }));
  const last = (await readValues(await plain.run("@cf/qwen/qwq-32b", { messages, stream: true }))).at(-1);
  assert.ok(fitsOlderEvent(last));
  for (const wrong of [{ ...last, response: null }, { ...last, usage: { prompt_tokens: 1 } }, { ...last, finish_reason: "other" }, { ...last, tool_calls: [{}] }]) {
    assert.ok(!fitsOlderEvent(wrong), JSON.stringify(wrong));
  }
  const [event] = await readValues(await plain.run("@cf/zai-org/glm-5.3", { messages, stream: true }));
  assert.ok(fitsChunk(event));
  for (const wrong of [{ ...event, choices: undefined }, { ...event, object: "chat.completion" }, { ...event, choices: [{ index: 0, delta: {} }] }]) {
    assert.ok(!fitsChunk(JSON.parse(JSON.stringify(wrong))), JSON.stringify(wrong));
  }
});

test("every listed field and difference occurs", () => {
  assert.deepEqual([...Object.keys(FURTHER_FIELDS), ...DIFFERENCES].filter((each) => !seen.has(each)), []);
});
