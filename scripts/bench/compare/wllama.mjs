// The contender wllama: llama.cpp in WebAssembly, for browsers.

import { readFileSync } from "node:fs";
import { inProject } from "../../lib/project.mjs";

const version = JSON.parse(readFileSync(inProject("package.json"), "utf8")).devDependencies["@wllama/wllama"];

export const contenders = [1, 2].map((threads) => ({
  id: `wllama-${threads}`,
  name: `wllama ${version}, ${threads} thread${threads > 1 ? "s" : ""}`,
  page: { module: "wllama.js", options: { threads }, folders: { "/peers/wllama/": inProject("node_modules", "@wllama", "wllama") } },
}));
