// The API surfaces of one `Ai` (`run()`, the binding's wire format, REST, OpenAI): each takes requests in its own format and returns its
// answers as an `Outcome`.

import assert from "node:assert/strict";
import { InferenceUpstreamError } from "workers-ai-local";
import { MODEL } from "./real-model.mjs";
import { answerIn, chunksOf, eventsIn } from "./sse.mjs";

const ORIGIN = "https://workers-binding.ai";
const ACCOUNT = "https://api.cloudflare.com/client/v4/accounts/0123456789abcdef/ai";

/** The HTTP status of each error code, according to the contract. */
export const STATUS = {
  3003: 400,
  3006: 413,
  3007: 408,
  3008: 408,
  3036: 429,
  3040: 429,
  3042: 404,
  5004: 400,
  5005: 405,
  5006: 400,
  5007: 400,
  5021: 413,
  5024: 400,
};

/**
 * The answer of a surface.
 *
 * @typedef {object} Outcome
 * @property {number} [code] error code; set on errors only
 * @property {string} [message] error message; set on errors only
 * @property {Headers} [headers] response headers, where the surface has them
 * @property {object} [body] the unmodified body of an answer that is not streamed
 * @property {unknown} [response] its text, or its value in JSON mode; null if it contains tool calls
 * @property {string} [text] the text of the answer, streamed or not
 * @property {string[]} [pieces] the pieces of text of a stream
 * @property {string[]} [events] the unmodified events of a stream
 * @property {string} [reasoning] what the model thought
 * @property {{text: string, logprobs: object[] | null}[]} [choices] all choices of a chat completion
 * @property {{name: string, arguments: object}[]} tool_calls
 * @property {object} [usage]
 * @property {string} [finish_reason]
 */

/**
 * All surfaces of an `Ai`. Of each, `ask(input, model)` resolves to an `Outcome`, `open(input, model)` to the byte stream of a streamed
 * answer.
 */
export function surfacesOf(ai) {
  const post = (url, headers, body) => ai.fetch(url, { method: "POST", headers, body: JSON.stringify(body) });
  const wire = (input, model) => {
    const headers = { "content-type": "application/json", "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": model };
    return post(`${ORIGIN}/run?version=3`, headers, { inputs: input, options: {} });
  };
  const rest = (input, model) => post(`${ACCOUNT}/run/${encodeURIComponent(model)}`, {}, input);
  // A stream contains the usage only if the request asks for it.
  const openAi = (input, model) => {
    const { stream_options = input.stream ? { include_usage: true } : undefined } = input;
    return post(`${ACCOUNT}/v1/${openAiPath(input, model)}`, { "content-type": "application/json" }, { model, ...input, stream_options });
  };
  return {
    run: overRun(ai),
    wire: overHttp(wire, { error: wireError, object: bindingObject, stream: bindingStream }),
    rest: overHttp(rest, {
      error: restError,
      object: ({ result, success, errors, messages }, input) => {
        assert.deepEqual({ success, errors, messages }, { success: true, errors: [], messages: [] });
        return bindingObject(result, input);
      },
      stream: bindingStream,
    }),
    openAi: overHttp(openAi, { error: openAiError, object: openAiObject, stream: openAiStream }),
  };
}

/** OpenAI's route for an input, below `/v1`. */
export function openAiPath(input, model) {
  if (!("input" in input)) return "chat/completions";
  return /bge|embedding/.test(model) ? "embeddings" : "responses";
}

function overRun(ai) {
  return {
    async ask(input, model = MODEL) {
      try {
        const answer = await ai.run(model, input);
        return answer instanceof ReadableStream ? bindingStream(await chunksOf(answer)) : bindingObject(answer, input);
      } catch (error) {
        if (!(error instanceof InferenceUpstreamError)) throw error;
        const [, code, message] = /^(\d{4}): (.+)$/s.exec(error.message);
        assert.deepEqual([ai.lastRequestInternalStatusCode, ai.lastRequestHttpStatusCode], [Number(code), STATUS[code]]);
        return { code: Number(code), message };
      }
    },
    open: (input, model = MODEL) => ai.run(model, { ...input, stream: true }),
  };
}

function overHttp(send, { error, object, stream }) {
  const isStream = ({ headers }) => headers.get("content-type") === "text/event-stream";
  return {
    async ask(input, model = MODEL) {
      const response = await send(input, model);
      const { status, headers } = response;
      if (isStream(response)) return { headers, ...stream(await chunksOf(response.body)) };
      const body = await response.json();
      if (status === 200) return { headers, ...object(body, input) };
      const { code, message } = error(body, status);
      assert.equal(status, STATUS[code], `code ${code} with status ${status}`);
      return { headers, code, message };
    },
    async open(input, model = MODEL) {
      const response = await send({ ...input, stream: true }, model);
      assert.ok(response.status === 200 && isStream(response), `a stream, not ${response.status}`);
      return response.body;
    },
  };
}

const flat = ({ name, arguments: values }) => ({ name, arguments: values });
const unnested = ({ function: { name, arguments: text } }) => ({ name, arguments: JSON.parse(text) });
const inText = (value) => (typeof value === "string" ? value : undefined);

function bindingObject(body, input) {
  if (body.choices) return openAiObject(body, input);
  const { response, tool_calls = [], usage, finish_reason, reasoning_content: reasoning } = body;
  return { body, response, text: inText(response), reasoning, tool_calls: tool_calls.map(flat), usage, finish_reason };
}

function bindingStream(chunks) {
  const events = eventsIn(...chunks);
  if (JSON.parse(events[0]).choices) return openAiStream(chunks);
  const { text, pieces, usage, finish_reason } = answerIn(...chunks);
  const parsed = events.slice(0, -1).map((event) => JSON.parse(event));
  const calls = parsed.flatMap(({ tool_calls }) => tool_calls ?? []);
  const reasoning = parsed.map(({ reasoning_content }) => reasoning_content ?? "").join("") || undefined;
  return { text, pieces: pieces.filter(Boolean), events, reasoning, tool_calls: distinct(calls).map(unnested), usage, finish_reason };
}

function openAiObject(body, input) {
  assert.equal(body.object, "chat.completion");
  assert.ok(typeof body.id === "string" && Number.isInteger(body.created) && typeof body.model === "string");
  assert.equal(body.choices.length, input.n ?? 1);
  for (const [index, choice] of body.choices.entries()) assert.deepEqual([choice.index, choice.message.role], [index, "assistant"]);
  const [{ message, finish_reason }] = body.choices;
  const { content, tool_calls, reasoning_content: reasoning } = message;
  const isJson = input.response_format?.type?.startsWith("json") && content !== null;
  return {
    body,
    response: isJson ? JSON.parse(content) : content,
    text: inText(content),
    reasoning,
    choices: body.choices.map(({ message, logprobs }) => ({ text: inText(message.content), logprobs: logprobs?.content ?? null })),
    tool_calls: (tool_calls ?? []).map(unnested),
    usage: body.usage,
    finish_reason,
  };
}

function openAiStream(chunks) {
  const events = eventsIn(...chunks);
  assert.equal(events.at(-1), "[DONE]");
  const parsed = events.slice(0, -1).map((event) => JSON.parse(event));
  for (const { object, choices } of parsed) assert.ok(object === "chat.completion.chunk" && Array.isArray(choices));
  const usages = parsed.filter(({ usage }) => usage);
  for (const chunk of usages) assert.deepEqual([chunk.choices, chunk], [[], parsed.at(-1)], "the last chunk contains only the usage");
  const changes = [];
  for (const change of parsed.flatMap(({ choices }) => choices)) (changes[change.index] ??= []).push(change);
  for (const own of changes) assert.equal(own.filter(({ finish_reason }) => finish_reason).length, 1, "exactly one chunk of each choice has a finish_reason");
  const textOf = (own, field) => own.map(({ delta }) => delta[field] ?? "").join("");
  const [first] = changes;
  return {
    text: textOf(first, "content"),
    pieces: first.map(({ delta }) => delta.content).filter(Boolean),
    events,
    reasoning: textOf(first, "reasoning_content") || undefined,
    choices: changes.map((own) => {
      const logprobs = own.flatMap(({ logprobs }) => logprobs?.content ?? []);
      return { text: textOf(own, "content"), logprobs: logprobs.length > 0 ? logprobs : null };
    }),
    tool_calls: distinct(first.flatMap(({ delta }) => delta.tool_calls ?? [])).map(unnested),
    usage: usages[0]?.usage,
    finish_reason: first.at(-1).finish_reason,
  };
}

/** The calls of a stream. Checks that each is complete and has a distinct index. */
function distinct(calls) {
  assert.equal(new Set(calls.map(({ index }) => index)).size, calls.length);
  for (const { index, id, type } of calls) assert.ok(Number.isInteger(index) && typeof id === "string" && type === "function");
  return calls;
}

function wireError({ name, internalCode, httpCode, message, description }, status) {
  assert.deepEqual([name, message, httpCode], ["AiError", `AiError: ${description}`, status]);
  return { code: internalCode, message: description };
}

function restError({ result, success, errors, messages }) {
  assert.deepEqual([result, success, errors.length, messages], [{}, false, 1, []]);
  const [{ code, message }] = errors;
  assert.match(message, /^AiError: /);
  return { code, message: message.slice("AiError: ".length) };
}

function openAiError({ error, errors }) {
  assert.ok(typeof error.message === "string" && typeof error.type === "string");
  const [{ code, message }] = errors;
  assert.equal(String(error.code), String(code));
  const text = message.replace(/^AiError: /, "");
  assert.ok(error.message.includes(text), "both fields contain the message");
  return { code, message: text };
}
