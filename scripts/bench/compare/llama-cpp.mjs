// llama.cpp as native code in Node, if node-llama-cpp is installed in the project or in the folder of --llama-cpp. It is not a
// dependency, because it is large and only this comparison uses it.

import { stat } from "node:fs/promises";
import path from "node:path";
import { root } from "../../lib/project.mjs";
import { UserError } from "../../lib/report.mjs";

const ENTRY = ["node_modules", "node-llama-cpp", "dist", "index.js"];

/**
 * The contenders; none if node-llama-cpp is not installed.
 *
 * @param {string} [folder] the user's folder with node_modules/node-llama-cpp
 * @throws {UserError} if a given folder does not contain it
 */
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
