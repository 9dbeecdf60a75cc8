// `workers-ai-local rm`: removes stored models.

import { nearest } from "../suggest.js";
import { CommandError, UsageError } from "./arguments.js";
import { storedModels } from "./engine.js";
import { megabytes } from "./list.js";

/**
 * @param {object} _values none
 * @param {string[]} names
 * @throws {UsageError | CommandError} if one is not stored; the others are removed
 */
export async function rm(_values, names) {
  if (names.length === 0) throw new UsageError("rm takes the name of a stored model: `list` shows them");
  const cache = storedModels();
  const missing = [];
  for (const name of names) {
    const before = await cache.list();
    if (!(await cache.delete(name))) {
      missing.push({ name, meant: nearest(name, before.flatMap(({ names }) => names)), stored: before.length });
      continue;
    }
    const rest = new Set((await cache.list()).map((model) => model.name));
    const freed = before.filter((model) => !rest.has(model.name)).reduce((sum, { bytes }) => sum + bytes, 0);
    console.log(`${name}: removed, ${megabytes(freed)}`);
  }
  if (missing.length === 0) return;
  const texts = missing.map(({ name, meant, stored }) => `${name} is not stored${meant ? `: did you mean ${meant}?` : stored > 0 ? ": `list` shows what is" : ""}`);
  throw new CommandError(texts.join("; "));
}
