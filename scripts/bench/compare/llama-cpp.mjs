// llama.cpp as native code, in Node, where node-llama-cpp is installed: in the project or in a folder that a flag names.
// It is no dependency, because it is large and only this comparison has a use for it.

import { stat } from "node:fs/promises";
import path from "node:path";
import { root } from "../../lib/project.mjs";
import { UserError } from "../../lib/report.mjs";

const ENTRY = ["node_modules", "node-llama-cpp", "dist", "index.js"];

/** @param {string} [folder] given by the user: a folder with node_modules/node-llama-cpp */
export async function contenders(folder) {
  const entry = path.resolve(folder ?? root, ...ENTRY);
  if (!(await stat(entry).catch(() => null))) {
    if (folder !== undefined) throw new UserError(`--llama-cpp: no node-llama-cpp in ${folder}: run \`npm install node-llama-cpp\` there`);
    return [];
  }
  return [1, 2].map((threads) => ({
    id: `node-llama-cpp-${threads}`,
    name: `Node: node-llama-cpp, native, ${threads} thread${threads > 1 ? "s" : ""}`,
    process: { module: "./llama-cpp-contender.mjs", options: { entry, threads } },
  }));
}
