// `workers-ai-local run`: answers one prompt and streams the answer to stdout; `tokenize`: prints the prompt as the model reads it.

import { once } from "node:events";
import path from "node:path";
import { text as textOf } from "node:stream/consumers";
import { DEFAULT_MODEL } from "../default-model.js";
import { Ai } from "../node.js";
import { eventData } from "../sse.js";
import { UsageError, numberOf } from "./arguments.js";
import { clearStatus, isTerminal, loadProgress, note, say, showStatus } from "./terminal.js";

/**
 * @import { FinishReason, TextGenerationEvent, TextGenerationInput, TextGenerationUsage } from "../index.d.ts"
 * @typedef {{model?: string, gguf?: string[], system?: string, raw?: boolean, json?: boolean, stats?: boolean}} OtherValues
 * @typedef {OtherValues & {[name in typeof NUMBERS[number]]?: string}} Values
 */

/** The options whose values are numbers. */
const NUMBERS = /** @type {const} */ (["max-tokens", "temperature", "top-p", "top-k", "seed"]);

const { stdin, stdout } = process;

/**
 * The `Ai` that the options ask for, with its progress on stderr, and the model id.
 *
 * @param {Values} values
 */
function engineFor(values) {
  const model = values.model ?? DEFAULT_MODEL.id;
  const file = values.gguf?.[0] ?? process.env.WORKERS_AI_LOCAL_MODEL ?? DEFAULT_MODEL.file;
  const models = values.gguf === undefined ? {} : { [model]: values.gguf };
  return { ai: new Ai({ models, onProgress: loadProgress(path.basename(file)), onWarning: note }), model };
}

/**
 * `workers-ai-local tokenize`: prints the prompt as the model reads it, and its tokens.
 *
 * @param {Values} values
 * @param {string[]} positionals the prompt's parts
 * @throws {UsageError} or an error of `Ai.tokenize`
 */
export async function tokenize(values, positionals) {
  const prompt = await promptFrom(positionals);
  const { ai, model } = engineFor(values);
  const { tokens, text } = await ai.tokenize(model, inputFrom(values, prompt)).finally(clearStatus);
  console.log(values.json ? JSON.stringify({ tokens, text }) : `${text}\n\n${tokens.length} tokens: ${tokens.join(" ")}`);
}

/**
 * @param {Values} values
 * @param {string[]} positionals the prompt's parts
 * @throws {UsageError} or an error of `Ai.run`
 */
export async function run(values, positionals) {
  const numbers = numbersFrom(values);
  if (values.raw && values.system !== undefined) throw new UsageError("--raw cannot be combined with --system: it continues only the prompt");
  const prompt = await promptFrom(positionals);
  /** @type {TextGenerationInput} */
  const input = { ...inputFrom(values, prompt), ...numbers, stream: true };

  const abort = new AbortController();
  // Only once: a second Ctrl+C ends the process immediately.
  process.once("SIGINT", () => abort.abort());

  const { ai, model } = engineFor(values);

  const out = values.json ? null : writer();
  try {
    const stream = /** @type {ReadableStream<Uint8Array>} */ (await ai.run(model, input, { signal: abort.signal }));
    const answer = await follow(stream, out);
    if (values.json) await write(`${JSON.stringify(answer.object, null, 2)}\n`);
    await out?.end();
    if (values.stats || isTerminal) say(statsLine(answer));
  } catch (error) {
    clearStatus();
    await out?.end();
    throw error;
  }
}

/** @param {Values} values */
function numbersFrom(values) {
  const numbers = NUMBERS.map((option) => [option.replace("-", "_"), numberOf(values, option)]);
  return Object.fromEntries(numbers.filter(([, value]) => value !== undefined));
}

/**
 * The prompt: the arguments joined by spaces, with `-` replaced by stdin. Without arguments, stdin.
 *
 * @param {string[]} positionals
 */
async function promptFrom(positionals) {
  const parts = positionals.length > 0 ? positionals : ["-"];
  const prompt = parts.includes("-") ? await fromStdin().then((input) => parts.map((part) => (part === "-" ? input : part))) : parts;
  const joined = prompt.join(" ");
  if (joined.trim() === "") throw new UsageError('the prompt is empty: try workers-ai-local run "Tell me a joke"');
  return joined;
}

async function fromStdin() {
  if (stdin.isTTY) say("Type the prompt, then press Enter and Ctrl+D:");
  // Like a shell's $(…): the final line break is not part of the text.
  return (await textOf(stdin)).replace(/\r?\n$/, "");
}

/**
 * @param {Values} values
 * @param {string} prompt
 * @returns {TextGenerationInput}
 */
function inputFrom({ raw, system }, prompt) {
  if (raw) return { prompt, raw };
  if (system === undefined) return { prompt };
  return { messages: [{ role: "system", content: system }, { role: "user", content: prompt }] };
}

/**
 * Reads the answer to its end. The model is already loaded, but the prefill starts only with the first read.
 *
 * @param {ReadableStream<Uint8Array>} stream
 * @param {ReturnType<typeof writer> | null} out
 */
async function follow(stream, out) {
  showStatus("Reading the prompt …");
  const started = performance.now();
  // NaN until the first piece.
  let [first, last] = [NaN, NaN];
  let response = "";
  /** @type {Partial<TextGenerationEvent>} */
  let end = {};
  for await (const data of eventData(stream)) {
    if (data === "[DONE]") break;
    /** @type {TextGenerationEvent} */
    const event = JSON.parse(data);
    if (event.usage) end = event;
    if (!event.response) continue;
    last = performance.now();
    if (Number.isNaN(first)) first = last;
    response += event.response;
    if (out) {
      clearStatus();
      await out.piece(event.response);
    } else {
      showStatus(`Computing the answer … ${response.length} characters`);
    }
  }
  clearStatus();
  // A complete answer ends with an event that has the usage.
  const object = /** @type {{response: string, usage: TextGenerationUsage, finish_reason: FinishReason}} */ ({ ...end, response });
  return { object, firstAfter: (first - started) / 1000, seconds: (last - first) / 1000 };
}

/**
 * For instance "[64 tokens, 8.1 tokens/s, first token after 1.90 s]".
 *
 * @param {Awaited<ReturnType<typeof follow>>} answer
 */
function statsLine({ object: { usage, finish_reason }, firstAfter, seconds }) {
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
function writer() {
  let last = "";
  return {
    /** @param {string} text */
    piece(text) {
      last = text.at(-1) ?? last;
      return write(stdout.isTTY ? withoutControls(text) : text);
    },
    // If nothing was written, there is no line to end.
    end: async () => last && last !== "\n" && write("\n"),
  };
}

/**
 * Removes control characters, so that a model's text cannot control the terminal.
 *
 * @param {string} text
 */
const withoutControls = (text) => text.replaceAll(/[^\P{Cc}\n\t]/gu, "");

/** @param {string} text */
async function write(text) {
  if (!stdout.write(text)) await once(stdout, "drain");
}
