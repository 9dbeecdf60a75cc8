// Models by name, as programs and the terminal use them: `new Ai`, `Ai.models`, and the commands pull, list, rm, run and serve.

import assert from "node:assert/strict";
import { execFile, spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, describe, test } from "node:test";
import { text } from "node:stream/consumers";
import { promisify } from "node:util";
import { Ai } from "workers-ai-local";
import { fit } from "../../pkg/cli/list.js";
import { speedometer } from "../../pkg/cli/terminal.js";
import { splitFile } from "../gguf-fixtures.mjs";
import { POOR_TOKEN, startHub } from "../hub-server.mjs";
import "../own-cache.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { CLI, startServe } from "../serve-process.mjs";

const HI = { messages: [{ role: "user", content: "Hi" }] };
const MODEL = "@cf/own/model";
const file = (says) => Buffer.from(scriptedModel({ script: [says] }).bytes);
const PARTS = splitFile(file("In parts."), [4]).map((bytes) => Buffer.from(bytes));
const REPOSITORIES = {
  "owner/model": { files: { "model-Q4_K_M.gguf": file("Four bits."), "model-Q8_0.gguf": file("Eight bits.") } },
  "owner/split": { files: { "s-Q4_0-00001-of-00002.gguf": PARTS[0], "s-Q4_0-00002-of-00002.gguf": PARTS[1] } },
  "owner/odd": { files: { "x\u001b[2J-Q4_K_M.gguf": file("Odd."), "x\u009b-Q8_0.gguf": file("Odd.") } },
  "owner/gated": { gated: true, files: { "g-Q4_K_M.gguf": file("Gated.") } },
  "bartowski/Llama-3.2-1B-Instruct-GGUF": { files: { "Llama-3.2-1B-Instruct-Q4_K_M.gguf": file("A llama.") } },
};

let hub;
let cache;
before(async () => void (hub = await startHub(structuredClone(REPOSITORIES))));
after(() => hub.close());
beforeEach(async (t) => {
  cache = await mkdtemp(path.join(tmpdir(), "workers-ai-local-named-"));
  const made = cache;
  t.after?.(() => rm(made, { recursive: true, force: true }));
  process.env.WORKERS_AI_LOCAL_CACHE = cache;
  hub.asked.length = 0;
  hub.faults.cdn = hub.faults.hub = undefined;
});
const address = () => `${hub.cdn}/owner/model/x/model-Q8_0.gguf`;
const requests = () => hub.asked.map(({ to }) => to);

describe("new Ai", () => {
  async function says(source, config = {}) {
    const ai = new Ai({ models: { [MODEL]: source }, hub: { endpoint: hub.url }, onWarning() {}, ...config });
    try {
      return (await ai.run(MODEL, HI)).response;
    } finally {
      await ai.close();
    }
  }

  test("takes every kind of name, and needs no network the second time", async () => {
    const names = { "hf:owner/model": "Four bits.", "hf:owner/model:Q8_0": "Eight bits.", "hf:owner/model/model-Q8_0.gguf": "Eight bits.", "llama-3.2-1b": "A llama.", "hf:owner/split": "In parts." };
    for (const [name, answer] of Object.entries(names)) assert.equal(await says(name), answer, name);
    assert.equal(await says(address()), "Eight bits.");
    const asked = hub.asked.length;
    for (const [name, answer] of Object.entries(names)) assert.equal(await says(name), answer, name);
    assert.deepEqual(hub.asked.slice(asked).map(({ path }) => path), []);
    hub.faults.cdn = () => ({ status: 503 });
    assert.equal(await says(address()), "Eight bits.");
  });

  test("takes a name as default, and in a list of the files of a split model", async () => {
    assert.equal(await says(undefined, { models: {}, default: "hf:owner/model" }).catch(({ message }) => message), "5007: No such model @cf/own/model or task");
    const list = ["hf:owner/split/s-Q4_0-00002-of-00002.gguf", "hf:owner/split/s-Q4_0-00001-of-00002.gguf"];
    assert.equal(await says(list), "In parts.");
  });

  test("says what is wrong with a name, where it is given or when its model is asked for", async () => {
    assert.throws(() => new Ai({ default: "hf:owner" }), { name: "AiInternalError", message: /"hf:owner" is not the name of a model\. Write hf:owner\/repo/ });
    await assert.rejects(says("hf:owner/model:Q5_K_M"), { message: /^3042: The model file hf:owner\/model:Q5_K_M was not found: owner\/model has no Q5_K_M: did you mean hf:owner\/model:Q4_K_M\?/ });
    await assert.rejects(says("hf:owner/gated"), { message: /^3003: The model file hf:owner\/gated cannot be read: owner\/gated is gated \(HTTP 401\)\. Accept its licence at http\S+, create a token at http\S+, and give it in HF_TOKEN/ });
    await assert.rejects(says("hf:owner/gated", { hub: { endpoint: hub.url, token: POOR_TOKEN } }), { message: /the hub's token has no access \(HTTP 403\)/ });
    await assert.rejects(says("llama-3.2-1bb"), { message: /^3042: .*no such file, and no model of this name \(did you mean llama-3\.2-1b\?\)/ });
  });

  test("asks the hub once in a while, not with each HTTP request, for a model that cannot be found", async () => {
    const ai = new Ai({ models: { [MODEL]: "hf:owner/model", "@cf/own/missing": "hf:owner/missing" }, hub: { endpoint: hub.url }, onWarning() {} });
    try {
      const list = () => ai.fetch(new Request("http://localhost/v1/models"));
      for (const _ of "123") assert.equal((await list()).status, 200);
      const asked = () => hub.asked.filter(({ path }) => path.includes("/owner/missing/")).length;
      assert.equal(asked(), 1);
      await assert.rejects(ai.run("@cf/own/missing", HI), { message: /owner\/missing does not exist/ });
      assert.ok(asked() > 1, "the request for this model asks again");
    } finally {
      await ai.close();
    }
  });

  test("Ai.models lists what is stored, and deletes it", async () => {
    await says("hf:owner/model");
    const [{ url, used, sha256, ...model }, ...others] = await Ai.models.list();
    const { length } = REPOSITORIES["owner/model"].files["model-Q4_K_M.gguf"];
    assert.deepEqual([model, others], [{ name: "hf:owner/model", bytes: length, size: length, complete: true }, []]);
    assert.ok(used instanceof Date && Date.now() - used < 60_000 && /^[\da-f]{64}$/.test(sha256) && url.startsWith(hub.url));
    assert.equal(await Ai.models.delete("hf:owner/other"), false);
    assert.equal(await Ai.models.delete("hf:owner/model"), true);
    assert.deepEqual(await Ai.models.list(), []);
  });
});

describe("the command", () => {
  const start = (...args) => spawn(process.execPath, [CLI, ...args], { env: { ...process.env, HF_ENDPOINT: hub.url, WORKERS_AI_LOCAL_MODEL: "" }, stdio: ["ignore", "pipe", "pipe"] });
  async function cli(...args) {
    const child = start(...args);
    const [out, error, [code]] = await Promise.all([text(child.stdout), text(child.stderr), once(child, "close")]);
    return { out, error, code };
  }
  const ok = async (...args) => {
    const { out, error, code } = await cli(...args);
    assert.equal(code, 0, error);
    return out;
  };

  test("pull stores models and prints their paths; list shows them; rm removes them", async () => {
    const paths = (await ok("pull", "llama-3.2-1b", "hf:owner/split", address())).trimEnd().split("\n");
    assert.equal(paths.length, 4);
    for (const each of paths) assert.ok((await stat(each)).size > 0);
    assert.deepEqual(await readFile(paths[2]), PARTS[1]);
    const lines = (await ok("list")).trimEnd().split("\n");
    assert.match(lines[0], /^NAME +SIZE +FITS HERE +USED$/);
    for (const name of ["llama-3.2-1b", "hf:owner/split", address()]) assert.ok(lines.some((line) => line.startsWith(`${name} `) && /\d+ MB +yes +now$/.test(line)), lines.join("\n"));
    assert.equal(JSON.parse(await ok("list", "--json")).length, 3);
    assert.match(await ok("list", "--available"), /^llama-3\.2-1b .*~810 MB .*yes +Llama 3\.2 Community License /m);
    assert.match(await ok("rm", "hf:owner/split", address()), /^hf:owner\/split: removed, \d+ MB\n.*model-Q8_0\.gguf: removed/);
    const { error, code } = await cli("rm", "lama-3.2-1b");
    assert.deepEqual([error, code], ["error: lama-3.2-1b is not stored: did you mean llama-3.2-1b?\n", 1]);
    await ok("rm", "hf:bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M");
    assert.match(await ok("list"), /^No model is stored yet\. `workers-ai-local pull llama-3\.2-1b` fetches one/);
  });

  test("rm removes what pull fetches, and pull stops and says so", async () => {
    const { length } = REPOSITORIES["owner/model"].files["model-Q4_K_M.gguf"];
    hub.faults.cdn = () => (requests().filter((to) => to === "cdn").length === 1 ? { cutAfter: length >> 1, cutAfterMs: 100 } : { status: 503, headers: { "retry-after": "2" } });
    const child = start("pull", "hf:owner/model");
    const said = text(child.stderr);
    while (requests().filter((to) => to === "cdn").length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    assert.match(await ok("rm", "hf:owner/model"), /^hf:owner\/model: removed, \d+ MB\n$/);
    assert.deepEqual(await once(child, "exit"), [1, null]);
    assert.match(await said, /^error: hf:owner\/model: the model was removed while it was downloaded\n$/m);
    assert.match(await ok("list"), /^No model is stored yet/);
  });

  test("pull verifies what is stored, and takes it where the hub does not answer", async () => {
    const [stored] = (await ok("pull", "hf:owner/model")).split("\n");
    hub.faults.hub = () => ({ status: 503 });
    const { error, code } = await cli("pull", "hf:owner/model");
    assert.equal(code, 0);
    assert.match(error, /note: the files of owner\/model cannot be listed: HTTP 503.* What is stored is verified\.\nhf:owner\/model: 1 MB, stored and verified\n$/);
    hub.faults.hub = undefined;
    await writeFile(stored, "no model");
    const again = await cli("pull", "hf:owner/model");
    assert.match(again.error, /is not the file that it should be; it is downloaded again/);
    assert.deepEqual(await readFile(stored), REPOSITORIES["owner/model"].files["model-Q4_K_M.gguf"]);
  });

  for (const [args, code, error] of [
    [["pull"], 2, /^error: pull takes the name of a model, such as llama-3\.2-1b or hf:owner\/repo:Q4_K_M: `list --available` shows some \(see/],
    [["pull", "./model.gguf"], 2, /^error: there is nothing to fetch for "\.\/model\.gguf"\. Write hf:owner\/repo/],
    [["pull", "lama-3.2-1b"], 2, /^error: there is nothing to fetch for "lama-3\.2-1b", and no model of this name \(did you mean llama-3\.2-1b\?\)/],
    [["pull", "hf:owner/gated"], 1, /^error: hf:owner\/gated: owner\/gated is gated \(HTTP 401\)\. Accept its licence at/],
    [["pull", "hf:owner/missing"], 1, /^error: hf:owner\/missing: owner\/missing does not exist, or is private or gated/],
    [["pul", "x"], 2, /^error: unknown command "pul": did you mean pull\?/],
    [["list", "x"], 2, /^error: list takes no argument "x"/],
    [["rm"], 2, /^error: rm takes the name of a stored model/],
    [["rm", "x"], 1, /^error: x is not stored\n/],
  ]) {
    test(`${args.join(" ")}: ${error.source.slice(1, 60)}`, async () => {
      const outcome = await cli(...args);
      assert.match(outcome.error, error);
      assert.equal(outcome.code, code);
    });
  }

  test("pull, list and rm use the hub of the project's configuration file, as serve does", async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-project-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    await writeFile(path.join(folder, "workers-ai-local.json"), JSON.stringify({ hub: { endpoint: hub.url } }));
    const { HF_ENDPOINT: _, ...env } = process.env;
    const run = promisify(execFile);
    const { stdout } = await run(process.execPath, [CLI, "pull", "hf:owner/model"], { cwd: folder, env });
    assert.deepEqual(await readFile(stdout.trimEnd()), REPOSITORIES["owner/model"].files["model-Q4_K_M.gguf"]);
    assert.match((await run(process.execPath, [CLI, "rm", "hf:owner/model"], { cwd: folder, env })).stdout, /^hf:owner\/model: removed/);
  });

  test("shows no characters that a terminal obeys", async () => {
    const { error, code } = await cli("pull", "hf:owner/odd/none.gguf");
    assert.deepEqual([error, code], ["error: hf:owner/odd/none.gguf: owner/odd has no file none.gguf: it has x·[2J-Q4_K_M.gguf, x·-Q8_0.gguf\n", 1]);
  });

  test("pull goes on where Ctrl+C stopped it", async () => {
    const { length } = REPOSITORIES["owner/model"].files["model-Q4_K_M.gguf"];
    hub.faults.cdn = () => (requests().filter((to) => to === "cdn").length === 1 ? { cutAfter: length >> 1, cutAfterMs: 100 } : { status: 503, headers: { "retry-after": "60" } });
    const child = start("pull", "hf:owner/model");
    const said = text(child.stderr);
    while (!requests().includes("cdn") || requests().filter((to) => to === "cdn").length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    child.kill("SIGINT");
    assert.deepEqual(await once(child, "exit"), [130, null]);
    assert.match(await said, /Stopped\. The same command continues the download\.\n$/);
    const [folder] = (await readdir(path.join(cache, "models"))).filter((name) => name !== "names");
    assert.deepEqual((await readdir(path.join(cache, "models", folder))).sort(), ["model-Q4_K_M.gguf.part", "model-Q4_K_M.gguf.part.json"]);
    assert.match(await ok("list"), /^hf:owner\/model +\d+ % of 1 MB/m);
    hub.faults.cdn = undefined;
    await ok("pull", "hf:owner/model");
    assert.match(hub.asked.at(-1).headers.range, /^bytes=\d+-$/);
  });

  test("run and serve take a name, and fetch it once", async () => {
    assert.equal(await ok("run", "--gguf", "hf:owner/model", "Hi"), "Four bits.\n");
    const asked = hub.asked.length;
    assert.equal(await ok("run", "--gguf", "hf:owner/model", "Hi"), "Four bits.\n");
    assert.equal(hub.asked.length, asked);
    process.env.HF_ENDPOINT = hub.url;
    const server = await startServe("--port", "0", "--gguf", "hf:owner/model:Q8_0").finally(() => delete process.env.HF_ENDPOINT);
    try {
      const body = JSON.stringify({ model: "@cf/meta/llama-3.1-8b-instruct", ...HI });
      const { choices } = await (await fetch(`${server.url}/v1/chat/completions`, { method: "POST", body, headers: { "content-type": "application/json" } })).json();
      assert.equal(choices[0].message.content, "Eight bits.");
    } finally {
      await server.stop();
    }
  });
});

test("what fits is told by the memory of the machine and of the engine", () => {
  const memory = { machine: 8e9, engine: 16 * 2 ** 30 };
  assert.deepEqual([1e9, 7.4e9, 7.6e9, 17e9, undefined].map((size) => fit(size, memory)), ["yes", "yes", "no: needs 8.1 GB", "no: more than 16 GiB", "?"]);
});

test("the speed of a download is that of the last seconds, and not of what was there before", () => {
  let now = 0;
  const speed = speedometer(() => now);
  const at = (seconds, loaded, total) => ((now = seconds * 1000), speed(loaded * 1e6, total * 1e6));
  assert.equal(at(0, 500, 1000), "");
  assert.equal(at(0.5, 501, 1000), "");
  assert.equal(at(2, 504, 1000), ", 2.0 MB/s, 4 min left");
  for (let second = 3; second <= 20; second += 1) at(second, 504 + (second - 2) * 10, 1000);
  assert.equal(at(21, 694, 1000), ", 10.0 MB/s, 31 s left");
  assert.equal(at(22, 10, 1000), "", "another file");
});
