// A model that is split, in a real Chromium: its URLs and Blobs reach the engine's Web Worker, and the playground finds all of its files.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { partName, splitFile } from "../gguf-fixtures.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { launch, openPage } from "./chromium.mjs";

const SAYS = "All of it.";
const PARTS = splitFile(scriptedModel({ script: [SAYS] }).bytes, [0, 5]);
const name = (part) => partName("model", part, PARTS.length);

let folder;
let server;
let browser;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-split-"));
  for (const [part, bytes] of PARTS.entries()) await writeFile(path.join(folder, name(part)), bytes);
  server = await startPlayground({ modelPath: path.join(folder, name(0)) });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

const ask = async (ai) => (await ai.run("@cf/meta/llama-3.1-8b-instruct", { messages: [{ role: "user", content: "Hi" }] })).response;

for (const [what, source] of [
  ["a relative URL of one file", `/models/${name(1)}`],
  ["a list of relative URLs", [2, 0, 1].map((part) => `/models/${name(part)}?signature=${part}`)],
  ["a list of objects with relative URLs", [1, 0, 2].map((part) => ({ url: `/models/${name(part)}`, headers: { "x-key": "1" } }))],
]) {
  test(what, async () => {
    const { page } = await openAi(browser, server.url, { default: source });
    assert.equal(await inPage(page, ask), SAYS);
    const { loaded, total } = await page.evaluate(() => globalThis.progress.at(-1));
    const bytes = PARTS.reduce((sum, { length }) => sum + length, 0);
    assert.deepEqual([loaded, total], [bytes, bytes]);
    await page.close();
  });
}

test("a list of Blobs, but not of custom sources", async () => {
  const { page } = await openAi(browser, server.url, {});
  const outcome = await inPage(
    page,
    async (_, { names, model, input }) => {
      const { Ai } = await import("/pkg/browser.js");
      const blobs = await Promise.all(names.map(async (name) => (await fetch(`/models/${name}`)).blob()));
      const ai = new Ai({ default: blobs, threads: 1, onWarning() {} });
      const { response } = await ai.run(model, input);
      const alone = await new Ai({ default: blobs[0], threads: 1, onWarning() {} }).run(model, input).catch(({ message }) => message);
      let custom = "";
      try {
        new Ai({ default: [blobs[0], { name: "own", open() {} }] });
      } catch ({ message }) {
        custom = message;
      }
      return { response, alone, custom };
    },
    { names: [name(1), name(2), name(0)], model: "@cf/meta/llama-3.1-8b-instruct", input: { messages: [{ role: "user", content: "Hi" }] } },
  );
  assert.equal(outcome.response, SAYS);
  assert.match(outcome.alone, /^5004: a Blob of \d+ bytes.* is part 2 of 3 of a split model\. Give all 3 files as a list, in any order/);
  assert.match(outcome.custom, /^A source with open\(\) cannot be sent to a Web Worker/);
  await page.close();
});

test("the playground loads all files of the server's model", async () => {
  const { page, problems } = await openPage(browser);
  await page.goto(server.url);
  await page.waitForSelector("#engine[data-state=ready]", { state: "attached", timeout: 60_000 });
  assert.match(await page.textContent("#engine-status"), /^Ready: model-00001-of-00003\.gguf, computed on the CPU/);
  await page.fill("#prompt", "Hi");
  await page.press("#prompt", "Enter");
  await page.waitForFunction((says) => document.querySelector("#conversation").textContent.includes(says), SAYS);
  assert.deepEqual(problems, []);
  await page.close();
});
