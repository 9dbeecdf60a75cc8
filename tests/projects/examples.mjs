// The examples of the documentation: blocks of code that begin with the name of a file.

import { readFileSync } from "node:fs";
import { inProject } from "../../scripts/lib/project.mjs";

/**
 * The files of a page, by name.
 *
 * @param {string} page for instance "vite.md"
 * @returns {Record<string, string>}
 */
export function examples(page) {
  const text = readFileSync(inProject("docs", page), "utf8");
  return Object.fromEntries([...text.matchAll(/^```\w+\n(\/\/ (\S+\.\w+)\n.*?)^```$/gms)].map(([, code, name]) => [name, code]));
}
