// Every example of README.md and docs/ runs, against the built package with the default model. A block of which nobody knows how it runs fails.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmod, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { text as textOf } from "node:stream/consumers";
import { withConfigFile } from "../../pkg/config-file.js";
import { staticFiles } from "../../pkg/cli/static-files.js";
import { Ai, DEFAULT_MODEL } from "../../pkg/node.js";
import { freePort, listening } from "../../scripts/lib/ports.mjs";
import { PICTURE, picture } from "../../scripts/picture.mjs";
import { peftAdapter, randomAdapter } from "../adapters.mjs";
import { headOf } from "../gguf-fixtures.mjs";
import { launch, openPage } from "../browser/chromium.mjs";
import { startHub } from "../hub-server.mjs";
import { EMBEDDING_FILES } from "../real-embeddings.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { ROOT, pages } from "./blocks.mjs";

const CLI = path.join(ROOT, "pkg", "cli.js");

/** Commands that would install, build or need a whole project, and where they run. */
const ELSEWHERE = [
  [/^npm install --save-dev workers-ai-local$/, "tests/package/package.test.mjs"],
  [/^npx workers-ai-local dev\b/, "docs/wrangler.md's own tests"],
  [/^npx wrangler r2 object put models\/\S+\.gguf --file \S+ --local$/, "scripts/setup/local-bucket.mjs"],
  [/^npx wrangler dev -c wrangler\.toml -c node_modules\/workers-ai-local\/wrangler\.toml$/, "tests/workerd/binding.test.mjs"],
  [/^npm (start|test)$/, "scripts"],
  [/^curl (-N )?http:\/\/127\.0\.0\.1:8787\//, "tests/workerd/examples.test.mjs"],
];

/** A project with the package, `model.gguf` and an `npx` that knows only our command. */
let folder;
let environment;
let browser;
let site;
let hub;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-docs-"));
  await mkdir(path.join(folder, "node_modules"));
  await symlink(ROOT, path.join(folder, "node_modules", "workers-ai-local"));
  await symlink(path.join(ROOT, "node_modules", "openai"), path.join(folder, "node_modules", "openai"));
  await symlink(MODEL_PATH, path.join(folder, "model.gguf"));
  await writeFile(path.join(folder, "package.json"), '{"type": "module"}');
  const adapter = peftAdapter(randomAdapter(await headOf(MODEL_PATH), { rank: 2, size: 0.05 }));
  await mkdir(path.join(folder, "my-adapter"));
  await writeFile(path.join(folder, "my-adapter", "adapter_config.json"), adapter.config);
  await writeFile(path.join(folder, "my-adapter", "adapter_model.safetensors"), adapter.weights);
  const npx = path.join(folder, "npx");
  await writeFile(npx, `#!/bin/sh\n[ "$1" = workers-ai-local ] || exit 9\nshift\nexec ${JSON.stringify(process.execPath)} ${JSON.stringify(CLI)} "$@"\n`);
  await chmod(npx, 0o755);
  await writeFile(path.join(folder, ".curlrc"), "fail\nsilent\nshow-error\n");
  // The models that the pages name, in a cache of their own; the small ones that stand in for others are there already.
  const model = await readFile(MODEL_PATH);
  hub = await startHub({ "bartowski/Llama-3.2-1B-Instruct-GGUF": { files: { "Llama-3.2-1B-Instruct-Q4_K_M.gguf": model, "Llama-3.2-1B-Instruct-Q8_0.gguf": model } } });
  const cache = path.join(folder, "cache");
  await mkdir(cache);
  await symlink(path.dirname(EMBEDDING_FILES.weights), path.join(cache, path.basename(path.dirname(EMBEDDING_FILES.weights))));
  await symlink(MODEL_PATH, path.join(cache, DEFAULT_MODEL.file));
  const ofModels = { WORKERS_AI_LOCAL_CACHE: cache, HF_ENDPOINT: hub.url };
  environment = { ...process.env, ...ofModels, PATH: [folder, process.env.PATH].join(path.delimiter), CURL_HOME: folder, WORKERS_AI_LOCAL_MODEL: MODEL_PATH, CI: "" };
  const sendFile = staticFiles({ modelPath: MODEL_PATH });
  site = await listening(
    createServer(async (request, response) => {
      if (request.url === "/page") return response.setHeader("content-type", "text/html").end(await pageWithPackage());
      if (!(await sendFile(request, response))) response.writeHead(404).end();
    }),
  );
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await site?.close();
  await hub?.close();
  await rm(folder, { recursive: true, force: true });
});

/** An empty page in which the package's names lead to its files, as a bundler resolves them. */
async function pageWithPackage() {
  const { exports } = JSON.parse(await readFile(path.join(ROOT, "package.json"), "utf8"));
  const imports = { "workers-ai-local": "/pkg/browser.js", "workers-ai-local/sse": exports["./sse"].default.slice(1), "workers-ai-local/service-worker": exports["./service-worker"].default.slice(1) };
  return `<!doctype html><link rel=icon href="data:,"><script type=importmap>${JSON.stringify({ imports })}</script><body>`;
}

/** Runs a program to its end; fails unless its exit code is 0. */
async function runs(command, args, input = "") {
  const child = spawn(command, args, { cwd: folder, env: environment });
  child.stdin.on("error", () => {}).end(input);
  const [out, error, [code]] = await Promise.all([textOf(child.stdout), textOf(child.stderr), once(child, "close")]);
  assert.equal(code, 0, `${error}${out}`);
  return out;
}

/** The commands of a block: lines without their comments, where a backslash continues one. */
const commandsIn = (text) =>
  text
    .replaceAll("\\\n", "")
    .split("\n")
    .map((line) => line.replace(/(^|\s+)# .*$/, "").trim())
    .filter(Boolean);

/** The commands that ran. */
const done = new Set();

/** How a block runs, by its kind. `page` has the servers that its blocks have started. */
const RUNNERS = {
  async sh(text, page) {
    for (const command of commandsIn(text)) {
      if (ELSEWHERE.some(([pattern]) => pattern.test(command)) || done.has(command)) continue;
      assert.match(command, /^(npx workers-ai-local|curl|echo|printf|WORKERS_AI_LOCAL_\w+=)/, `no test knows the command ${command}`);
      const line = await withFreePorts(command, page);
      if (/^npx workers-ai-local serve\b/.test(line)) {
        await serves(line, page);
        continue;
      }
      // Pages repeat commands that begin to compute; requests depend on the page's servers.
      if (command.startsWith("npx")) done.add(command);
      assert.notEqual(await runs("sh", ["-c", line], /^npx workers-ai-local chat\b/.test(line) ? "Hi\n/exit\n" : ""), "");
    }
  },
  async js(text, page) {
    const file = path.join(folder, "example.mjs");
    await writeFile(file, await withFreePorts(text, page));
    await runs(process.execPath, [file]);
  },
  /** Part of a Worker: the body of a function that returns a response. */
  async ts(text) {
    const AsyncFunction = async function () {}.constructor;
    const env = { AI: new Ai({ onWarning() {} }) };
    const response = await new AsyncFunction("env", "messages", text)(env, [{ role: "user", content: "Hi" }]);
    assert.match(await response.text(), /data: \[DONE\]/);
  },
  async "js page"(text) {
    const { page, problems } = await openPage(browser);
    await page.goto(`${site.url}/page`);
    const outcome = await page.evaluate(
      (text) =>
        new Promise((resolve) => {
          globalThis.show = () => {};
          globalThis.settled = resolve;
          addEventListener("error", ({ message }) => resolve(message));
          addEventListener("unhandledrejection", ({ reason }) => resolve(String(reason)));
          const script = document.createElement("script");
          Object.assign(script, { type: "module", text: `${text}\nsettled("ran");`, onerror: () => resolve("not loaded") });
          document.body.append(script);
        }),
      text,
    );
    assert.deepEqual([outcome, problems], ["ran", []]);
    await page.close();
  },
  /** Lines of a bundler's configuration: those that the recipes use, or that an error message advises. */
  async "js recipe"(text) {
    const flat = (code) => code.replaceAll(/\s+/g, " ").trim();
    const sources = await Promise.all(["tests/package/bundlers.long.mjs", "pkg/browser.js"].map((file) => readFile(path.join(ROOT, file), "utf8")));
    // In a template literal, a backslash is written twice.
    for (const line of text.split("\n").filter((line) => line.trim())) assert.ok(sources.some((source) => flat(source.replaceAll("\\\\", "\\")).includes(flat(line))), line);
  },
  /** A configuration file. */
  async json(text) {
    const file = path.join(folder, "example.json");
    await writeFile(file, text);
    assert.ok(Object.keys(withConfigFile({ config: file })).length > 0);
  },
  /** Headers: those that `serve` sends. */
  async http(text) {
    const { headers } = await fetch(`${site.url}/`);
    for (const [, name, value] of text.matchAll(/^([\w-]+): (.+)$/gm)) assert.equal(headers.get(name), value);
  },
  /** What is printed, or what needs a machine of another kind. */
  async text() {},
  // tests/docs/workerd.long.mjs runs these together.
  toml: async () => stat(path.join(ROOT, "tests/docs/workerd.long.mjs")),
  "js worker": async () => stat(path.join(ROOT, "tests/docs/workerd.long.mjs")),
};

/** Puts free ports in place of those that a text names; the same ones within a page. */
async function withFreePorts(text, { ports }) {
  for (const [, port] of text.matchAll(/(?:--port |127\.0\.0\.1:)(\d+)/g)) if (!ports.has(port)) ports.set(port, await freePort());
  return text.replaceAll(/((?:--port |127\.0\.0\.1:))(\d+)/g, (_, before, port) => `${before}${ports.get(port)}`);
}

/** Starts a server that runs until the page's last block. */
async function serves(line, { servers }) {
  const child = spawn("sh", ["-c", `exec ${line}`], { cwd: folder, env: environment, stdio: ["ignore", "ignore", "pipe"] });
  servers.push(child);
  let said = "";
  for await (const text of child.stderr.setEncoding("utf8").iterator({ destroyOnReturn: false })) {
    said += text;
    if (/^Listening on /m.test(said)) return void child.stderr.resume();
  }
  assert.fail(said);
}

for (const { name, blocks } of await pages()) {
  if (blocks.length === 0) continue;
  describe(name, () => {
    const page = { ports: new Map(), servers: [] };
    after(() => page.servers.forEach((server) => server.kill("SIGKILL")));
    for (const { kind, text, line } of blocks) {
      test(`line ${line}: ${kind}, ${text.split("\n")[0].slice(0, 60)}`, async () => {
        assert.ok(RUNNERS[kind], `no test knows how a block of the kind "${kind}" runs`);
        await RUNNERS[kind](text, page);
      });
    }
  });
}

test("the picture of a run shows what the commands print", async () => {
  assert.equal(await readFile(path.join(ROOT, PICTURE), "utf8"), await picture(), "node scripts/picture.mjs writes it anew");
});

test("the bundlers of docs/browser.md are those of the recipes, in their versions", async () => {
  const [docs, recipes] = await Promise.all(["docs/browser.md", "tests/package/bundlers.long.mjs"].map((file) => readFile(path.join(ROOT, file), "utf8")));
  const versions = (text) => [...text.matchAll(/(?<=[@" ])\d+\.\d+\.\d+(?=[", `]| \(| \||:)/g)].map(([version]) => version);
  const table = docs.slice(docs.indexOf("| bundler |"), docs.indexOf("If the error"));
  const tested = recipes.slice(recipes.indexOf("const vite"), recipes.indexOf("let browser")).replaceAll(/react(-dom)?@[\d.]+/g, "");
  assert.deepEqual(versions(table).sort(), versions(tested).sort());
});

test("README.md is short, and begins with how to install the package", async () => {
  const text = await readFile(path.join(ROOT, "README.md"), "utf8");
  assert.ok(text.split("\n").length <= 151);
  const { blocks } = (await pages())[0];
  assert.equal(blocks[0].text, "npm install --save-dev workers-ai-local\n");
});
