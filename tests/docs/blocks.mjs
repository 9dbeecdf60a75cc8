// The fenced blocks of README.md and docs/, as the tests run them.

import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

/** Pages whose examples need a Workers project or a framework: their tests are those of the tools that they describe. */
const OF_PROJECTS = ["docs/wrangler.md", "docs/vite.md", "docs/vitest.md", "docs/frameworks.md"];

/**
 * A page with its blocks, in their order. `kind` is what follows the three backticks: a language, and for JavaScript that does not run in Node the
 * place where it does.
 *
 * @typedef {{name: string, blocks: {kind: string, text: string, line: number}[]}} Page
 * @returns {Promise<Page[]>}
 */
export async function pages() {
  const docs = (await readdir(path.join(ROOT, "docs"))).filter((file) => file.endsWith(".md")).sort();
  const names = ["README.md", ...docs.map((file) => `docs/${file}`)].filter((name) => !OF_PROJECTS.includes(name));
  return Promise.all(names.map(async (name) => ({ name, blocks: blocksOf(await readFile(path.join(ROOT, name), "utf8")) })));
}

/** @param {string} text */
function blocksOf(text) {
  return Array.from(text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm), ({ 1: kind, 2: block, index }) => ({ kind, text: block, line: text.slice(0, index).split("\n").length }));
}
