// The playground as `serve` shows it, in a real Chromium: the server computes with its own model, or the browser does with the same.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { scriptedModel } from "../scripted-model.mjs";
import { startServe, startServeIn } from "../serve-process.mjs";
import { launch, openPage } from "./chromium.mjs";

const LOAD_LIMIT_MS = 60_000;
/** Not the default model's. */
const FILE = "of-serve.gguf";
const MODEL = "@cf/meta/llama-3.1-8b-instruct";

let folder;
let file;
let browser;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-playground-"));
  file = path.join(folder, FILE);
  await writeFile(file, scriptedModel({ script: ["I", " am", " served", "."] }).bytes);
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

const ready = (page) => page.waitForSelector("#engine[data-state=ready]", { state: "attached", timeout: LOAD_LIMIT_MS });
const facts = (page) => page.locator("#facts-list dt").evaluateAll((names) => Object.fromEntries(names.map((name) => [name.textContent, name.nextElementSibling.textContent])));
async function answer(page) {
  await page.fill("#prompt", "Hi");
  await page.press("#prompt", "Enter");
  await page.waitForSelector("#send:enabled");
  return page.locator(".turn .text").last().textContent();
}

describe("the playground of a server with --gguf and --model", () => {
  let server;
  let page;
  let problems;
  before(async () => {
    server = await startServe("--port", "0", "--gguf", file, "--model", MODEL);
    ({ page, problems } = await openPage(browser));
    await page.goto(server.url);
  });
  after(async () => {
    await page?.close();
    await server?.stop();
  });

  it("shows the model that the server runs, what computes it and why", async () => {
    await ready(page);
    assert.match(await page.textContent("#engine-status"), /^Ready: of-serve\.gguf, computed by the server on the CPU\./);
    assert.equal(await page.textContent("#model-name"), FILE);
    assert.equal(await page.textContent("#model-place"), "server · CPU");
    assert.equal(await page.inputValue("#model"), MODEL);
    assert.match(await page.textContent("#model-note"), /Here of-serve\.gguf answers for it\.$/);
    const { Where, Why, Threads, Context } = await facts(page);
    assert.equal(Where, "the server of this page");
    assert.match(Why, /WebGPU/);
    assert.match(Threads, /^\d+$/);
    assert.match(Context, /^[\d,]+ tokens$/);
  });

  it("has the server answer: no model is loaded into the browser", async () => {
    assert.equal(await answer(page), "I am served.");
    assert.match(await page.locator(".turn .facts").last().textContent(), /(^| · )4 tokens · .* · prompt \d+ tokens/);
    assert.equal(page.workers().length, 0);
    assert.match(server.said, new RegExp(`POST /client/v4/accounts/local/ai/run/${MODEL} 200 `));
  });

  it("asks the server for the tokens", async () => {
    await page.fill("#prompt", "Hi");
    await page.click("#tokens");
    await page.waitForFunction(() => /^\d+ tokens/.test(document.querySelector("#token-count").textContent));
    assert.match(await page.textContent("#token-text"), /<\|im_start\|>user\nHi<\|im_end\|>/);
    const pieces = await page.locator("#token-text > *").evaluateAll((all) => all.map(({ tagName, textContent, title }) => ({ tagName, textContent, title })));
    assert.equal(pieces.map(({ title }) => title).join(" "), await page.textContent("#token-ids"));
    assert.deepEqual(pieces.filter(({ tagName }) => tagName === "MARK").map(({ textContent }) => textContent).slice(-3), ["<|im_start|>", "<|im_end|>", "<|im_start|>"]);
    await page.keyboard.press("Escape");
    await page.fill("#prompt", "");
  });

  it("shows code for this server and this file", async () => {
    await page.click("#open-code");
    await page.getByRole("tab", { name: "curl" }).click();
    assert.ok((await page.textContent("#code-text")).includes(`curl -N ${server.url}/client/v4/accounts/local/ai/run/${MODEL}`));
    await page.getByRole("tab", { name: "Worker" }).last().click();
    assert.ok((await page.textContent("#code-run")).includes(`npx workers-ai-local dev --gguf ${file}`));
    await page.keyboard.press("Escape");
  });

  it("computes the same file in the browser when that is chosen, remembers it, and goes back", async () => {
    await page.click("#open-models");
    await page.getByRole("radio", { name: /This browser/ }).check();
    await page.waitForFunction(() => document.querySelector("#model-place").textContent.startsWith("browser"));
    assert.equal(await page.textContent("#model-name"), FILE);
    assert.ok(page.workers().length > 0);
    await page.click("#new");
    assert.equal(await answer(page), "I am served.");
    await page.reload();
    await ready(page);
    assert.match(await page.textContent("#model-place"), /^browser/);
    await page.click("#open-models");
    await page.getByRole("radio", { name: /The server of this page/ }).check();
    await page.waitForFunction(() => document.querySelector("#model-place").textContent.startsWith("server"));
    assert.deepEqual(problems, []);
  });

  it("runs the typed Worker against the server", async () => {
    await page.click("#tab-worker");
    await page.click("#worker-send");
    await page.waitForSelector("#worker-response .code-block");
    assert.equal(JSON.parse(await page.textContent("#worker-response .code-block pre")).response, "I am served.");
    assert.equal(page.frames().length, 1, "the sandbox is gone");
  });

  it("runs the Worker that finds documents, with the server's embedding model", async () => {
    await page.selectOption("#worker-example", { label: "Answers from documents (RAG)" });
    await page.click("#worker-send");
    await page.waitForFunction(() => document.querySelector("#worker-response .code-block, #worker-response .error"), undefined, { timeout: LOAD_LIMIT_MS });
    const { found, response } = JSON.parse(await page.textContent("#worker-response .code-block pre"));
    assert.deepEqual([found, response], ["The office is open from nine to five, on weekdays only.", "I am served."]);
    await page.click("#tab-chat");
  });

  it("says what to do when the server has ended", async () => {
    await server.stop();
    await page.fill("#prompt", "Hi");
    await page.press("#prompt", "Enter");
    await page.waitForSelector(".turn .error");
    assert.equal(await page.locator(".turn .error").last().textContent(), "The answer failed. The server does not answer. Start it again with `workers-ai-local serve`, then ask again.");
    assert.equal(await page.inputValue("#prompt"), "Hi");
  });
});

describe("the playground of a server with a model of its own for one id", () => {
  const OWN = "@cf/google/gemma-3-12b-it";
  let own;
  let server;
  before(async () => {
    own = path.join(folder, "own.gguf");
    await writeFile(own, scriptedModel({ script: ["I", " am", " own", "."], context: 640 }).bytes);
    await writeFile(path.join(folder, "workers-ai-local.json"), JSON.stringify({ models: { [OWN]: own }, default: file }));
    // The variable would take the place of the default.
    const { WORKERS_AI_LOCAL_MODEL, ...env } = process.env;
    server = await startServeIn({ cwd: folder, env }, "--port", "0");
  });
  after(() => server?.stop());

  it("shows the file, the window and the code of the id that is chosen", async () => {
    const { page, problems } = await openPage(browser);
    await page.goto(server.url);
    await ready(page);
    const commands = async () => {
      await page.click("#open-code");
      const text = await page.textContent("#code-run");
      await page.keyboard.press("Escape");
      return text;
    };
    assert.equal(await answer(page), "I am served.");
    const first = await commands();
    assert.ok(first.includes(`npx workers-ai-local dev --gguf ${file}`) && !first.includes("--model"), first);
    await page.waitForFunction(() => / of 2,048 tokens$/.test(document.querySelector("#context-text").textContent));

    await page.selectOption("#model", OWN);
    assert.match(await page.textContent("#model-note"), /Here own\.gguf answers for it\.$/);
    assert.equal(await answer(page), "I am own.");
    await page.waitForFunction(() => / of 640 tokens$/.test(document.querySelector("#context-text").textContent));
    const { File, Context } = await facts(page);
    assert.deepEqual([File, Context], ["own.gguf", "640 tokens"]);
    assert.ok((await commands()).includes(`npx workers-ai-local dev --gguf ${own} --model ${OWN}`));
    await page.click("#tokens");
    await page.waitForFunction(() => / of the 640 positions/.test(document.querySelector("#token-count").textContent));
    await page.keyboard.press("Escape");

    await page.click("#tab-worker");
    assert.ok((await page.textContent("#worker-take-text")).includes(`npx workers-ai-local dev --gguf ${file}`));
    await page.fill("#worker-editor textarea", `export default { fetch: async (request, env) => Response.json(await env.AI.run("${OWN}", { prompt: "Hi" })) };`);
    await page.click("#worker-take summary");
    await page.waitForFunction((command) => document.querySelector("#worker-take-text").textContent.includes(command), `npx workers-ai-local dev --gguf ${own} --model ${OWN}`);
    assert.deepEqual(problems, []);
    await page.close();
  });
});

describe("the playground of a server with a key", () => {
  let server;
  before(async () => (server = await startServe("--port", "0", "--gguf", file, "--key", "secret")));
  after(() => server?.stop());

  it("is shown, asks for the key, and uses it", async () => {
    const { page } = await openPage(browser);
    await page.goto(server.url);
    await page.waitForSelector("#key-form:not([hidden])");
    assert.match(await page.textContent("#engine-status"), /^This server answers only with its key/);
    await page.fill("#key", "wrong");
    await page.press("#key", "Enter");
    await page.waitForFunction(() => document.querySelector("#engine-status").textContent === "This server has another key.");
    await page.fill("#key", "secret");
    await page.press("#key", "Enter");
    await ready(page);
    assert.equal(await answer(page), "I am served.");
    // The model's file needs the key too.
    await page.click("#open-models");
    await page.getByRole("radio", { name: /This browser/ }).check();
    await page.waitForFunction((file) => document.querySelector("#model-place").textContent.startsWith("browser") && document.querySelector("#model-name").textContent === file, FILE);
    await page.click("#open-models");
    await page.getByRole("radio", { name: /The server of this page/ }).check();
    await page.waitForFunction(() => document.querySelector("#model-place").textContent.startsWith("server"));
    await page.click("#open-code");
    await page.getByRole("tab", { name: "curl" }).click();
    const code = await page.textContent("#code");
    assert.ok(code.includes('-H "authorization: Bearer $KEY"') && !code.includes("secret"));
    await page.close();
  });
});
