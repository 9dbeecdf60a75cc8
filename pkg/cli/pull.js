// `workers-ai-local pull`: fetches models into the cache, and makes sure that they are what they shall be.

import { suggestion } from "../cache/source.js";
import { HOW_TO_NAME, parseName } from "../names.js";
import { CommandError, UsageError } from "./arguments.js";
import { fileNameOf, storedModels } from "./engine.js";
import { megabytes } from "./list.js";
import { clearStatus, loadProgress, note, say } from "./terminal.js";

/** @import { Model, ModelCache } from "../cache/models.js" */

/**
 * Writes the path of each file to stdout.
 *
 * @param {object} _values none
 * @param {string[]} names
 * @throws {UsageError | CommandError}
 */
export async function pull(_values, names) {
  if (names.length === 0) throw new UsageError("pull takes the name of a model, such as llama-3.2-1b or hf:owner/repo:Q4_K_M: `list --available` shows some");
  for (const name of names) {
    if (!parseName(name)) throw new UsageError(`there is nothing to fetch for "${name}"${suggestion(name)}. ${HOW_TO_NAME}, a URL, or a name of \`list --available\``);
  }
  // What was stored stays, and the locks of this process go.
  process.once("SIGINT", () => {
    clearStatus();
    say("Stopped. The same command continues the download.");
    process.exit(130);
  });
  for (const name of names) await fetched(name);
}

/** @param {string} name */
async function fetched(name) {
  const progress = loadProgress(fileNameOf(name));
  const cache = storedModels({ onProgress: ({ loaded, total }) => progress({ model: name, phase: "download", loaded, total }), onWarning: note });
  try {
    const model = await newest(cache, name);
    const files = await cache.ensure(model, { full: true });
    clearStatus();
    const stored = (await cache.list()).find(({ names }) => names.includes(model.name));
    say(`${name}: ${megabytes(stored?.bytes)}, stored and verified`);
    for (const file of files) console.log(file);
  } catch (error) {
    clearStatus();
    throw error.kind ? new CommandError(`${name}: ${error.message}`) : error;
  }
}

/**
 * The model as the hub has it now; without the network, as it is stored.
 *
 * @param {ModelCache} cache
 * @param {string} name
 * @returns {Promise<Model>}
 */
async function newest(cache, name) {
  try {
    return await cache.resolve(name, { renew: true });
  } catch (error) {
    const known = cache.known(name);
    if (!known || (error.kind !== "interrupted" && error.kind !== "busy")) throw error;
    note(`${error.message}. What is stored is verified.`);
    return known;
  }
}
