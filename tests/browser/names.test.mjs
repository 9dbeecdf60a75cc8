// Names of models in a page: the hub is asked once, and the files that it names are stored and compared.

import assert from "node:assert/strict";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { CURATED_MODELS } from "../../pkg/curated-models.js";
import { ggufAdapter, peftAdapter, successorAdapter } from "../adapters.mjs";
import { partName, splitFile } from "../gguf-fixtures.mjs";
import { POOR_TOKEN, TOKEN, sha256Of, startHub } from "../hub-server.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { launch } from "./chromium.mjs";
import { answerIn, bytesOf, deleteIn, listIn, paddedModel, startModelHost } from "./model-host.mjs";

const modelOf = (...says) => scriptedModel({ script: says }).bytes;
const LARGE = bytesOf(paddedModel(10_000_000, ["Large."]));
const CURATED = CURATED_MODELS[0];
const CURATED_REPO = /^hf:([^:]+):/.exec(CURATED.source)[1];

let browser;
let host;
let hub;
let context;
let page;
let repositories;

before(async () => {
  browser = await launch();
  host = await startModelHost(new Map());
});
after(async () => {
  await browser?.close();
  await host?.close();
});
beforeEach(async () => {
  const parts = Object.fromEntries(splitFile(modelOf("In", " parts."), [6]).map((bytes, index) => [partName("split-Q8_0", index, 2), bytes]));
  repositories = {
    "some/models": { files: { "README.md": Buffer.from("text"), "model-Q4_K_M.gguf": LARGE, "model-Q8_0.gguf": modelOf("Eight.") } },
    "some/parts": { files: parts },
    "some/gated": { gated: true, files: { "model-Q4_0.gguf": modelOf("Secret.") } },
    [CURATED_REPO]: { files: { "curated.Q4_1.gguf": modelOf("Curated.") } },
  };
  hub = await startHub(repositories);
  context = await browser.newContext();
  page = await context.newPage();
  await page.goto(`${host.url}/`);
});
afterEach(async () => {
  await context.close();
  await hub.close();
});

const answer = (name, { token, ...config } = {}) => answerIn(page, name, { config: { hub: { endpoint: hub.url, token }, ...config } });
const says = (response) => ({ response, warnings: [] });
const asked = () => hub.asked.map(({ to, path }) => `${to} ${path.replace(/\?.*/, "")}`);

describe("a name on the hub", () => {
  it("answers, the second time without the network", async () => {
    assert.deepEqual(await answer("hf:some/models"), says("Large."));
    assert.equal(asked().filter((path) => path.startsWith("hub /api/")).length, 1);
    const { length } = hub.asked;
    assert.deepEqual(await answer("hf:some/models"), says("Large."));
    assert.equal(hub.asked.length, length);
    await hub.close();
    assert.deepEqual(await answer("hf:some/models"), says("Large."));
    const [{ name, url, size, complete, sha256 }, ...others] = await listIn(page);
    assert.deepEqual([name, url, size, complete, sha256, others], ["hf:some/models", `${hub.url}/some/models/resolve/main/model-Q4_K_M.gguf`, LARGE.length, true, sha256Of(LARGE), []]);
  });

  it("names a quantisation or a file, and is what is removed", async () => {
    for (const name of ["hf:some/models:Q8_0", "hf:some/models:q8_0", "hf:some/models/model-Q8_0.gguf"]) assert.deepEqual(await answer(name), says("Eight."));
    assert.equal(asked().filter((path) => path.startsWith("cdn ")).length, 1, "the same bytes are downloaded once");
    assert.equal((await listIn(page)).length, 1);
    assert.equal(await deleteIn(page, "hf:some/models:Q4_K_M"), false);
    assert.equal(await deleteIn(page, "hf:some/models/model-Q8_0.gguf"), true);
    assert.deepEqual(await listIn(page), []);
    assert.deepEqual(await answer("hf:some/models:Q8_0"), says("Eight."));
  });

  it("stands for all files of a split model, which are listed as one", async () => {
    for (const name of ["hf:some/parts", "hf:some/parts/split-Q8_0-00002-of-00002.gguf"]) assert.deepEqual(await answer(name), says("In parts."));
    assert.equal(asked().filter((path) => path.startsWith("hub /api/")).length, 2);
    const { length } = hub.asked;
    assert.deepEqual(await answer("hf:some/parts"), says("In parts."));
    assert.equal(hub.asked.length, length);
    const [{ name, size, complete }, ...others] = await listIn(page);
    const bytes = Object.values(repositories["some/parts"].files).reduce((sum, { length }) => sum + length, 0);
    assert.deepEqual([name, size, complete, others], ["hf:some/parts", bytes, true, []]);
    assert.equal(await deleteIn(page, "hf:some/parts"), true);
    assert.deepEqual(await listIn(page), []);
  });

  it("is that of a curated model, too", async () => {
    assert.deepEqual(await answer(CURATED.name), says("Curated."));
    assert.deepEqual((await listIn(page)).map(({ name }) => name), [CURATED.name]);
    assert.equal(await deleteIn(page, CURATED.source), true);
  });

  it("may stand for one of several models", async () => {
    const models = { "@cf/meta/llama-3.1-8b-instruct": "hf:some/models:Q8_0" };
    assert.deepEqual(await answer("hf:some/none", { models }), says("Eight."));
    assert.deepEqual(asked().filter((path) => path.includes("none")), []);
  });

  it("needs the token of a gated repository, which nobody but the hub gets", async () => {
    for (const cache of [true, false]) assert.match((await answer("hf:some/gated", { cache })).error, /^3003: .*some\/gated is gated \(HTTP 401\)\. Accept its licence at \S+\/some\/gated, .*hub: \{ token \}/);
    assert.match((await answer("hf:some/gated", { token: POOR_TOKEN })).error, /^3003: .*the hub's token has no access \(HTTP 403\)/);
    assert.deepEqual(await answer("hf:some/gated", { token: TOKEN }), says("Secret."));
    assert.deepEqual(hub.asked.filter(({ to, headers }) => to === "cdn" && headers.authorization), []);
    assert.deepEqual(await answer("hf:some/gated"), says("Secret."));
  });

  it("names an adapter: PEFT's two files or one GGUF, read again without the network", async () => {
    const model = scriptedModel({ tokens: [{ text: "Bonjour", kind: 1 }], next: { Bonjour: " there" } });
    const french = successorAdapter(model, { "\n": "Bonjour", there: "!" });
    const { config, weights } = peftAdapter(french);
    repositories["some/scripted"] = { files: { "scripted-F32.gguf": Buffer.from(model.bytes) } };
    repositories["some/peft"] = { files: { "adapter_config.json": Buffer.from(config), "adapter_model.safetensors": Buffer.from(weights) } };
    repositories["some/gguf"] = { files: { "french-F16.gguf": Buffer.from(ggufAdapter(french)) } };
    const answers = () =>
      page.evaluate(async (endpoint) => {
        const { Ai } = await import("/pkg/browser.js");
        const loras = { peft: { source: "hf:some/peft" }, gguf: { source: "hf:some/gguf" } };
        const ai = new Ai({ default: "hf:some/scripted", loras, hub: { endpoint }, threads: 1, onWarning() {} });
        const ask = (lora) => ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi", temperature: 0, lora }).then(({ response }) => response, ({ message }) => message);
        const texts = [await ask(), await ask("peft"), await ask("gguf")];
        await ai.close();
        return texts;
      }, hub.url);
    const expected = ["Hello there!", "Bonjour there!", "Bonjour there!"];
    assert.deepEqual(await answers(), expected);
    await hub.close();
    assert.deepEqual(await answers(), expected);
  });

  it("that stands for nothing is an error that says what there is", async () => {
    assert.match((await answer("hf:some/models:Q5_K_M")).error, /^3042: .*some\/models has no Q5_K_M.*Q4_K_M/);
    assert.match((await answer("hf:some/none")).error, /^3003: .*some\/none does not exist, or is private or gated/);
    assert.match((await answer("hf:nonsense")).error, /"hf:nonsense" is not the name of a model/);
    await hub.close();
    assert.match((await answer("hf:some/models")).error, /^3008: .*cannot be reached/);
  });

  it("is not answered by wrong bytes, which are not kept", async () => {
    const wrong = Buffer.from(LARGE);
    wrong[5_000_000] ^= 1;
    hub.faults.cdn = () => ({ bytes: wrong });
    assert.match((await answer("hf:some/models")).error, /^3008: .*its SHA-256 is [\da-f]{64} instead of/);
    assert.deepEqual(await listIn(page), []);
    assert.match((await answer("hf:some/models", { cache: false })).error, /^5004: .* is not the expected file/);
    hub.faults.cdn = undefined;
    assert.deepEqual(await answer("hf:some/models"), says("Large."));
  });

  it("is looked up again by the same Ai after its file was replaced on the hub", async () => {
    const old = repositories["some/models"].files["model-Q4_K_M.gguf"];
    const replaced = bytesOf(paddedModel(10_000_000, ["Newer."]));
    hub.faults.cdn = () => ({ bytes: replaced });
    const texts = page.evaluate(
      async ({ endpoint, id }) => {
        const { Ai } = await import("/pkg/browser.js");
        const ai = new Ai({ default: "hf:some/models", hub: { endpoint }, threads: 1, onWarning() {} });
        const ask = () => ai.run(id, { prompt: "Hi" }).then(({ response }) => response, ({ message }) => message);
        const first = await ask();
        await new Promise((resolve) => (globalThis.goOn = resolve));
        return [first, await ask()];
      },
      { endpoint: hub.url, id: "@cf/meta/llama-3.1-8b-instruct" },
    );
    await page.waitForFunction(() => globalThis.goOn);
    assert.equal(repositories["some/models"].files["model-Q4_K_M.gguf"], old);
    repositories["some/models"].files["model-Q4_K_M.gguf"] = replaced;
    await page.evaluate(() => globalThis.goOn());
    const [first, second] = await texts;
    assert.match(first, /^3008: .* Try again\.$/);
    assert.equal(second, "Newer.");
  });

  it("goes on where a connection was cut", async () => {
    hub.faults.cdn = ({ count }) => (count === 1 ? { cutAfter: 6_000_000, cutAfterMs: 1000 } : undefined);
    assert.deepEqual(await answer("hf:some/models"), says("Large."));
    const ranges = hub.asked.filter(({ to }) => to === "cdn").map(({ headers }) => headers.range);
    assert.deepEqual([ranges.length, ranges[0]], [2, undefined]);
    assert.match(ranges[1], /^bytes=[1-9]\d{4,}-$/);
    assert.deepEqual(hub.asked.filter(({ headers }) => headers["if-range"]), [], "another origin would have to allow it");
  });
});
