// The requests of `npm run soak`: a small model whose answers depend on everything in a request, and random questions to it and to the real model.

import { Random } from "./random.mjs";
import { MODEL } from "./real-model.mjs";
import { boundedSchema } from "./schemas.mjs";
import { CONTROL, scriptedFile } from "./scripted-model.mjs";

/** The id of the small model. */
export const SMALL = "@cf/own/small";

const WORDS = (
  " the| a| of| and| to| in| it| was| that| he| she| they| with| not| one| sky| blue| why| because| light| sea| moon|, |. |! |\n|? |ing|ed|s|er| über| naïve| 日本|語| 👋|🏽|🇩🇪|é" +
  "| say| \"quoted\"| (so)|: |; | 42| 7| x| <b>| &amp;|\t|…|—"
).split("|");
const SENTENCES = ["Why is the sky blue?", "Name a colour.", "Hello!", "What is 2 + 2?", "Erzähle mir eine Geschichte.", "日本の首都は?", "Say it again 👋🏽", "Go on."];
/** Begins a call in the answer of the small model: its template ends with this token where a request has tools. */
const CALL = "<|call|>";
const TEMPLATE =
  "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% if m.tool_calls %}{{ m.tool_calls | tojson }}{% endif %}<|im_end|>\n{% endfor %}" +
  `<|im_start|>assistant\n{% if tools %}${CALL}{% endif %}`;
const TOOLS = [
  {
    name: "look_up",
    description: "Looks a word up",
    parameters: { type: "object", properties: { key: { type: "string", maxLength: 20 }, count: { type: "integer", minimum: 0, maximum: 99 } }, required: ["key"] },
  },
  { type: "function", function: { name: "now", description: "The time", parameters: { type: "object", properties: { zone: { enum: ["UTC", "CET"] } }, required: ["zone"] } } },
];

/** Writes the small model to a file; `remove` deletes it. */
export const smallModel = () =>
  scriptedFile({
    template: TEMPLATE,
    after: CALL,
    tokens: [{ text: CALL, kind: CONTROL }],
    script: ["I'll look. ", "<tool_call>\n", '{"name": "look_up", ', '"arguments": {"key": "blue', ' sky", "count": 3}}', "\n</tool_call>"],
    noise: { random: new Random(1), words: WORDS },
  });

/**
 * A question: one input without `stream`, and the model that it is for. Its answer is always the same.
 *
 * @typedef {{model: string, input: object}} Question
 */

/** `count` distinct questions to the small model. @returns {Question[]} */
export const smallQuestions = (random, count) => distinct(count, () => ({ model: SMALL, input: smallInput(random) }));

/** `count` distinct questions to the real model. @returns {Question[]} */
export const realQuestions = (random, count) => distinct(count, () => ({ model: MODEL, input: realInput(random) }));

function distinct(count, make) {
  const made = new Map();
  for (let tries = 0; made.size < count && tries < 20 * count; tries += 1) {
    const question = make();
    made.set(JSON.stringify(question), question);
  }
  return [...made.values()];
}

/** Sampling that gives the same text each time. */
function sampling(random) {
  if (random.chance(0.15)) return { temperature: 0 };
  return {
    temperature: random.int(3, 15) / 10,
    seed: random.seed(),
    ...(random.chance(0.3) && { top_p: random.int(5, 10) / 10 }),
    ...(random.chance(0.3) && { top_k: random.int(2, 50) }),
    ...(random.chance(0.2) && { repetition_penalty: 1.2 }),
    ...(random.chance(0.2) && { frequency_penalty: 0.5, presence_penalty: 0.5 }),
  };
}

/** Turns of a conversation. They share beginnings with one another, so that requests reuse one another's caches. */
function conversation(random, sentences = SENTENCES) {
  const turns = Array.from({ length: random.int(0, 3) }, (_, index) => [
    { role: "user", content: sentences[index % sentences.length] },
    { role: "assistant", content: `Answer ${index}${random.chance(0.2) ? "!" : "."}` },
  ]);
  const system = random.chance(0.3) ? [{ role: "system", content: "Be brief." }] : [];
  return [...system, ...turns.flat(), { role: "user", content: random.pick(sentences) }];
}

const asking = (random) => (random.chance(0.3) ? { prompt: random.pick(SENTENCES) } : { messages: conversation(random) });

function smallInput(random) {
  const base = { ...asking(random), ...sampling(random), max_tokens: random.int(1, 80) };
  switch (random.pick(["chat", "chat", "chat", "raw", "raw", "stop", "auto", "required", "named", "object", "schema", "schema", "wrong"])) {
    case "raw":
      return { ...base, messages: undefined, prompt: random.pick(SENTENCES).repeat(random.int(1, 8)), raw: true };
    case "stop":
      return { ...base, stop: random.some(["the", " sky", ".", "👋", "日", "e s", "\n", "it was"], random.int(1, 3)) };
    case "auto":
      return { ...base, tools: TOOLS, ...(random.chance(0.5) && { tool_choice: "auto" }) };
    case "required":
      return { ...base, tools: TOOLS, tool_choice: "required", max_tokens: 200 };
    case "named":
      return { ...base, tools: TOOLS, tool_choice: { type: "function", function: { name: "now" } }, max_tokens: 100 };
    case "object":
      return { ...base, response_format: { type: "json_object" }, max_tokens: 300 };
    case "schema":
      return { ...base, response_format: { type: "json_schema", json_schema: boundedSchema(random) }, max_tokens: 600 };
    case "wrong":
      return random.chance(0.5) ? { ...base, max_tokens: 100_000 } : { ...base, temperature: 7 };
    default:
      return base;
  }
}

function realInput(random) {
  const base = { ...asking(random), ...sampling(random), max_tokens: random.int(2, 12) };
  switch (random.pick(["chat", "chat", "raw", "stop", "required", "schema"])) {
    case "raw":
      return { ...base, messages: undefined, prompt: random.pick(["Once upon a time", "The capital of France is", "def main():"]), raw: true };
    case "stop":
      return { ...base, stop: [" the", "."] };
    case "required":
      return { ...base, tools: [TOOLS[1]], tool_choice: "required", max_tokens: 60 };
    case "schema":
      return { ...base, response_format: { type: "json_schema", json_schema: { type: "object", properties: { yes: { type: "boolean" } }, required: ["yes"] } }, max_tokens: 20 };
    default:
      return base;
  }
}
