// What somebody does who has never seen it: starts `serve`, opens the playground, chooses a model by its name on a hub, asks it, takes the Worker
// along, and runs it with `dev`. In a real Chromium and with real wrangler, against a local server that behaves like the hub.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdir, mkdtemp, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { freePort } from "../../scripts/lib/ports.mjs";
import { startHub } from "../hub-server.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { CLI, startServe } from "../serve-process.mjs";
import { launch, openPage } from "./chromium.mjs";

const ROOT = fileURLToPath(new URL("../../", import.meta.url));
const NAME = "hf:maker/SmolLM2-135M-Instruct-GGUF:Q4_1";
const PATIENCE_MS = 120_000;

let folder;
let hub;
let server;
let browser;
let dev;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-newcomer-"));
  hub = await startHub({ "maker/SmolLM2-135M-Instruct-GGUF": { files: { "SmolLM2-135M-Instruct.Q4_1.gguf": new Uint8Array(await readFile(MODEL_PATH)) } } });
  // Both commands inherit these.
  process.env.HF_ENDPOINT = hub.url;
  process.env.WORKERS_AI_LOCAL_CACHE = path.join(folder, "cache");
  process.env.WORKERS_AI_LOCAL_MODEL = MODEL_PATH;
  server = await startServe("--port", "0");
  browser = await launch();
});
after(async () => {
  dev?.kill("SIGINT");
  if (dev?.exitCode === null) await once(dev, "close");
  await browser?.close();
  await server?.stop();
  await hub?.close();
  await rm(folder, { recursive: true, force: true });
});

test("from serve to a model by its name, and to a Worker that uses it", async () => {
  const { page, problems } = await openPage(browser);
  page.setDefaultTimeout(PATIENCE_MS);
  await page.goto(server.url);
  await page.waitForSelector("#engine[data-state=ready]", { state: "attached" });
  await page.click("#open-models");
  await page.fill("#source", NAME);
  await page.press("#source", "Enter");
  await page.waitForFunction((name) => document.querySelector("#model-name").textContent === name, NAME);
  await page.fill("#max_tokens", "10");
  await page.fill("#temperature", "0");
  await page.fill("#prompt", "Why is the sky blue?");
  await page.press("#prompt", "Enter");
  await page.waitForSelector("#send:enabled");
  const answer = await page.locator(".turn .text").last().textContent();
  assert.notEqual(answer, "");
  assert.deepEqual(problems, []);

  await page.click("#open-code");
  const code = await page.textContent("#code-text code");
  const run = await page.textContent("#code-run code");
  const project = path.join(folder, "project");
  await mkdir(path.join(project, "src"), { recursive: true });
  await mkdir(path.join(project, "node_modules"));
  await writeFile(path.join(project, "src", "index.js"), code);
  // `npm install`, without a registry.
  await symlink(ROOT, path.join(project, "node_modules", "workers-ai-local"));
  await symlink(path.join(ROOT, "node_modules", "wrangler"), path.join(project, "node_modules", "wrangler"));
  const [, toml] = /^cat > wrangler\.toml <<END\n(.*)\nEND\n/s.exec(run);
  await writeFile(path.join(project, "wrangler.toml"), toml);
  const [, args] = /^npx workers-ai-local (dev --gguf hf:.*)$/m.exec(run);
  const port = await freePort();
  delete process.env.WORKERS_AI_LOCAL_MODEL;
  dev = spawn(process.execPath, [CLI, ...args.split(" "), "--port", String(port)], { cwd: project, stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  await new Promise((resolve, reject) => {
    const hear = (chunk) => {
      said += chunk;
      if (/Ready on/.test(said)) resolve();
    };
    dev.stdout.on("data", hear);
    dev.stderr.on("data", hear);
    dev.once("close", () => reject(new Error(said)));
  });
  const events = await (await fetch(`http://127.0.0.1:${port}/`)).text();
  const text = [...events.matchAll(/^data: (\{.*)$/gm)].map(([, data]) => JSON.parse(data).response).join("");
  // The same model, seedless but at temperature 0: the same text.
  assert.equal(text.trim(), answer.trim());
});
