// `workers-ai-local models`: prints the catalogue as a table.

import { Ai } from "../node.js";
import { CommandError, UsageError } from "./arguments.js";

/** @import { ModelListing } from "../index.d.ts" */
/** @typedef {{search?: string, json?: boolean}} Values */
/** @typedef {{width?: number, described?: boolean}} Layout */

const { stdout } = process;

/** What a model can do: the property of its listing, and the word for it. */
const FEATURES = Object.entries({ function_calling: "tools", reasoning: "reasoning", lora: "lora" });
/** A description that is cut to fewer characters says nothing. */
const SHORTEST_DESCRIPTION = 30;

const NOTES = `
CONTEXT is in tokens; - means that the model file determines it.
ANSWER is what env.AI.run returns: { response }, an OpenAI chat completion, or
for embeddings { data }.
FEATURES are those of the service's model; here they depend on the model file.
Ids without weights on this machine are answered by the small default model.
To use other weights for an id: \`run --model ID --gguf FILE\`.`;

/**
 * @param {Values} values
 * @param {string[]} positionals must be empty
 * @throws {UsageError}
 * @throws {CommandError} if no model matches
 */
export async function models({ search, json }, positionals) {
  if (positionals.length > 0) throw new UsageError(`models takes no argument "${positionals[0]}": to look for it, use --search`);
  const ai = new Ai();
  const catalogue = (await ai.models({})).filter((model) => matches(model, search ?? ""));
  if (catalogue.length === 0) throw new CommandError(`no model matches "${search}"`);
  if (json) return void console.log(JSON.stringify(catalogue, null, 2));
  const rows = [];
  for (const model of catalogue) rows.push({ ...cellsOf(model), answer: await answerOf(ai, model) });
  const width = stdout.isTTY ? stdout.columns || 80 : undefined;
  for (const line of table(rows, { width, described: search !== undefined })) console.log(line);
  if (!stdout.isTTY) return;
  console.log(NOTES);
  if (search === undefined) console.log("To see only some, with their descriptions: `models --search TEXT`.");
}

/** @param {ModelListing} model */
function cellsOf(model) {
  const values = new Map(model.properties.map(({ property_id, value }) => [property_id, value]));
  const features = FEATURES.filter(([property]) => values.get(property) === "true").map(([, word]) => word);
  return { name: model.name, context: String(values.get("context_window") ?? "-"), features: features.join(" "), description: model.description };
}

/**
 * Whether each word occurs in what the table says about a model.
 *
 * @param {ModelListing} model
 * @param {string} search
 */
function matches(model, search) {
  const text = Object.values(cellsOf(model)).join(" ").toLowerCase();
  return search.toLowerCase().split(/\s+/).every((word) => text.includes(word));
}

/**
 * The shape of a model's answers: what they have the text in, by the published schema, or the vectors of embeddings.
 *
 * @param {Ai} ai
 * @param {ModelListing} model
 */
async function answerOf(ai, { name, task }) {
  if (task.name !== "Text Generation") return "data";
  const response = await ai.fetch(`/client/v4/accounts/local/ai/models/schema?model=${encodeURIComponent(name)}`);
  const { result } = await response.json();
  return "choices" in result.output.oneOf[0].properties ? "chat" : "response";
}

/**
 * The lines of the table. All is shown where the width is unknown. In a terminal the descriptions are cut, or left out if too little of them has
 * room; `described` ones then get a line of their own.
 *
 * @param {{name: string, context: string, answer: string, features: string, description: string}[]} rows
 * @param {Layout} layout
 * @returns {string[]}
 */
export function table(rows, { width = Infinity, described = false } = {}) {
  const head = { name: "MODEL", context: "CONTEXT", answer: "ANSWER", features: "FEATURES", description: "DESCRIPTION" };
  const all = [head, ...rows];
  /** @param {"name" | "context" | "answer" | "features" | "description"} column */
  const widest = (column) => Math.max(...all.map((row) => row[column].length));
  const [name, context, answer, features] = [widest("name"), widest("context"), widest("answer"), widest("features")];
  const room = width - (name + context + answer + features + 7);
  const ownLine = described && room < widest("description");
  return all.flatMap((row) => {
    const start = `${row.name.padEnd(name)} ${row.context.padStart(context)}  ${row.answer.padEnd(answer)}  `;
    if (ownLine || room < SHORTEST_DESCRIPTION) {
      const line = cut(`${start}${row.features}`.trimEnd(), width);
      return ownLine && row !== head ? [line, cut(`    ${row.description}`, width)] : [line];
    }
    return [cut(`${start}${row.features.padEnd(features)}  ${row.description}`, width)];
  });
}

/**
 * @param {string} line
 * @param {number} width
 */
const cut = (line, width) => (line.length > width ? `${line.slice(0, width - 1)}…` : line);
