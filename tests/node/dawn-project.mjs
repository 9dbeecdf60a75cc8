// Projects in which this package and the npm package `webgpu` (Dawn) are installed, for the tests of the GPU in Node. Where there is no GPU, Dawn gets
// a software adapter (SwiftShader), which is slow, so answers are short.

import { cp, mkdir, mkdtemp, rm, symlink } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { Ai } from "workers-ai-local";
import { vulkanForDawn } from "../../scripts/setup/vulkan.mjs";
import { MODEL, MODEL_PATH } from "../real-model.mjs";
import { inOneProcess } from "./one-process.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** The package `webgpu`, installed under another name so that nothing else in this project can import it. */
const DAWN = path.join(ROOT, "node_modules", "dawn-node");
export const PROMPTS = ["1, 2, 3,", "The capital of France is"];
export const GREEDY = { raw: true, temperature: 0, max_tokens: 3 };

const cpu = new Ai({ build: "simd128", backend: "cpu", onWarning() {} });
/** What the CPU answers. */
export const onCpu = async (prompt) => (await cpu.run(MODEL, { ...GREEDY, prompt })).response;

const folders = [];
after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

/** Creates a project with this package and with the package `webgpu` as `addWebgpu` creates it. Returns the URL of this package's entry. */
export async function project(addWebgpu) {
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-"));
  folders.push(folder);
  const modules = path.join(folder, "node_modules");
  const own = path.join(modules, "workers-ai-local");
  await mkdir(own, { recursive: true });
  for (const part of ["package.json", "pkg"]) await cp(path.join(ROOT, part), path.join(own, part), { recursive: true });
  await addWebgpu(path.join(modules, "webgpu"));
  return pathToFileURL(path.join(own, "pkg", "node.js")).href;
}

/** Runs `work` in a process of a project, with the class of its entry. */
export const inProject = (address, work, argument) =>
  inOneProcess(work, { argument, address, env: { ...vulkanForDawn(), WORKERS_AI_LOCAL_MODEL: MODEL_PATH }, limit: 400_000 });

/** A project in which the package can be loaded. */
export const installed = await project((folder) => symlink(DAWN, folder, "dir"));
export const inInstalled = (work, argument) => inProject(installed, work, argument);

/** The adapter that Dawn finds on this machine. If there is none, a line on the console says why. */
export const adapter = await inInstalled(async (_, dawn) => {
  const { create } = await import(dawn);
  const adapter = await create([]).requestAdapter({ powerPreference: "high-performance" });
  return adapter && { isSoftware: adapter.info.isFallbackAdapter };
}, pathToFileURL(path.join(DAWN, "index.js")).href).catch((error) => ({ error: error.stderr?.trim().split("\n").at(-1) ?? error.message }));
/** Why there is none. */
export const why = adapter?.error ?? (adapter === null && "there is no Vulkan driver that Dawn accepts (Debian: `apt-get install chromium` includes one)");
if (why) console.log(`NOT TESTED: the GPU in Node, because ${why}`);
