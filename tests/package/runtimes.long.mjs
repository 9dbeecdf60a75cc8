// The package in other runtimes than Node and workerd: installed from its tarball, the same text for the same seed, and scripted answers.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { MODEL_PATH } from "../real-model.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const RUNTIMES = { bun: ["bun@1.4.5", "bun"], deno: ["deno@2.9.6", "deno", "run", "--allow-all"] };

const PROGRAM = `
import { Ai } from "workers-ai-local";
const MODEL = "@cf/meta/llama-3.1-8b-instruct";
const ask = { prompt: "Name a colour.", seed: 7, temperature: 1, max_tokens: 20 };
const ai = new Ai({ onWarning() {} });
const { response } = await ai.run(MODEL, ask);
const streamed = await new Response(await ai.run(MODEL, { ...ask, stream: true })).text();
const scripted = await new Ai({ script: [{ input: /colour/, text: "Blue." }] }).run(MODEL, ask);
console.log(JSON.stringify({ response, streamed: streamed.replaceAll(/"cached_tokens":\\d+/g, ""), scripted: scripted.response }));
`;

let folder;
const run = (command, ...args) =>
  promisify(execFile)(command, args, { cwd: folder, env: { ...process.env, WORKERS_AI_LOCAL_MODEL: MODEL_PATH, npm_config_loglevel: "error" }, timeout: 300_000 });
const saidBy = async (command, ...args) => JSON.parse((await run(command, ...args, "program.mjs")).stdout);

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-runtimes-"));
  await writeFile(path.join(folder, "package.json"), JSON.stringify({ name: "project", private: true }));
  await writeFile(path.join(folder, "program.mjs"), PROGRAM);
  const { stdout } = await promisify(execFile)("npm", ["pack", "--json", "--pack-destination", folder], { cwd: ROOT });
  const [{ filename }] = JSON.parse(stdout);
  await run("npm", "install", "--no-audit", "--no-fund", `./${filename}`, ...Object.values(RUNTIMES).map(([spec]) => spec));
});
after(() => rm(folder, { recursive: true, force: true }));

describe("the same text as in Node, and the script's, in", () => {
  let expected;
  before(async () => void (expected = await saidBy(process.execPath)));

  for (const [name, [, command, ...args]] of Object.entries(RUNTIMES)) {
    test(name, async () => {
      assert.equal(expected.scripted, "Blue.");
      assert.deepEqual(await saidBy(path.join(folder, "node_modules", ".bin", command), ...args), expected);
    });
  }
});
