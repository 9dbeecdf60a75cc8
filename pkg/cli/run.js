// `workers-ai-local run`: answers one prompt and streams the answer to stdout; `tokenize`: prints the prompt as the model reads it.

import { text as textOf } from "node:stream/consumers";
import { engineFor, follow, parametersFrom, statsLine, write, writer } from "./answers.js";
import { UsageError } from "./arguments.js";
import { clearStatus, isTerminal, say } from "./terminal.js";

/**
 * @import { TextGenerationInput } from "../index.d.ts"
 * @import { AnswerValues, PromptValues } from "./answers.js"
 * @import { EngineValues } from "./engine.js"
 * @typedef {PromptValues & {raw?: boolean, json?: boolean}} PromptOnlyValues
 * @typedef {PromptOnlyValues & AnswerValues & EngineValues} Values
 */

const { stdin } = process;

/**
 * `workers-ai-local tokenize`: prints the prompt as the model reads it, and its tokens.
 *
 * @param {PromptOnlyValues} values
 * @param {string[]} positionals the prompt's parts
 * @throws {UsageError} or an error of `Ai.tokenize`
 */
export async function tokenize(values, positionals) {
  const prompt = await promptFrom(positionals);
  const { ai, model } = await engineFor(values);
  const { tokens, text } = await ai.tokenize(model, inputFrom(values, prompt)).finally(clearStatus);
  console.log(values.json ? JSON.stringify({ tokens, text }) : `${text}\n\n${tokens.length} tokens: ${tokens.join(" ")}`);
}

/**
 * @param {Values} values
 * @param {string[]} positionals the prompt's parts
 * @throws {UsageError} or an error of `Ai.run`
 */
export async function run(values, positionals) {
  const parameters = await parametersFrom(values);
  if (values.raw && values.system !== undefined) throw new UsageError("--raw cannot be combined with --system: it continues only the prompt");
  const { ai, model } = await engineFor(values);
  const prompt = await promptFrom(positionals);
  /** @type {TextGenerationInput} */
  const input = { ...inputFrom(values, prompt), ...parameters, stream: true };

  const abort = new AbortController();
  // Only once: a second Ctrl+C ends the process immediately.
  process.once("SIGINT", () => abort.abort());

  const out = values.json ? null : writer();
  try {
    const stream = /** @type {ReadableStream<Uint8Array>} */ (await ai.run(model, input, { signal: abort.signal }));
    const answer = await follow(stream, out);
    if (values.json) await write(`${JSON.stringify(objectOf(answer.object, parameters.response_format !== undefined), null, 2)}\n`);
    await out?.end();
    if (values.stats || isTerminal) say(statsLine(answer));
  } catch (error) {
    clearStatus();
    await out?.end();
    throw error;
  }
}

/**
 * The object that the binding returns for the older ids; here for all, so that scripts need only one. With a schema, `response` is the value.
 *
 * @param {Awaited<ReturnType<typeof follow>>["object"]} object
 * @param {boolean} isJson
 */
const objectOf = (object, isJson) => (isJson ? { ...object, response: JSON.parse(object.response) } : object);

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
