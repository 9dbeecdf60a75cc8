// llama.cpp as a prebuilt addon of Node, for the comparisons that are made anew: in the user's cache. It is not a dependency, because npm
// would install its builds for CUDA and Vulkan too, 600 MB.

import { mkdir, mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { run } from "../lib/process.mjs";
import { UserError, withProgress } from "../lib/report.mjs";
import { inUserCache } from "../lib/user-cache.mjs";

export const NODE_LLAMA_CPP = "3.22.1";

/** Packages with a prebuilt addon that computes on the processor. */
const ADDONS = {
  "linux-x64": "linux-x64",
  "linux-arm64": "linux-arm64",
  "darwin-arm64": "mac-arm64-metal",
  "darwin-x64": "mac-x64",
  "win32-x64": "win-x64",
  "win32-arm64": "win-arm64",
};

/** Installs node-llama-cpp unless it is there, and returns the path of its module. */
export async function ensureLlamaCpp() {
  const addon = ADDONS[`${process.platform}-${process.arch}`];
  if (!addon) throw new UserError(`node-llama-cpp has no addon for ${process.platform} on ${process.arch}`);
  const folder = inUserCache("tools", `node-llama-cpp-${NODE_LLAMA_CPP}`);
  const entry = `${folder}/node_modules/node-llama-cpp/dist/index.js`;
  const installed = await stat(`${folder}/node_modules/@node-llama-cpp/${addon}`).catch(() => null);
  if (installed) return entry;
  await mkdir(folder, { recursive: true });
  const packages = [`node-llama-cpp@${NODE_LLAMA_CPP}`, `@node-llama-cpp/${addon}@${NODE_LLAMA_CPP}`];
  await withProgress("Installing llama.cpp for Node", () =>
    run("npm", ["install", "--prefix", folder, "--ignore-scripts", "--omit=optional", "--no-audit", "--no-fund", "--loglevel=error", ...packages], { onLine: () => {} }),
  );
  return entry;
}

/**
 * llama.cpp's repository, which node-llama-cpp brings as a bundle of git, while `work` needs it.
 *
 * @template T
 * @param {(read: (file: string) => Promise<string>) => Promise<T>} work gets a function that reads a file of it
 * @returns {Promise<T>}
 */
export async function withLlamaCppSources(work) {
  const bundle = path.join(path.dirname(await ensureLlamaCpp()), "..", "llama", "gitRelease.bundle");
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-llama-cpp-"));
  try {
    await run("git", ["-c", "advice.detachedHead=false", "clone", "--quiet", bundle, folder], { onLine: () => {} });
    return await work((file) => readFile(path.join(folder, file), "utf8"));
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
