// LoRA adapters through the package: both forms and every way to give them, in all surfaces, and the errors.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { Ai } from "workers-ai-local";
import { adapterFromFolder } from "../../pkg/config-file.js";
import { ggufAdapter, peftAdapter, randomAdapter, safetensors, successorAdapter } from "../adapters.mjs";
import { startHub } from "../hub-server.mjs";
import "../own-cache.mjs";
import { Random } from "../random.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { readAnswer } from "../sse.mjs";

const CLI = fileURLToPath(new URL("../../pkg/cli.js", import.meta.url));
const MODEL = "@cf/own/scripted";
const model = scriptedModel({ tokens: [{ text: "Bonjour", kind: 1 }, { text: "Hola", kind: 1 }], next: { Bonjour: " there", Hola: " there" } });
/** Adapters after which the answer begins with another word. */
const french = successorAdapter(model, { "\n": "Bonjour", there: "!" });
const spanish = successorAdapter(model, { "\n": "Hola" });
const PLAIN = "Hello there!";
const [FRENCH, SPANISH] = ["Bonjour there!", "Hola there!"];
const INPUT = { prompt: "Hi", temperature: 0 };
const files = peftAdapter(french);
const loras = {
  french: { model: MODEL, source: files },
  spanish: { source: ggufAdapter(spanish) },
};

let folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-lora-"));
  await writeFile(path.join(folder, "adapter_config.json"), files.config);
  await writeFile(path.join(folder, "adapter_model.safetensors"), files.weights);
  await writeFile(path.join(folder, "french.gguf"), ggufAdapter(french));
  await writeFile(path.join(folder, "model.gguf"), model.bytes);
});
after(() => rm(folder, { recursive: true, force: true }));

const withLoras = (loras, more = {}) => new Ai({ models: { [MODEL]: model.bytes }, backend: "cpu", loras, ...more });

describe("an adapter may be", () => {
  const kinds = {
    "bytes of GGUF": () => ggufAdapter(french),
    "the bytes of PEFT's two files": () => files,
    "a path of GGUF": () => path.join(folder, "french.gguf"),
    "the paths of PEFT's two files": () => ({ config: path.join(folder, "adapter_config.json"), weights: path.join(folder, "adapter_model.safetensors") }),
    "a folder": () => folder,
    "a folder that ends in a slash": () => `${folder}/`,
    Blobs: () => ({ config: new Blob([files.config]), weights: new Blob([files.weights]) }),
  };
  for (const [kind, source] of Object.entries(kinds)) {
    test(kind, async () => {
      const ai = withLoras({ french: { source: source() } });
      assert.equal((await ai.run(MODEL, { ...INPUT, lora: "french" })).response, FRENCH);
      assert.equal((await ai.run(MODEL, INPUT)).response, PLAIN);
      await ai.close();
    });
  }
});

describe("an adapter on the hub", () => {
  let hub;
  before(async () => {
    const peft = { "adapter_config.json": Buffer.from(files.config), "adapter_model.safetensors": Buffer.from(files.weights) };
    const gguf = { "french-F16.gguf": Buffer.from(ggufAdapter(french)) };
    const of = (files) => ({ files: { "README.md": Buffer.from("#"), ...files } });
    hub = await startHub({
      "owner/peft": of(peft),
      "owner/gguf": of(gguf),
      "owner/both": of({ ...peft, "model-Q4_0.gguf": Buffer.from(model.bytes) }),
      "owner/folders": of({ "french/adapter_config.json": peft["adapter_config.json"], "french/adapter_model.safetensors": peft["adapter_model.safetensors"] }),
      "owner/old": of({ "adapter_config.json": peft["adapter_config.json"], "adapter_model.bin": Buffer.from("pickle") }),
      "owner/converted": of({ ...gguf, "adapter_config.json": peft["adapter_config.json"] }),
      "owner/revised": { revisions: ["main", "v1"], files: peft },
    });
  });
  after(() => hub.close());
  const onHub = (source, more = {}) => withLoras({ french: { source } }, { hub: { endpoint: hub.url }, ...more });
  const says = async (source) => {
    const ai = onHub(source);
    try {
      return (await ai.run(MODEL, { ...INPUT, lora: "french" })).response;
    } catch ({ message }) {
      return message;
    } finally {
      await ai.close();
    }
  };

  const names = ["hf:owner/peft", "hf:owner/peft/", "hf:owner/gguf", "hf:owner/gguf:F16", "hf:owner/both", "hf:owner/folders/french/", "hf:owner/converted", "hf:owner/revised@v1", "https://huggingface.co/owner/peft"];
  for (const name of names) test(name, async () => assert.equal(await says(name), FRENCH));

  test("is asked for when it is needed, and by each surface", async () => {
    hub.asked.length = 0;
    const ai = onHub("hf:owner/peft", { models: { [MODEL]: model.bytes } });
    assert.equal((await ai.run(MODEL, INPUT)).response, PLAIN);
    assert.deepEqual(hub.asked, []);
    const post = async (body) => (await ai.fetch(`/client/v4/accounts/a/ai/run/${MODEL}`, { method: "POST", body: JSON.stringify(body) })).json();
    const both = [post({ ...INPUT, lora: "french" }).then(({ result }) => result.response), ai.run(MODEL, { ...INPUT, lora: "french" }).then(({ response }) => response)];
    assert.deepEqual(await Promise.all(both), [FRENCH, FRENCH]);
    await ai.close();
  });

  test("is found again without the network", async () => {
    for (const name of ["hf:owner/peft", "hf:owner/gguf"]) {
      assert.equal(await says(name), FRENCH);
      hub.faults.hub = () => ({ status: 500 });
      assert.equal(await says(name), FRENCH, name);
      hub.faults.hub = undefined;
    }
  });

  test("whose hub refused is asked for again by the next request", async () => {
    const ai = onHub("hf:owner/both@0123456789abcdef0123456789abcdef01234567");
    hub.faults.hub = () => ({ status: 403 });
    await assert.rejects(ai.run(MODEL, { ...INPUT, lora: "french" }), /owner\/both: the hub gives no access \(HTTP 403\)/);
    hub.faults.hub = undefined;
    assert.equal((await ai.run(MODEL, { ...INPUT, lora: "french" })).response, FRENCH);
    await ai.close();
  });

  test("that is not whole, or no adapter, says so; and one that is given as a model", async () => {
    assert.match(await says("hf:owner/old"), /^3042: .*owner\/old has no file adapter_model\.safetensors: it has README\.md, adapter_config\.json, adapter_model\.bin/);
    assert.match(await says("hf:owner/none"), /owner\/none does not exist/);
    assert.throws(() => onHub("hf:owner"), { name: "AiInternalError", message: /"hf:owner" is not the name of a model/ });
    const ai = withLoras(undefined, { models: { [MODEL]: "hf:owner/peft" }, hub: { endpoint: hub.url } });
    await assert.rejects(ai.run(MODEL, INPUT), /owner\/peft has a LoRA adapter, and no model in GGUF: give it as an adapter, in loras or with --lora NAME=hf:owner\/peft/);
    await ai.close();
  });
});

describe("requests with adapters", () => {
  let ai;
  before(() => void (ai = withLoras(loras)));
  after(() => ai.close());

  test("answer as an object, a stream and over HTTP", async () => {
    const input = { ...INPUT, lora: "french" };
    assert.equal((await ai.run(MODEL, input)).response, FRENCH);
    assert.equal((await readAnswer(await ai.run(MODEL, { ...input, stream: true }))).text, FRENCH);
    const post = async (pathname, body) => (await ai.fetch(pathname, { method: "POST", body: JSON.stringify(body) })).json();
    assert.equal((await post(`/client/v4/accounts/a/ai/run/${MODEL}`, input)).result.response, FRENCH);
    const chat = await post("/v1/chat/completions", { model: MODEL, messages: [{ role: "user", content: "Hi" }], temperature: 0, lora: "french" });
    assert.equal(chat.choices[0].message.content, FRENCH);
  });

  test("reuse the prefix of the same adapter only", async () => {
    const own = withLoras(loras);
    const cached = async (lora) => (await own.run(MODEL, { ...INPUT, lora })).usage.prompt_tokens_details.cached_tokens;
    for (const lora of [undefined, "french", "spanish"]) assert.equal(await cached(lora), 0, lora);
    for (const lora of ["spanish", undefined, "french"]) assert.ok((await cached(lora)) > 0, lora);
    await own.close();
  });

  test("at once compute what each computes alone", async () => {
    const random = new Random(3);
    const words = ["red", "green", "blue", "one", "two"];
    const { bytes } = scriptedModel({ noise: { random, words } });
    const adapters = Object.fromEntries([1, 2].map((seed) => [`random ${seed}`, { source: ggufAdapter(randomAdapter(bytes, { seed, size: 0.5 })) }]));
    const own = new Ai({ models: { [MODEL]: bytes }, backend: "cpu", loras: adapters });
    const inputs = [undefined, "random 1", "random 2"].map((lora, seed) => ({ prompt: "Say something", raw: true, max_tokens: 24, seed: seed + 1, lora }));
    const alone = [];
    for (const input of inputs) alone.push((await own.run(MODEL, input)).response);
    const together = await Promise.all(inputs.map((input) => own.run(MODEL, input)));
    assert.deepEqual(together.map(({ response }) => response), alone);
    const other = await own.run(MODEL, { ...inputs[0], lora: "random 1" });
    assert.notEqual(other.response, alone[0], "the adapter changes the answer");
    // The PEFT form of the same numbers.
    const peft = new Ai({ models: { [MODEL]: bytes }, backend: "cpu", loras: { same: { source: peftAdapter(randomAdapter(bytes, { seed: 1, size: 0.5 }), { head: 32 }) } } });
    assert.equal((await peft.run(MODEL, { ...inputs[1], lora: "same" })).response, alone[1]);
    await Promise.all([own.close(), peft.close()]);
  });
});

describe("the command", () => {
  const command = (...args) => promisify(execFile)(process.execPath, [CLI, ...args], { cwd: folder, env: { ...process.env, CI: "1" } });
  const MODEL_FILE = ["--gguf", "model.gguf", "--backend", "cpu", "--temperature", "0"];

  test("dev takes the same names for adapters as run", async () => {
    const ofDev = (source) => adapterFromFolder(source, folder);
    assert.equal(ofDev("hf:owner/repo/"), "hf:owner/repo/");
    assert.equal(ofDev("hf:owner/repo"), "hf:owner/repo");
    assert.equal(ofDev("french/"), path.join(folder, "french"));
    assert.throws(() => ofDev("hf:owner/"), { message: /"hf:owner" is not the name of a model/ });
  });

  for (const source of ["french.gguf", "."]) {
    test(`run --lora NAME=${source}`, async () => assert.equal((await command("run", ...MODEL_FILE, "--lora", `mine=${source}`, "Hi")).stdout, `${FRENCH}\n`));
  }

  test("errors name its option", async () => {
    const wrong = (args, code, text) =>
      assert.rejects(command("run", ...MODEL_FILE, ...args, "Hi"), (error) => {
        assert.equal(error.code, code, error.stderr);
        assert.match(error.stderr, text);
        return true;
      });
    await wrong(["--lora", "french.gguf"], 2, /--lora takes NAME=PATH, not "french\.gguf"/);
    await wrong(["--lora", "a=french.gguf", "--lora", "b=french.gguf"], 2, /--lora: an answer is computed with one adapter/);
    await wrong(["--lora", "a=model.gguf"], 1, /LoRA adapter 'a' does not fit model\.gguf: .*model\.gguf is a GGUF file of a model, not of an adapter/);
  });
});

describe("errors", () => {
  const bad = {
    ...loras,
    narrow: { source: ggufAdapter({ ...spanish, matrices: [{ ...spanish.matrices[0], inputs: 32, a: new Float32Array(32) }] }) },
    missing: { source: "/no/such/adapter.gguf" },
    dora: { source: peftAdapter(french, { fields: { use_dora: true } }) },
    embedding: { source: { ...files, weights: safetensors([{ name: "base_model.model.model.embed_tokens.lora_embedding_A", shape: [1, 4], values: new Float32Array(4) }]) } },
    other: { model: "@cf/own/other", source: files },
  };
  let ai;
  before(() => void (ai = withLoras(bad)));
  after(() => ai.close());

  const cases = {
    frensh: [5005, 405, /LoRA adapter 'frensh' is not known here\. Known: dora, embedding, french, missing,/],
    narrow: [5005, 405, /does not fit .*'output\.weight\.lora_a' is \[1, 32\], but must be \[1, \d+\], as the model's matrix has \d+ columns/],
    missing: [3042, 404, /\/no\/such\/adapter\.gguf was not found/],
    dora: [5005, 405, /"use_dora": true, which is not supported/],
    embedding: [5005, 405, /adapts the embedding of the tokens/],
    other: [5005, 405, /is for the model @cf\/own\/other, which is not the one that answers for @cf\/own\/scripted/],
  };
  for (const [lora, [code, status, text]] of Object.entries(cases)) {
    test(lora, async () => {
      await assert.rejects(ai.run(MODEL, { ...INPUT, lora }), (error) => {
        assert.equal(error.internalCode, code);
        assert.equal(error.httpCode, status);
        assert.match(error.message, text);
        return true;
      });
      assert.equal((await ai.run(MODEL, { ...INPUT, lora: "french" })).response, FRENCH, "others are not affected");
    });
  }

  test("without any adapter, the error says how to give one", async () => {
    const none = withLoras(undefined);
    await assert.rejects(none.run(MODEL, { ...INPUT, lora: "mine" }), /5005: LoRA adapter 'mine' is not known here: none is configured\. Give it its files with new Ai\(\{ loras: \{ "mine": \{ model, source \} \} \}\)\./);
    await none.close();
  });

  test("a configuration that makes no sense is refused at once", () => {
    for (const [loras, text] of [
      [3, /loras is not an object/],
      [{ a: "file.gguf" }, /loras\["a"\] is not an adapter\. Give it as \{ model, source \}/],
      [{ a: { model: 3, source: "file.gguf" } }, /loras\["a"\]\.model is not the id of a model/],
      [{ a: { source: { config: "x" } } }, /loras\["a"\]\.source is not a model file/],
      [{ a: { source: { config: "x", weights: 3 } } }, /loras\["a"\]\.source\.weights is not a model file/],
    ]) {
      assert.throws(() => new Ai({ loras }), { name: "AiInternalError", message: text });
    }
  });
});
