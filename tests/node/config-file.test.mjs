// The configuration file: where it is found, what it says, what wins over it, and what is said of mistakes in it.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chmod, chown, mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { promisify } from "node:util";
import { Ai } from "workers-ai-local";
import { ModelCache } from "../../pkg/cache/models.js";
import { findConfig, withConfigFile } from "../../pkg/config-file.js";
import { localEngine } from "../../pkg/dev/engine.js";
import { int } from "../gguf-fixtures.mjs";
import { startHub } from "../hub-server.mjs";
import { CACHE } from "../own-cache.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { CLI, startServeIn } from "../serve-process.mjs";

const HI = { messages: [{ role: "user", content: "Hi" }] };
const file = (says) => Buffer.from(scriptedModel({ script: [says] }).bytes);
let folder;
let hub;
const own = process.env.WORKERS_AI_LOCAL_MODEL;
before(async () => {
  // It would come before the file.
  delete process.env.WORKERS_AI_LOCAL_MODEL;
  hub = await startHub({ "owner/model": { files: { "model-Q4_K_M.gguf": file("From the hub.") } } });
});
after(async () => {
  if (own !== undefined) process.env.WORKERS_AI_LOCAL_MODEL = own;
  await hub.close();
});
beforeEach(async (t) => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-config-"));
  const made = folder;
  t.after?.(() => rm(made, { recursive: true, force: true }));
});
const write = (content, name = "workers-ai-local.json") => writeFile(path.join(folder, name), typeof content === "string" ? content : JSON.stringify(content));
const merged = (options = {}, from = folder) => withConfigFile({ config: true, ...options }, from);

describe("the file", () => {
  test("names models, adapters and ids; paths are relative to it", async () => {
    await write({
      $schema: "./node_modules/workers-ai-local/pkg/config.schema.json",
      models: { "@cf/a": "hf:owner/model", "@cf/b": ["./b-1.gguf", "b-2.gguf"], "@cf/e": { weights: "e.safetensors", config: "https://models.example/config.json" } },
      default: "llama-3.2-1b",
      loras: { one: "one.gguf", two: { model: "@cf/a", source: "./two/" }, three: "hf:owner/adapter/", four: { source: "hf:owner/adapter" } },
      remote: { "*": "when-missing" },
      strict: true,
      hub: { endpoint: "https://mirror.example" },
    });
    const at = (name) => path.join(folder, name);
    assert.deepEqual(merged(), {
      models: { "@cf/a": "hf:owner/model", "@cf/b": [at("b-1.gguf"), at("b-2.gguf")], "@cf/e": { weights: at("e.safetensors"), config: "https://models.example/config.json" } },
      default: "llama-3.2-1b",
      loras: { one: { source: at("one.gguf") }, two: { model: "@cf/a", source: at("two") }, three: { source: "hf:owner/adapter/" }, four: { source: "hf:owner/adapter" } },
      remote: { "*": "when-missing" },
      strict: true,
      hub: { endpoint: "https://mirror.example", token: "" },
    });
  });

  test("is found from the folders in it, up to the repository's", async () => {
    await write({ default: "./m.gguf" });
    const inner = path.join(folder, "a", "b");
    await mkdir(inner, { recursive: true });
    assert.equal(merged({}, inner).default, path.join(folder, "m.gguf"));
    await mkdir(path.join(folder, "a", ".git"));
    assert.deepEqual(merged({}, inner), {});
  });

  test("of another user is not read, and a warning says so once", { skip: process.getuid?.() !== 0 && "only root can give files to others" }, async () => {
    const [OTHER, USER] = [12345, 12346];
    const inner = path.join(folder, "inner");
    await mkdir(inner);
    await write({ default: "./m.gguf" });
    await write({ "workers-ai-local": { default: "./p.gguf" } }, "package.json");
    const [file, manifest] = ["workers-ai-local.json", "package.json"].map((name) => path.join(folder, name));
    /** What a user finds, and what is said. */
    const found = async (uid, owners) => {
      await Promise.all([chown(file, owners[0], 0), chown(manifest, owners[1], 0)]);
      // No folder of this project need be open to that user: the module is loaded before.
      const code = `import { withConfigFile } from ${JSON.stringify(new URL("../../pkg/config-file.js", import.meta.url).href)};
        process.setuid(${uid});
        const find = () => withConfigFile({ config: true, onWarning: console.error }).default ?? null;
        console.log(JSON.stringify([find(), find()]));`;
      const { stdout, stderr } = await promisify(execFile)(process.execPath, ["--input-type=module", "--eval", code], { cwd: inner });
      const [one, again] = JSON.parse(stdout);
      assert.equal(one, again);
      return [one && path.basename(one), stderr];
    };
    await chmod(folder, 0o755);
    const warning = (file) => `workers-ai-local: ${file} is not used: it belongs to another user. Use a copy of your own, or name it in a program: config: "${file}".\n`;
    assert.deepEqual(await found(USER, [OTHER, OTHER]), [null, warning(file) + warning(manifest)]);
    assert.deepEqual(await found(USER, [OTHER, USER]), ["p.gguf", warning(file)]);
    assert.deepEqual(await found(USER, [USER, OTHER]), ["m.gguf", ""]);
    assert.deepEqual(await found(USER, [0, 0]), ["m.gguf", ""]);
    // As in a container.
    assert.deepEqual(await found(0, [OTHER, OTHER]), ["m.gguf", ""]);
  });

  test("may be in package.json", async () => {
    await write({ name: "x", "workers-ai-local": { default: "./m.gguf" } }, "package.json");
    assert.equal(merged().default, path.join(folder, "m.gguf"));
    await write({ default: "smollm2-360m" });
    assert.equal(merged().default, "smollm2-360m", "its own file comes first");
    assert.equal(merged({ config: "package.json" }).default, path.join(folder, "m.gguf"));
  });

  test("is read only if it is asked for", async () => {
    await write("not JSON");
    for (const config of [undefined, false]) assert.deepEqual(withConfigFile({ config, strict: true }, folder), { strict: true });
  });

  test("gives way to options and to the environment", async () => {
    await write({ models: { "@cf/a": "./a.gguf", "@cf/b": "./b.gguf" }, default: "./d.gguf", strict: true });
    const config = merged({ models: { "@cf/a": "hf:owner/model" }, default: "./mine.gguf", strict: undefined });
    assert.deepEqual(config, { models: { "@cf/a": "hf:owner/model", "@cf/b": path.join(folder, "b.gguf") }, default: "./mine.gguf", strict: true });
    process.env.WORKERS_AI_LOCAL_MODEL = "other.gguf";
    try {
      assert.equal("default" in merged(), false);
    } finally {
      delete process.env.WORKERS_AI_LOCAL_MODEL;
    }
  });

  test("names a hub that does not get the environment's token, and to which HF_ENDPOINT is preferred", async (t) => {
    const { HF_TOKEN, HF_ENDPOINT } = process.env;
    t.after(() => Object.assign(process.env, HF_TOKEN === undefined ? {} : { HF_TOKEN }, HF_ENDPOINT === undefined ? {} : { HF_ENDPOINT }));
    t.after(() => ["HF_TOKEN", "HF_ENDPOINT"].forEach((name) => delete process.env[name]));
    process.env.HF_TOKEN = "hf_secret";
    delete process.env.HF_ENDPOINT;
    await write({ hub: { endpoint: hub.url } });
    const tokens = async (options) => {
      hub.asked.length = 0;
      await new ModelCache({ folder, hub: merged(options).hub }).resolve("hf:owner/model").catch(() => {});
      return hub.asked.map(({ headers }) => headers.authorization);
    };
    assert.deepEqual(await tokens(), [undefined]);
    assert.deepEqual(await tokens({ hub: { token: undefined } }), [undefined]);
    assert.deepEqual(await tokens({ hub: { token: "hf_given" } }), ["Bearer hf_given"]);
    assert.deepEqual(await tokens({ hub: { endpoint: hub.url } }), ["Bearer hf_secret"], "an endpoint in a program");
    await write({ hub: { endpoint: "https://evil.example" } });
    process.env.HF_ENDPOINT = hub.url;
    assert.deepEqual(await tokens(), ["Bearer hf_secret"]);
    delete process.env.HF_ENDPOINT;
    await write({ hub: { endpoint: "https://huggingface.co/" } });
    assert.equal(merged().hub.token, undefined, "the hub itself");
  });

  test("sends nothing to the service where a script answers", async () => {
    await write({ remote: { "*": "always" } });
    assert.equal(merged({ script: [] }).remote, undefined);
  });

  for (const [content, message] of [
    [{ model: {} }, /unknown key "model": did you mean "models"\?$/],
    [{ colour: 1 }, /unknown key "colour": the keys are models, default, defaultEmbeddings, loras, remote, strict, hub$/],
    [{ models: ["a"] }, /"models" must be an object such as/],
    [{ models: { "@cf/a": 1 } }, /"models" must be an object such as/],
    [{ default: "" }, /"default" must be the name, URL or path of a model/],
    [{ loras: { one: { path: "x" } } }, /"loras" must be an object such as/],
    [{ remote: { "@cf/a": "never" } }, /"remote" must be an object such as/],
    [{ hub: { token: "hf_x" } }, /"hub" must be .* a token is a secret, which belongs into HF_TOKEN/],
    [{ default: "hf:owner" }, /"hf:owner" is not the name of a model/],
    [{ default: "hf:owner/model/" }, /"hf:owner\/model\/" is not the name of a model/],
    [{ loras: { one: "hf:owner/" } }, /"hf:owner" is not the name of a model/],
    [[], /it must be an object/],
    ["{", /it is not JSON/],
  ]) {
    test(`is refused: ${JSON.stringify(content)}`, async () => {
      await write(content);
      assert.throws(() => merged(), { name: "AiInternalError", message });
    });
  }

  test("that is named must be there", () => assert.throws(() => merged({ config: "other.json" }), { name: "AiInternalError", message: /other\.json: there is no such file\.$/ }));

  test("has a schema with the same keys", async () => {
    const schema = JSON.parse(await readFile(new URL("../../pkg/config.schema.json", import.meta.url), "utf8"));
    await write({ zzzzzzzzzz: 1 });
    const [, keys] = /the keys are (.*)$/.exec(await Promise.resolve().then(() => merged()).catch(({ message }) => message));
    assert.deepEqual(Object.keys(schema.properties).filter((key) => key !== "$schema").sort(), keys.split(", ").sort());
  });
});

describe("its models answer", () => {
  const MODEL = "@cf/own/model";
  const CATALOGUE = "@cf/meta/llama-3.1-8b-instruct";
  beforeEach(() => write({ models: { [MODEL]: "hf:owner/model" }, default: "./default.gguf", hub: { endpoint: hub.url } }).then(() => writeFile(path.join(folder, "default.gguf"), file("The default."))));
  const here = () => ({ cwd: folder, env: { ...process.env, WORKERS_AI_LOCAL_CACHE: CACHE, WORKERS_AI_LOCAL_MODEL: "" } });
  const cli = (...args) => promisify(execFile)(process.execPath, [CLI, ...args], here());

  test("in a program that asks for the file", async () => {
    const ai = new Ai({ config: path.join(findConfig(folder).file), onWarning() {} });
    assert.equal((await ai.run(MODEL, HI)).response, "From the hub.");
    assert.equal((await ai.run(CATALOGUE, HI)).response, "The default.");
    await ai.close();
  });

  test("in the entries for development, unless they are told not to read it", async () => {
    const named = async (options) => {
      const engine = await localEngine({ onWarning() {}, ...options }, folder);
      try {
        return (await engine.load(MODEL)).loaded.model;
      } finally {
        await engine.close();
      }
    };
    assert.equal(await named({}), "hf:owner/model");
    assert.equal(await named({ config: false, default: path.join(folder, "default.gguf") }).catch(({ message }) => message), "5007: No such model @cf/own/model or task");
  });

  test("in the terminal, unless an option says otherwise", async () => {
    assert.equal((await cli("run", "Hi")).stdout, "The default.\n");
    assert.equal((await cli("run", "--model", MODEL, "Hi")).stdout, "From the hub.\n");
    assert.equal((await cli("run", "--gguf", "hf:owner/model", "Hi")).stdout, "From the hub.\n");
    await write({ modls: {} });
    await assert.rejects(cli("run", "Hi"), { code: 1, stderr: /^error: .*workers-ai-local\.json: unknown key "modls": did you mean "models"\?\n$/ });
  });

  test("beside --gguf, if they are for embeddings", async (t) => {
    // A decoder that says how its vectors are pooled. Those of the stand-in for other models have 384 numbers.
    await writeFile(path.join(folder, "vectors.gguf"), scriptedModel({ metadata: { "llama.pooling_type": int(1) } }).bytes);
    const [WEIGHTS, STRING] = ["@cf/baai/bge-base-en-v1.5", "@cf/baai/bge-m3"];
    await write({ models: { [MODEL]: "hf:owner/model", [CATALOGUE]: "hf:owner/model", [WEIGHTS]: { weights: "./vectors.gguf" }, [STRING]: "./vectors.gguf" }, hub: { endpoint: hub.url } });
    await writeFile(path.join(folder, "given.gguf"), file("The given one."));
    const server = await startServeIn(here(), "--port", "0", "--gguf", "given.gguf");
    t.after(() => server.stop());
    const run = async (model, input) => (await fetch(`${server.url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", body: JSON.stringify(input) })).json();
    for (const model of [WEIGHTS, STRING]) {
      const { result, errors } = await run(model, { text: "Hi" });
      assert.deepEqual(errors, []);
      assert.ok(result.shape[1] !== 384, `${model}: ${result.shape}`);
    }
    assert.equal((await run(CATALOGUE, HI)).result.response, "The given one.");
    assert.match((await run(MODEL, HI)).errors[0].message, /No such model/);
  });
});
