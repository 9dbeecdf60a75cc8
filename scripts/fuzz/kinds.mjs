// The kinds of inputs of `npm run fuzz`: of each, one random input to the package. `say` is called with the input before it is used, so that it is
// known when it never returns.

import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { CONTROL_TOKENS, TOOLS, conversation, kwargs, schema, scriptOf, spokenText, template } from "../../tests/fuzz-chats.mjs";
import { mutatedFile, tinyModel } from "../../tests/fuzz-files.mjs";
import { LIVE_JUNK, damagedRequest, mutatedInput, mutatedRequest, pathRequest, shown, shownRequest } from "../../tests/fuzz-inputs.mjs";
import { Random } from "../../tests/random.mjs";
import { MODEL } from "../../tests/real-model.mjs";
import { validatorOf } from "../../tests/schemas.mjs";
import { scriptedModel } from "../../tests/scripted-model.mjs";
import { answerIn, chunksOf } from "../../tests/sse.mjs";

/** @import { Random as RandomNumbers } from "../../tests/random.mjs" */

/** Anything that is not an answer or a documented error. */
export class Fault extends Error {}

const OWN = "@cf/own/fuzz";
const HI = { messages: [{ role: "user", content: "Hi" }] };
const STORY = { prompt: "Once upon", raw: true };

/** What a case adds to the counts: errors by their text, and answers. */
const ANSWER = "answer";

/** The text of an error of the package; any other error is a fault. */
function outcomeOf(error) {
  if (error instanceof InferenceUpstreamError) return error.message;
  throw error;
}

/** Runs `work` and returns the outcome: an answer, or the text of a documented error. */
const outcome = (work) => work().then(() => ANSWER, outcomeOf);

/** Reads an answer of any form to its end, or leaves it. */
async function finish(random, answer) {
  if (answer instanceof Response) return void (await answer.text());
  if (!(answer instanceof ReadableStream)) return;
  if (random.chance(0.7)) return void (await chunksOf(answer));
  const reader = answer.getReader();
  await reader.read();
  await reader.cancel();
}

/** An `Ai` for one model file. */
const aiOf = (bytes) => new Ai({ models: { [OWN]: bytes }, strict: true, backend: "cpu", threads: 1, onWarning() {} });

/** An `Ai` over a model that answers every id, for kinds whose input is the request alone. */
const shared = () => {
  const words = " a| b|{|}|\"|: |, |[|]|1|true|null|x|é| 日本|\n".split("|");
  const { bytes } = scriptedModel({ noise: { random: new Random(1), words } });
  return new Ai({ default: bytes, models: { [MODEL]: bytes }, backend: "cpu", threads: 1, onWarning() {} });
};

/**
 * The kinds by name. `open` returns the function that tries one input; it resolves to the outcomes.
 *
 * @type {Record<string, (options: {templates: string[]}) => (random: RandomNumbers, say: (input: unknown) => void) => Promise<string[]>>}
 */
export const KINDS = {
  run() {
    const ai = shared();
    return async (random, say) => {
      const input = mutatedInput(random, LIVE_JUNK);
      say(shown(input) ?? String(input));
      const options = random.pick([undefined, null, {}, { returnRawResponse: true }]);
      return [await outcome(async () => finish(random, await ai.run(MODEL, input, options)))];
    };
  },

  tokenize() {
    const ai = shared();
    return async (random, say) => {
      const input = random.chance(0.5) ? mutatedInput(random, LIVE_JUNK) : { messages: conversation(random), ...kwargs(random) };
      say(shown(input) ?? String(input));
      return [await outcome(() => ai.tokenize(MODEL, input))];
    };
  },

  fetch() {
    const ai = shared();
    return async (random, say) => {
      const request = random.pick([mutatedRequest, mutatedRequest, damagedRequest, pathRequest])(random);
      say(shownRequest(request));
      const response = await ai.fetch(request.url, request.init);
      if (response.headers.get("content-type") === "text/event-stream") return [await outcome(() => finish(random, response.body))];
      const text = await response.text();
      if (response.status >= 500) throw new Fault(`HTTP ${response.status}: ${text}`);
      return [response.ok ? ANSWER : errorIn(text, response.status)];
    };
  },

  template({ templates }) {
    return async (random, say) => {
      const source = template(random, templates);
      const ai = aiOf(scriptedModel({ template: source, tokens: CONTROL_TOKENS }).bytes);
      const outcomes = [];
      for (let count = random.int(1, 8); count > 0; count -= 1) {
        const tools = random.chance(0.4) ? { tools: random.some(TOOLS, random.int(1, 3)) } : {};
        const input = { messages: conversation(random), ...tools, ...kwargs(random), max_tokens: 3 };
        say({ template: source, input });
        outcomes.push(await outcome(() => (random.chance(0.5) ? ai.tokenize(OWN, input) : ai.run(OWN, input))));
      }
      await ai.close();
      return outcomes;
    };
  },

  file() {
    return (random, say) => {
      const bytes = random.chance(0.25) ? tinyModel(random) : mutatedFile(random);
      say(`a file of ${bytes.length} bytes`);
      return load(random, bytes);
    };
  },

  schema() {
    const ai = shared();
    return async (random, say) => {
      const { schema: json_schema, isValid } = schema(random);
      const base = { ...HI, seed: random.seed(), temperature: random.pick([0, 0.6, 1, 5]), max_tokens: random.pick([1, 20, 100, 300]) };
      const asTool = random.chance(0.4);
      const input = asTool
        ? { ...base, tools: [{ name: "f", parameters: json_schema }], tool_choice: random.pick(["required", "auto", { type: "function", function: { name: "f" } }]) }
        : { ...base, response_format: { type: "json_schema", json_schema } };
      say(input);
      return [
        await outcome(async () => {
          const { response, tool_calls = [] } = await ai.run(MODEL, input);
          const validate = isValid ? validatorOf(json_schema) : undefined;
          for (const value of asTool ? tool_calls.map((call) => call.arguments) : [response]) {
            const errors = validate?.(value);
            if (errors) throw new Fault(`the answer does not fit its schema: ${errors}: ${JSON.stringify(value)}`);
          }
        }),
      ];
    };
  },

  reader() {
    return async (random, say) => {
      const text = spokenText(random);
      const script = scriptOf(random, text);
      if (!script) return [];
      const input = { ...HI, tools: TOOLS, max_tokens: 500, seed: 1 };
      say({ text, script: script.map((piece) => Buffer.from(piece).toString("latin1")) });
      const ai = aiOf(scriptedModel({ script }).bytes);
      const result = await outcome(async () => {
        const whole = await ai.run(OWN, input);
        const { text: streamed, ...last } = answerIn(...(await chunksOf(await ai.run(OWN, { ...input, stream: true }))));
        if (streamed !== (whole.response ?? "")) throw new Fault(`a stream says ${JSON.stringify(streamed)}, an object ${JSON.stringify(whole.response)}`);
        if (last.finish_reason !== whole.finish_reason) throw new Fault(`a stream ends with ${last.finish_reason}, an object with ${whole.finish_reason}`);
      });
      await ai.close();
      return [result];
    };
  },
};

/** The code and the text of an error response, whose form depends on the surface. A `HEAD` has no body. */
function errorIn(text, status) {
  if (text === "") return `HTTP ${status}`;
  const { internalCode, description, errors: [first] = [] } = JSON.parse(text);
  return `${internalCode ?? first.code}: ${description ?? first.message.replace(/^AiError: /, "")}`;
}

/** Loads a file and computes three tokens, for a conversation and for a raw prompt. */
async function load(random, bytes) {
  const ai = aiOf(bytes);
  const outcomes = [];
  for (const question of [HI, STORY]) {
    outcomes.push(await outcome(() => ai.run(OWN, { ...question, max_tokens: 3, temperature: random.pick([0, 1]), seed: 1 })));
    // A file that cannot be loaded says the same about the second question.
    if (outcomes[0] !== ANSWER) break;
  }
  await ai.close();
  return outcomes;
}
