// What `run` and `chat` share: the model and the parameters from the options, and an answer that is written to stdout while it is computed.

import { once } from "node:events";
import { readFile } from "node:fs/promises";
import { DEFAULT_MODEL } from "../default-model.js";
import { Ai } from "../node.js";
import { pieceOf } from "../pieces.js";
import { eventData } from "../sse.js";
import { CommandError, UsageError, numberOf } from "./arguments.js";
import { chosenFile, configured, engineFrom, lorasFrom, weights } from "./engine.js";
import { clearStatus, loadProgress, note, showStatus } from "./terminal.js";

/**
 * @import { FinishReason, TextGenerationParameters, TextGenerationUsage } from "../index.d.ts"
 * @import { EngineValues } from "./engine.js"
 * @typedef {{model?: string, gguf?: string[], lora?: string[], system?: string}} PromptValues
 * @typedef {{[name in typeof NUMBERS[number]]?: string} & {lora?: string[], stop?: string[], "json-schema"?: string, stats?: boolean}} AnswerValues
 */

/** The options whose values are numbers. */
const NUMBERS = /** @type {const} */ (["max-tokens", "temperature", "top-p", "top-k", "seed"]);

const { stdout } = process;

/**
 * The `Ai` that the options ask for, with its progress on stderr, and the model id.
 *
 * @param {PromptValues & EngineValues} values
 * @throws {UsageError}
 */
export async function engineFor(values) {
  const model = values.model ?? DEFAULT_MODEL.id;
  const config = await configured({ ...weights(values.gguf, model), ...lorasFrom(values.lora), ...engineFrom(values) });
  const ai = new Ai({ ...config, onProgress: loadProgress(chosenFile(config, model)), onWarning: note });
  return { ai, model };
}

/**
 * The parameters of an answer.
 *
 * @param {AnswerValues} values
 * @returns {Promise<TextGenerationParameters>}
 * @throws {UsageError | CommandError}
 */
export async function parametersFrom(values) {
  const numbers = NUMBERS.map((option) => [option.replace("-", "_"), numberOf(values, option)]);
  /** @type {TextGenerationParameters} */
  const parameters = Object.fromEntries(numbers.filter(([, value]) => value !== undefined));
  if (values.stop) parameters.stop = values.stop;
  const adapters = Object.keys(lorasFrom(values.lora).loras ?? {});
  if (adapters.length > 1) throw new UsageError("--lora: an answer is computed with one adapter");
  if (adapters.length > 0) parameters.lora = adapters[0];
  const schema = values["json-schema"];
  if (schema !== undefined) parameters.response_format = { type: "json_schema", json_schema: await schemaFrom(schema) };
  return parameters;
}

/**
 * A JSON Schema, given as JSON or by the path of a file.
 *
 * @param {string} given
 * @returns {Promise<object>}
 */
async function schemaFrom(given) {
  const isText = given.trimStart().startsWith("{");
  const text = isText
    ? given
    : await readFile(given, "utf8").catch(({ code }) => {
        if (code === "ENOENT") throw new UsageError(`--json-schema takes JSON or a file, and there is no file ${given}`);
        throw new CommandError(`the file of --json-schema, ${given}, cannot be read (${code})`);
      });
  try {
    const schema = JSON.parse(text);
    if (typeof schema === "object" && schema !== null && !Array.isArray(schema)) return schema;
  } catch (error) {
    throw new UsageError(`${isText ? "--json-schema" : given} is not JSON: ${error.message}`);
  }
  throw new UsageError(`${given} is not a JSON Schema: it must be an object`);
}

/**
 * Reads the answer to its end. The model is already loaded, but the prefill starts only with the first read. Thoughts are not written: they are in
 * the object only.
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @param {ReturnType<typeof writer> | null} out
 */
export async function follow(stream, out) {
  showStatus("Reading the prompt …");
  const started = performance.now();
  // NaN until the first piece.
  let [first, last] = [NaN, NaN];
  let [response, thoughts] = ["", ""];
  /** @type {{usage?: TextGenerationUsage, finish_reason?: FinishReason}} */
  let end = {};
  for await (const data of eventData(stream)) {
    if (data === "[DONE]") break;
    const { text, thought, usage = end.usage, finish_reason = end.finish_reason } = pieceOf(data);
    end = { usage, finish_reason };
    if (!text && !thought) continue;
    last = performance.now();
    if (Number.isNaN(first)) first = last;
    response += text;
    thoughts += thought;
    if (text && out) {
      clearStatus();
      await out.piece(text);
    } else {
      showStatus(response ? `Computing the answer … ${response.length} characters` : `Thinking … ${thoughts.length} characters`);
    }
  }
  clearStatus();
  // A complete answer has both.
  const { usage, finish_reason } = /** @type {Required<typeof end>} */ (end);
  const object = { response, ...(thoughts && { reasoning_content: thoughts }), usage, finish_reason };
  return { object, firstAfter: (first - started) / 1000, seconds: (last - first) / 1000 };
}

/**
 * For instance "[64 tokens, 8.1 tokens/s, first token after 1.90 s]".
 *
 * @param {Awaited<ReturnType<typeof follow>>} answer
 */
export function statsLine({ object: { usage, finish_reason }, firstAfter, seconds }) {
  const tokens = usage.completion_tokens;
  const parts = [
    `${tokens} ${tokens === 1 ? "token" : "tokens"}`,
    // The speed of decode. The first token results from prefill, so neither it nor its time counts.
    tokens > 1 && seconds > 0 && `${((tokens - 1) / seconds).toFixed(1)} tokens/s`,
    firstAfter >= 0 && `first token after ${firstAfter.toFixed(2)} s`,
    finish_reason === "length" && "cut off: see --max-tokens",
  ];
  return `[${parts.filter(Boolean).join(", ")}]`;
}

/** Writes pieces to stdout and ends the last line. */
export function writer() {
  let all = "";
  return {
    /** What was written, as the model wrote it. */
    text: () => all,
    /** @param {string} text */
    piece(text) {
      all += text;
      return write(stdout.isTTY ? withoutControls(text) : text);
    },
    // If nothing was written, there is no line to end.
    end: async () => all && !all.endsWith("\n") && write("\n"),
  };
}

/**
 * Removes control characters, so that a model's text cannot control the terminal.
 *
 * @param {string} text
 */
const withoutControls = (text) => text.replaceAll(/[^\P{Cc}\n\t]/gu, "");

/** @param {string} text */
export async function write(text) {
  if (!stdout.write(text)) await once(stdout, "drain");
}
