// Answers from a script, in place of a model's: for unit tests.

import { AiInternalError, wireError } from "./errors.js";

/**
 * @import { ScriptAnswer, ScriptEntry } from "./index.d.ts"
 * @import { Asked, Reply } from "./internal.d.ts"
 */

/** The codes of the service that a script may give by their number: HTTP status and text. */
const ERRORS = /** @type {Record<number, [status: number, text: string]>} */ ({
  3003: [400, "Bad input"],
  3006: [413, "Request is too large"],
  3007: [408, "Request timeout"],
  3008: [408, "Request was aborted"],
  3036: [429, "You have used up your daily free allocation of 10,000 neurons"],
  3040: [429, "Capacity temporarily exceeded, please try again"],
  3042: [404, "Not found"],
  5004: [400, "Invalid data"],
  5005: [405, "LoRA unsupported"],
  5006: [400, "Bad input"],
  5007: [400, "No such model or task"],
  5021: [413, "The estimated number of input and maximum output tokens exceeded this model context window limit"],
  5024: [400, "JSON Mode couldn't be met"],
  5028: [410, "This model was deprecated"],
});

const MATCHERS = ["model", "input", "times"];
const CONTENTS = ["text", "json", "calls", "error"];
const ANSWER_KEYS = [...CONTENTS, "reasoning", "delay", "usage", "finish_reason"];

export class Script {
  /** @type {{entry: ScriptEntry, left: number}[]} */
  #entries;

  /**
   * @param {unknown} entries
   * @throws {AiInternalError} if an entry cannot be understood
   */
  constructor(entries) {
    if (!Array.isArray(entries)) throw new AiInternalError("script is a list of entries such as { input: /weather/, text: \"It rains.\" }.");
    this.#entries = entries.map((entry, index) => {
      if (typeof entry !== "function") check(entry, `script[${index}]`, [...MATCHERS, ...ANSWER_KEYS]);
      return { entry, left: entry.times ?? Infinity };
    });
  }

  /**
   * The answer of the first entry that matches; `undefined` if there is none.
   *
   * @param {Asked} asked
   * @returns {Promise<Reply | undefined>}
   */
  async ask({ model, input }) {
    for (const [index, place] of this.#entries.entries()) {
      const { entry } = place;
      const name = `script[${index}]`;
      if (typeof entry === "function") {
        const answer = await entry(model, input);
        if (answer === undefined || answer === null) continue;
        check(answer, `the answer of ${name}`, ANSWER_KEYS);
        return { prepared: prepared(answer, name, input, false) };
      }
      if (place.left < 1 || !isFor(entry, model, input)) continue;
      place.left -= 1;
      return { prepared: prepared(entry, name, input, entry.model === model) };
    }
    return undefined;
  }
}

/**
 * @param {Asked} asked
 * @returns {Reply}
 */
export function unmatched(asked) {
  const text = `No entry of the script matches this request: ${described(asked)}`;
  return { prepared: JSON.stringify({ parts: [], error: wireError(5004, 400, text) }) };
}

/** Characters of an input in a message. */
const MAX_SHOWN = 600;

/**
 * A request in a message.
 *
 * @param {Asked} asked
 */
export function described({ model, input }) {
  const characters = [...JSON.stringify(input)];
  const shown = characters.length > MAX_SHOWN ? [...characters.slice(0, MAX_SHOWN), "…"] : characters;
  return `${model} with ${shown.join("")}`;
}

/**
 * @param {unknown} value an entry, or the answer of a function
 * @param {string} place
 * @param {string[]} keys
 */
function check(value, place, keys) {
  const wrong = (/** @type {string} */ text) => new AiInternalError(`${place} ${text}`);
  if (typeof value !== "object" || value === null || Array.isArray(value)) throw wrong("must be an object or a function.");
  const fields = /** @type {Record<string, unknown>} */ (value);
  for (const key of Object.keys(fields)) {
    if (!keys.includes(key)) throw wrong(`has an unknown field "${key}"; it may have ${keys.join(", ")}.`);
  }
  const { reasoning, text, json, calls, error, delay = 0, times = 1, finish_reason, usage } = fields;
  if (!CONTENTS.some((key) => fields[key] !== undefined)) throw wrong(`has no answer: give it ${CONTENTS.slice(0, 3).join(", ")} or ${CONTENTS[3]}.`);
  if (json !== undefined && text !== undefined) throw wrong("has both text and json; an answer has one of them.");
  if (text !== undefined && !isText(text)) throw wrong("has a text that is neither a string nor a list of strings.");
  if (reasoning !== undefined && !isText(reasoning)) throw wrong("has a reasoning that is neither a string nor a list of strings.");
  if (calls !== undefined && !(Array.isArray(calls) && calls.every((call) => typeof call?.name === "string"))) {
    throw wrong("has calls that are no list of { name, arguments }.");
  }
  if (error !== undefined) errorOf(error, place);
  if (!Number.isFinite(delay) || Number(delay) < 0) throw wrong("has a delay that is no number of milliseconds.");
  if (![undefined, "stop", "length"].includes(/** @type {any} */ (finish_reason))) throw wrong('has a finish_reason other than "stop" and "length".');
  const counts = Object.entries(usage ?? {});
  if (!counts.every(([name, count]) => ["prompt_tokens", "completion_tokens"].includes(name) && Number.isInteger(count) && count >= 0)) {
    throw wrong("has a usage that is not { prompt_tokens, completion_tokens }.");
  }
  if (!Number.isInteger(times) || Number(times) < 1) throw wrong("has times that are no number of answers.");
}

/** @param {unknown} text */
const isText = (text) => typeof text === "string" || (Array.isArray(text) && text.every((piece) => typeof piece === "string"));

/**
 * @param {unknown} error a code, or `{code, status, message}`
 * @param {string} place
 */
function errorOf(error, place) {
  const { code, status, message } = typeof error === "number" ? { code: error } : /** @type {any} */ (error ?? {});
  const [usualStatus, usualText] = ERRORS[code] ?? [];
  if (!Number.isInteger(code) || code < 0 || code > 65535 || (usualText === undefined && message === undefined)) {
    throw new AiInternalError(`${place} has an error that is neither one of ${Object.keys(ERRORS).join(", ")} nor { code, status, message }.`);
  }
  return wireError(code, status ?? usualStatus ?? 400, String(message ?? usualText));
}

/**
 * Whether an entry is for a request.
 *
 * @param {Exclude<ScriptEntry, Function>} entry
 * @param {string} model
 * @param {any} input
 */
function isFor({ model: wantedModel, input: wanted }, model, input) {
  if (wantedModel !== undefined && !matches(wantedModel, model)) return false;
  if (wanted === undefined) return true;
  if (typeof wanted === "function") return Boolean(wanted(input, model));
  return matches(wanted, typeof wanted === "string" || wanted instanceof RegExp ? lastText(input) : input);
}

/**
 * Whether a value has everything that a pattern has. A regular expression matches a string, an object an object with at least its fields.
 *
 * @param {any} pattern
 * @param {any} value
 * @returns {boolean}
 */
function matches(pattern, value) {
  if (pattern instanceof RegExp) return typeof value === "string" && value.search(pattern) >= 0;
  if (Array.isArray(pattern)) {
    return Array.isArray(value) && value.length === pattern.length && pattern.every((each, index) => matches(each, value[index]));
  }
  if (typeof pattern !== "object" || pattern === null) return Object.is(pattern, value);
  return typeof value === "object" && value !== null && Object.entries(pattern).every(([key, each]) => matches(each, value[key]));
}

/**
 * A list of the input, which is not validated yet.
 *
 * @param {any} value
 * @returns {any[]}
 */
const listOf = (value) => (Array.isArray(value) ? value : []);

/**
 * What the user said last: the prompt, or the text of the last user turn.
 *
 * @param {any} input
 * @returns {string}
 */
function lastText(input) {
  if (typeof input?.prompt === "string") return input.prompt;
  return textOf(turnsOf(input).findLast((message) => message?.role === "user")?.content);
}

/**
 * The turns of a conversation: messages, or the items of the Responses API.
 *
 * @param {any} input
 */
function turnsOf(input) {
  return typeof input?.input === "string" ? [{ role: "user", content: input.input }] : listOf(input?.messages ?? input?.input);
}

/**
 * The text of a message's content.
 *
 * @param {any} content
 * @returns {string}
 */
function textOf(content) {
  if (!Array.isArray(content)) return typeof content === "string" ? content : "";
  return content.map((part) => (typeof part === "string" ? part : (part?.text ?? ""))).join("");
}

/**
 * The answer as the crate reads it.
 *
 * @param {ScriptAnswer} answer
 * @param {string} place
 * @param {any} input
 * @param {boolean} named whether the entry names the model
 */
function prepared({ reasoning = "", text, json, calls = [], error, delay = 0, usage, finish_reason }, place, input, named) {
  const offered = listOf(input?.tools).map((tool) => tool?.function?.name ?? tool?.name);
  const strange = calls.find(({ name }) => !offered.includes(name));
  if (strange) throw new Error(`${place} calls "${strange.name}", but the request offers ${offered.length > 0 ? `only ${offered.join(", ")}` : "no tools"}.`);
  const whole = json === undefined ? (text ?? "") : JSON.stringify(json);
  const inPieces = (/** @type {string | string[]} */ whole) => (Array.isArray(whole) ? whole : piecesOf(whole));
  const parts = [
    ...inPieces(reasoning).map((piece) => ({ thought: piece })),
    ...inPieces(whole).map((piece) => ({ text: piece })),
    ...calls.map(({ name, arguments: values = {} }) => ({ call: { name, arguments: values } })),
  ];
  const texts = input?.prompt === undefined ? turnsOf(input).map((message) => textOf(message?.content)) : [input.prompt];
  const prompt_tokens = texts.reduce((sum, each) => sum + piecesOf(String(each)).length, 0);
  return JSON.stringify({
    parts,
    usage: { prompt_tokens, ...usage },
    finish_reason,
    delay: Math.round(delay),
    named,
    error: error === undefined ? undefined : errorOf(error, place),
  });
}

/**
 * A text in pieces, which stand for its tokens: words with the white space before them.
 *
 * @param {string} text
 */
function piecesOf(text) {
  return text.match(/\s*\S+(\s+$)?/g) ?? (text ? [text] : []);
}
