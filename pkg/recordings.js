// Recorded answers: real ones are written into a folder, and given again for the same requests. For tests, in Node.

import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import path from "node:path";
import { AiInternalError, wireError } from "./errors.js";
import { described } from "./script.js";

/** @import { Asked, Reply } from "./internal.d.ts" */

const MODES = ["auto", "replay", "record"];

/** Fields of an input that change the form of an answer, but not its content. */
const FORM = ["stream", "stream_options"];

export class Recordings {
  #folder;
  #mode;

  /**
   * @param {unknown} record a folder, or `{folder, mode}`
   * @param {Record<string, string | undefined>} env
   * @throws {AiInternalError} if it is neither
   */
  constructor(record, env) {
    const { folder, mode = env.CI && env.CI !== "false" ? "replay" : "auto" } = /** @type {any} */ (typeof record === "string" ? { folder: record } : (record ?? {}));
    if (typeof folder !== "string" || folder === "") throw new AiInternalError('record is a folder such as "fixtures/", or { folder, mode }.');
    if (!MODES.includes(mode)) throw new AiInternalError(`record.mode is one of ${MODES.join(", ")}, not ${JSON.stringify(mode)}.`);
    this.#folder = folder;
    this.#mode = mode;
  }

  /** Whether answers are to be recorded. */
  get records() {
    return this.#mode !== "replay";
  }

  /**
   * The recorded answer; `undefined` if a model is to answer.
   *
   * @param {Asked} asked
   * @returns {Reply | undefined}
   */
  ask(asked) {
    if (this.#mode === "record") return undefined;
    const file = this.#fileOf(asked);
    const recorded = readRecorded(file);
    // As it was: a record is not held to what the request wants.
    if (recorded?.answer.parts) return { prepared: JSON.stringify({ ...recorded.answer, named: true, unchecked: true }) };
    if (recorded) return { object: JSON.stringify(recorded.answer.object) };
    if (this.#mode === "auto") return undefined;
    const text = `There is no recorded answer in ${file} for ${described(asked)}. Record it with mode "auto", which is the default where CI is not set, and commit the file`;
    return { prepared: JSON.stringify({ parts: [], error: wireError(5004, 400, text) }) };
  }

  /**
   * Writes an answer.
   *
   * @param {Asked} asked
   * @param {object} answer
   */
  record(asked, answer) {
    const file = this.#fileOf(asked);
    const { model, input } = contentOf(asked);
    mkdirSync(path.dirname(file), { recursive: true });
    // Appears only when it is complete.
    const part = `${file}.${process.pid}.part`;
    writeFileSync(part, `${JSON.stringify({ model, input, answer }, null, 2)}\n`);
    renameSync(part, file);
  }

  /** @param {Asked} asked */
  #fileOf(asked) {
    const hash = createHash("sha256").update(JSON.stringify(sorted(contentOf(asked)))).digest("hex").slice(0, 16);
    const name = asked.model.replace(/^.*\//s, "").replaceAll(/[^\w.-]/g, "_").slice(0, 80);
    return path.join(this.#folder, `${name}-${hash}.json`);
  }
}

/**
 * What determines an answer.
 *
 * @param {Asked} asked
 */
function contentOf({ model, input }) {
  if (typeof input !== "object" || input === null) return { model, input };
  return { model, input: Object.fromEntries(Object.entries(input).filter(([key, value]) => value !== null && !FORM.includes(key))) };
}

/**
 * With the fields of all objects in the order of their names.
 *
 * @param {any} value
 * @returns {any}
 */
function sorted(value) {
  if (Array.isArray(value)) return value.map(sorted);
  if (typeof value !== "object" || value === null) return value;
  return Object.fromEntries(Object.keys(value).sort().map((key) => [key, sorted(value[key])]));
}

/** @param {string} file */
function readRecorded(file) {
  let text;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    if (error.code === "ENOENT") return undefined;
    throw new Error(`The recorded answer ${file} cannot be read: ${error.message}`);
  }
  try {
    const recorded = JSON.parse(text);
    if (Array.isArray(recorded?.answer?.parts) || recorded?.answer?.object !== undefined) return recorded;
  } catch {
    // Said below.
  }
  throw new Error(`The recorded answer ${file} is damaged: delete it, and run the test again where CI is not set`);
}

/**
 * An answer of the service as it is recorded: in parts, or as it is if it is none of text generation.
 *
 * @param {any[]} values the object, or the values of a stream's events
 */
export function answerOfService(values) {
  const others = Math.max(0, ...values.flatMap((value) => (value?.choices ?? []).map((/** @type {any} */ { index = 0 }) => index)));
  const usage = values.findLast((value) => value?.usage)?.usage;
  const further = Array.from({ length: others }, (_, other) => partsOf(values, other + 1));
  const answer = { ...partsOf(values, 0), usage, ...(further.length > 0 ? { others: further } : {}) };
  return answer.parts.length > 0 || answer.finish_reason !== undefined || values.length !== 1 ? answer : { object: values[0] };
}

/**
 * The parts of a choice.
 *
 * @param {any[]} values
 * @param {number} index the choice's
 */
function partsOf(values, index) {
  const parts = [];
  /** @type {{name?: string, text: string}[]} */
  const calls = [];
  let finish_reason;
  for (const value of values) {
    const choice = value?.choices?.find((/** @type {any} */ choice) => (choice.index ?? 0) === index);
    if (!choice && index > 0) continue;
    const message = choice?.delta ?? choice?.message ?? value;
    const thought = message?.reasoning_content ?? message?.reasoning;
    if (typeof thought === "string" && thought !== "") parts.push({ thought });
    const text = message?.response ?? message?.content ?? choice?.text;
    if (text !== undefined && text !== null && text !== "") parts.push({ text: typeof text === "string" ? text : JSON.stringify(text) });
    for (const [order, call] of (message?.tool_calls ?? []).entries()) {
      const { name, arguments: given = "" } = call.function ?? call;
      // In OpenAI's streams a call comes in pieces, which have its index.
      const place = call.index ?? order;
      calls[place] ??= { text: "" };
      calls[place].name ??= name;
      calls[place].text += typeof given === "string" ? given : JSON.stringify(given);
    }
    finish_reason = choice?.finish_reason ?? value?.finish_reason ?? finish_reason;
  }
  for (const { name, text } of calls.filter(Boolean)) parts.push({ call: { name, arguments: JSON.parse(text || "{}") } });
  return { parts, finish_reason };
}
