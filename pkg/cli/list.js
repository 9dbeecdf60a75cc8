// `workers-ai-local list`: the models that are stored on this machine, and a few that can be fetched.

import { CURATED_MODELS } from "../curated-models.js";
import { MEMORY } from "../node.js";
import { UsageError } from "./arguments.js";
import { storedModels } from "./engine.js";
import { printable } from "./messages.js";

/**
 * @import { StoredModel } from "../cache/models.js"
 * @typedef {{available?: boolean, json?: boolean}} Values
 */

const { stdout } = process;

/** What a model takes beside its weights: keys and values of a few thousand tokens, and the engine. */
const BESIDE = 500e6;

/**
 * @param {Values} values
 * @param {string[]} positionals must be empty
 * @throws {UsageError}
 */
export async function list({ available, json }, positionals) {
  if (positionals.length > 0) throw new UsageError(`list takes no argument "${positionals[0]}"`);
  const cache = storedModels();
  const stored = await cache.list();
  if (json) return void console.log(JSON.stringify(available ? CURATED_MODELS : stored, null, 2));
  if (available) return printAvailable(stored);
  if (stored.length === 0) {
    console.log("No model is stored yet. `workers-ai-local pull llama-3.2-1b` fetches one; `list --available` shows a few more.");
    return;
  }
  const rows = stored.map((model) => [printable(model.name), sizeOf(model), fit(model.size), age(model.used)]);
  for (const line of table([["NAME", "SIZE", "FITS HERE", "USED"], ...rows])) console.log(line);
  if (stdout.isTTY) console.log(`\n${megabytes(stored.reduce((sum, { bytes }) => sum + bytes, 0))} in ${cache.folder}. \`rm NAME\` removes one; \`list --available\` shows models to fetch.`);
}

/** @param {StoredModel[]} stored */
function printAvailable(stored) {
  const names = new Set(stored.filter(({ complete }) => complete).flatMap(({ names }) => names));
  const rows = CURATED_MODELS.map(({ name, source, parameters, size, license, about }) => [name, parameters, `~${megabytes(size)}`, fit(size), names.has(name) || names.has(source) ? "yes" : "", license, about]);
  const width = stdout.isTTY ? stdout.columns || 80 : Infinity;
  for (const line of table([["NAME", "PARAMETERS", "SIZE", "FITS HERE", "STORED", "LICENCE", "ABOUT"], ...rows])) console.log(line.length > width ? `${line.slice(0, width - 1)}…` : line);
  if (stdout.isTTY) console.log("\n`pull NAME` fetches one, and --gguf NAME uses it. Any other GGUF of the Hugging Face hub: hf:owner/repo or hf:owner/repo:Q4_K_M.");
}

/**
 * Whether a model of so many bytes fits the memory of this machine, and of the engine.
 *
 * @param {number | undefined} size
 */
export function fit(size, memory = MEMORY) {
  if (size === undefined) return "?";
  const needed = size + BESIDE;
  if (needed > memory.engine) return `no: more than ${Math.floor(memory.engine / 2 ** 30)} GiB`;
  return needed > memory.machine ? `no: needs ${(needed / 1e9).toFixed(1)} GB` : "yes";
}

/** @param {StoredModel} model */
function sizeOf({ bytes, size, complete }) {
  if (complete) return megabytes(bytes);
  return size ? `${Math.floor((bytes / size) * 100)} % of ${megabytes(size)}` : `${megabytes(bytes)}, unfinished`;
}

/** @param {number | undefined} bytes */
export const megabytes = (bytes) => (bytes === undefined ? "?" : bytes < 1e9 ? `${Math.max(1, Math.round(bytes / 1e6))} MB` : `${(bytes / 1e9).toFixed(2)} GB`);

/** @param {Date} date */
function age(date) {
  const minutes = Math.round((Date.now() - date.getTime()) / 60_000);
  if (minutes < 1) return "now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 48 * 60) return `${Math.round(minutes / 60)} h ago`;
  return `${Math.round(minutes / 1440)} days ago`;
}

/**
 * Columns, two spaces apart.
 *
 * @param {string[][]} rows
 */
function table(rows) {
  const widths = rows[0].map((_, column) => Math.max(...rows.map((row) => row[column].length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column])).join("  ").trimEnd());
}
