// The package as npm delivers it: packed, installed in an empty project, and run there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { fileURLToPath, pathToFileURL } from "node:url";
import { scriptedModel } from "../scripted-model.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const SAYS = "Hello there!";

/** The project, in a folder that knows nothing of this one. */
let folder;
const inFolder = (command, ...args) => promisify(execFile)(command, args, { cwd: folder, env: { ...process.env, npm_config_loglevel: "error" } });
const node = async (file, text) => {
  await writeFile(path.join(folder, file), text);
  return (await inFolder(process.execPath, file)).stdout;
};

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-project-"));
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ name: "project", private: true }));
  await writeFile(path.join(folder, "model.gguf"), scriptedModel().bytes);
  const { stdout } = await promisify(execFile)("npm", ["pack", "--json", "--pack-destination", folder], { cwd: ROOT });
  const [{ filename }] = JSON.parse(stdout);
  await inFolder("npm", "install", "--no-audit", "--no-fund", "--offline", `./${filename}`);
});
after(() => rm(folder, { recursive: true, force: true }));

describe("the packed package", () => {
  test("holds what its entries import, and no sources, tests or models", async () => {
    const installed = path.join(folder, "node_modules", "workers-ai-local");
    const files = await readdir(installed, { recursive: true });
    const { exports, bin } = JSON.parse(await readFile(path.join(installed, "package.json"), "utf8"));
    const entries = [...Object.values(exports["."]), exports["./service-worker"]].flatMap((condition) => Object.values(condition));
    for (const file of [...entries, ...Object.values(bin), "wrangler.toml", "README.md", "www/index.html"]) {
      assert.ok(files.includes(path.normalize(file)), `${file} is missing`);
    }
    for (const list of ["builds.js", "single-builds.js", "thread-builds.js"]) {
      const builds = await readFile(path.join(installed, "pkg", "wasm", list), "utf8");
      for (const [, file] of builds.matchAll(/(?:import\(|URL\(|from )"\.\/([^"]+)"/g)) assert.ok(files.includes(path.join("pkg", "wasm", file)), `${file} is missing`);
    }
    const others = files.filter((file) => /\.(rs|gguf|test\.mjs)$|^(src|tests|scripts|target|node_modules)\//.test(file));
    assert.deepEqual(others, []);
  });

  test("answers from a module", async () => {
    const out = await node(
      "module.mjs",
      `import { Ai } from "workers-ai-local";
       const ai = new Ai({ default: "./model.gguf", onWarning() {} });
       console.log((await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi" })).response);`,
    );
    assert.equal(out, `${SAYS}\n`);
  });

  test("answers from CommonJS, as a stream", async () => {
    const out = await node(
      "common.cjs",
      `const ours = process.version.startsWith("v20") ? import("workers-ai-local") : Promise.resolve(require("workers-ai-local"));
       ours.then(async ({ Ai }) => {
         const ai = new Ai({ default: "./model.gguf", onWarning() {} });
         const stream = await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi", stream: true });
         process.stdout.write(await new Response(stream).text());
       });`,
    );
    const pieces = [...out.matchAll(/^data: (\{.*\})$/gm)].map(([, json]) => JSON.parse(json).response);
    assert.equal(pieces.join(""), SAYS);
    assert.match(out, /data: \[DONE\]\n\n$/);
  });

  for (const [what, conditions, entry] of [
    ["Node", [], "node.js"],
    ["wrangler, for workerd", ["workerd", "worker", "browser"], "workerd.js"],
    ["a bundler, for a page", ["browser"], "browser.js"],
    ["webpack, for a web worker", ["worker", "browser"], "browser.js"],
  ]) {
    test(`has the entry ${entry} for ${what}`, async () => {
      const flags = conditions.flatMap((condition) => ["--conditions", condition]);
      const ask = 'console.log(import.meta.resolve("workers-ai-local"))';
      const { stdout } = await inFolder(process.execPath, ...flags, "--input-type=module", "--eval", ask);
      assert.equal(stdout.trim(), pathToFileURL(path.join(folder, "node_modules", "workers-ai-local", "pkg", entry)).href);
    });
  }

  test("has its command", async () => {
    const command = path.join(folder, "node_modules", ".bin", "workers-ai-local");
    const { stdout } = await inFolder(command, "run", "--gguf", "model.gguf", "Hi");
    assert.equal(stdout, `${SAYS}\n`);
    const { version } = JSON.parse(await readFile(path.join(ROOT, "package.json"), "utf8"));
    assert.equal((await inFolder(command, "--version")).stdout, `${version}\n`);
  });
});
