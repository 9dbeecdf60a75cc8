// `workers-ai-local models`: prints the catalogue as a table.

import { Ai } from "../node.js";
import { UsageError } from "./arguments.js";

/** @typedef {{json?: boolean}} Values */

const { stdout } = process;

/**
 * @param {Values} values
 * @param {string[]} positionals must be empty
 * @throws {UsageError}
 */
export async function models(values, positionals) {
  if (positionals.length > 0) throw new UsageError(`models takes no argument "${positionals[0]}"`);
  const catalogue = await new Ai().models({});
  if (values.json) return void console.log(JSON.stringify(catalogue, null, 2));

  /**
   * @param {import("../index.d.ts").ModelListing} model
   * @param {string} id
   */
  const property = (model, id) => model.properties.find(({ property_id }) => property_id === id)?.value;
  const rows = [
    ["MODEL", "CONTEXT", "DESCRIPTION"],
    ...catalogue.map((model) => [model.name, property(model, "context_window") ?? "-", model.description]),
  ];
  const [name, context] = [0, 1].map((column) => Math.max(...rows.map((row) => row[column].length)));
  for (const row of rows) {
    const line = `${row[0].padEnd(name)}  ${row[1].padStart(context)}  ${row[2]}`;
    console.log(stdout.isTTY && line.length > stdout.columns ? `${line.slice(0, stdout.columns - 1)}…` : line);
  }
  if (stdout.isTTY) {
    console.log(`
CONTEXT is in tokens; - means that the model file determines it.
Ids without weights on this machine are answered by the small default model.
To use other weights for an id: \`run --model ID --gguf FILE\`.`);
  }
}
