// `workers-ai-local run`: one prompt, one answer, written as it is computed.

import { once } from "node:events";
import path from "node:path";
import { text as textOf } from "node:stream/consumers";
import { DEFAULT_MODEL } from "../default-model.js";
import { Ai } from "../node.js";
import { eventData } from "../sse.js";
import { UsageError, numberOf } from "./arguments.js";
import { clearStatus, isTerminal, loadProgress, note, say, showStatus } from "./terminal.js";

const { stdin, stdout } = process;

/** @param {Record<string, string | boolean | undefined>} values options, @param {string[]} positionals the prompt's parts */
export async function run(values, positionals) {
  const numbers = numbersFrom(values);
  if (values.raw && values.system !== undefined) throw new UsageError("--raw continues the prompt alone: it has no place for --system");
  const prompt = await promptFrom(positionals);
  const input = { ...inputFrom(values, prompt), ...numbers, stream: true };

  const abort = new AbortController();
  // Once: a second Ctrl+C ends the process the hard way.
  process.once("SIGINT", () => abort.abort());

  const model = values.model ?? DEFAULT_MODEL.id;
  const file = values.gguf ?? process.env.WORKERS_AI_LOCAL_MODEL ?? DEFAULT_MODEL.file;
  const ai = new Ai({
    models: values.gguf === undefined ? {} : { [model]: values.gguf },
    onProgress: loadProgress(path.basename(file)),
    onWarning: note,
  });

  const out = values.json ? null : writer();
  try {
    const stream = await ai.run(model, input, { signal: abort.signal });
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

function numbersFrom(values) {
  const numbers = ["max-tokens", "temperature", "top-p", "top-k", "seed"].map((option) => [option.replace("-", "_"), numberOf(values, option)]);
  return Object.fromEntries(numbers.filter(([, value]) => value !== undefined));
}

/** The arguments, with stdin in the place of `-`. */
async function promptFrom(positionals) {
  const parts = positionals.length > 0 ? positionals : ["-"];
  const prompt = parts.includes("-") ? await fromStdin().then((given) => parts.map((part) => (part === "-" ? given : part))) : parts;
  const joined = prompt.join(" ");
  if (joined.trim() === "") throw new UsageError('the prompt is empty: try workers-ai-local run "Tell me a joke"');
  return joined;
}

async function fromStdin() {
  if (stdin.isTTY) say("Type the prompt, then Enter and Ctrl+D:");
  // Like a shell's $(…): the end of the last line is not part of the text.
  return (await textOf(stdin)).replace(/\r?\n$/, "");
}

function inputFrom({ raw, system }, prompt) {
  if (raw) return { prompt, raw };
  if (system === undefined) return { prompt };
  return { messages: [{ role: "system", content: system }, { role: "user", content: prompt }] };
}

/** Reads the answer to its end. The model is loaded; nothing of the prompt is computed before the first read. */
async function follow(stream, out) {
  showStatus("Reading the prompt …");
  const started = performance.now();
  let first;
  let last;
  let response = "";
  let end = {};
  for await (const data of eventData(stream)) {
    if (data === "[DONE]") break;
    const event = JSON.parse(data);
    if (event.usage) end = event;
    if (!event.response) continue;
    last = performance.now();
    first ??= last;
    response += event.response;
    if (out) {
      clearStatus();
      await out.piece(event.response);
    } else {
      showStatus(`Computing the answer … ${response.length} characters`);
    }
  }
  clearStatus();
  return { object: { ...end, response }, firstAfter: (first - started) / 1000, seconds: (last - first) / 1000 };
}

/** "[64 tokens, 8.1 tokens/s, first after 1.90 s]" */
function statsLine({ object: { usage, finish_reason }, firstAfter, seconds }) {
  const tokens = usage.completion_tokens;
  const parts = [
    `${tokens} ${tokens === 1 ? "token" : "tokens"}`,
    // The first token comes out of the prompt's computation: it counts neither in the time nor in the tokens.
    tokens > 1 && seconds > 0 && `${((tokens - 1) / seconds).toFixed(1)} tokens/s`,
    firstAfter >= 0 && `first after ${firstAfter.toFixed(2)} s`,
    finish_reason === "length" && "cut off: see --max-tokens",
  ];
  return `[${parts.filter(Boolean).join(", ")}]`;
}

/** Writes pieces to stdout and ends the last line. */
function writer() {
  let last = "";
  return {
    piece(text) {
      last = text.at(-1) ?? last;
      return write(stdout.isTTY ? harmless(text) : text);
    },
    // Nothing was written: there is no line to end.
    end: async () => last && last !== "\n" && write("\n"),
  };
}

/** Without control characters: a model's text is not to steer the terminal. */
const harmless = (text) => text.replaceAll(/[^\P{Cc}\n\t]/gu, "");

async function write(text) {
  if (!stdout.write(text)) await once(stdout, "drain");
}
