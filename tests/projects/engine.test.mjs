// The engine that processes share (pkg/dev/engine.js): found, taken over, and closed to everybody else.

import assert from "node:assert/strict";
import { fork } from "node:child_process";
import { once } from "node:events";
import { mkdtemp, readFile, readdir, rm, stat, writeFile } from "node:fs/promises";
import { createServer, request } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, afterEach, before, beforeEach, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { TOKEN, startHub } from "../hub-server.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { MODEL, SAYS, environment } from "./project.mjs";

const CHILD = fileURLToPath(new URL("engine-process.mjs", import.meta.url));
const KEY = "workers-ai-local-key";

let folder;
let env;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-engine-"));
  env = await environment(folder);
});
after(() => rm(folder, { recursive: true, force: true }));

const engines = () => path.join(folder, "cache", "engines");
const entries = async () => Promise.all((await readdir(engines()).catch(() => [])).map(async (name) => JSON.parse(await readFile(path.join(engines(), name), "utf8"))));

const running = new Set();
/** A process with an engine. */
async function start(options = {}, how = {}) {
  const child = fork(CHILD, [JSON.stringify(options)], { env: { ...process.env, ...env, ...how }, stdio: ["ignore", "ignore", "inherit", "ipc"], execArgv: [] });
  running.add(child);
  const [link] = await once(child, "message");
  return {
    link,
    pid: child.pid,
    /** The process of the engine that it uses. */
    async load() {
      child.send("load");
      return (await once(child, "message"))[0];
    },
    async end(signal) {
      running.delete(child);
      const ended = once(child, "exit");
      if (signal) child.kill(signal);
      else child.disconnect();
      await ended;
    },
    ask: (input = {}) => ask(link, input),
  };
}
afterEach(async () => {
  for (const child of running) child.kill("SIGKILL");
  running.clear();
  await rm(engines(), { recursive: true, force: true });
});

/** Calls a server as workerd does for the binding. */
function ask({ address, key }, input = {}, headers = {}) {
  const body = JSON.stringify({ inputs: { prompt: "Hi", ...input }, options: {} });
  return fetch(`http://${address}/run?version=3`, {
    method: "POST",
    body,
    headers: { "content-type": "application/json", "cf-consn-sdk-version": "2.0.0", "cf-consn-model-id": MODEL, ...(key && { [KEY]: key }), ...headers },
  });
}
const says = async (answer) => {
  const response = await answer;
  assert.equal(response.status, 200, await response.clone().text());
  assert.equal((await response.json()).response, SAYS);
};

describe("the engine", () => {
  test("is found by a second process, and taken over when its process ends", async () => {
    const first = await start();
    const second = await start();
    assert.equal(await first.load(), first.pid);
    assert.equal(await second.load(), first.pid);
    await says(second.ask());
    await first.end();
    await says(second.ask());
    assert.equal(await second.load(), second.pid);
    assert.deepEqual((await entries()).map(({ pid }) => pid), [second.pid]);
  });

  test("is taken over during a request that it had not begun to answer, when its process is killed", async () => {
    const first = await start({}, { SLOW: "1" });
    const second = await start();
    const third = await start();
    await first.load();
    const waiting = [second, third, second].map((one) => says(one.ask()));
    await new Promise((resolve) => setTimeout(resolve, 300));
    await first.end("SIGKILL");
    await Promise.all(waiting);
    const owner = await second.load();
    assert.ok([second.pid, third.pid].includes(owner));
    assert.equal(await third.load(), owner);
  });

  test("makes a stream fail that it has begun", async () => {
    const first = await start({}, { SLOW: "stream" });
    const second = await start();
    await first.load();
    const response = await second.ask({ stream: true });
    assert.equal(response.status, 200);
    const reader = response.body.getReader();
    await reader.read();
    await first.end("SIGKILL");
    await assert.rejects(async () => {
      while (!(await reader.read()).done);
    });
    await says(second.ask());
  });

  test("is not another one's: other models, other options", async () => {
    const first = await start();
    const others = [await start({ caches: 2 }), await start({}, { WORKERS_AI_LOCAL_MODEL: path.join(folder, "other.gguf") })];
    assert.equal(await first.load(), first.pid);
    // One of them has a file that does not exist. It is an engine nevertheless.
    await Promise.all(others.map((other) => other.ask()));
    assert.equal(new Set((await entries()).map(({ pid }) => pid)).size, 3);
  });

  test("is not another one's: another hub, another token, another cache folder", async (t) => {
    const hub = await startHub({ "owner/gated": { gated: true, files: { "model-Q4_0.gguf": Buffer.from(scriptedModel({ script: ["Gated."] }).bytes) } } });
    const empty = await startHub({});
    t.after(() => Promise.all([hub.close(), empty.close()]));
    const options = { models: { [MODEL]: "hf:owner/gated" } };
    const own = path.join(folder, "other-cache");
    const without = await start(options, { HF_ENDPOINT: hub.url });
    assert.match((await (await without.ask()).json()).description, /owner\/gated is gated/);
    const answers = async (process) => assert.equal((await (await process.ask()).json()).response, "Gated.");
    await answers(await start(options, { HF_ENDPOINT: hub.url, HF_TOKEN: TOKEN }));
    const elsewhere = await start(options, { HF_ENDPOINT: hub.url, HF_TOKEN: TOKEN, WORKERS_AI_LOCAL_CACHE: own });
    await answers(elsewhere);
    assert.ok((await readdir(path.join(own, "models"))).length > 0);
    const other = await start(options, { HF_ENDPOINT: empty.url });
    assert.match((await (await other.ask()).json()).description, /owner\/gated does not exist/);
    // The same token as an option means the same engine.
    const [known, same] = [await start(options, { HF_ENDPOINT: hub.url, HF_TOKEN: TOKEN }), await start({ ...options, hub: { endpoint: hub.url, token: TOKEN } })];
    assert.equal(await same.load(), await known.load());
    const texts = await Promise.all((await readdir(engines())).map(async (name) => name + (await readFile(path.join(engines(), name), "utf8"))));
    assert.ok(texts.length >= 3 && texts.every((text) => !text.includes(TOKEN)));
  });

  test("is found in spite of an entry that is stale, damaged or of another program", async () => {
    const first = await start();
    await first.load();
    const [name] = await readdir(engines());
    await first.end("SIGKILL");
    const stale = await readFile(path.join(engines(), name), "utf8");
    const liar = createServer((_, response) => response.end("I am an engine"));
    await once(liar.listen(0, "127.0.0.1"), "listening");
    // Also if the test fails.
    liar.unref();
    const foreign = JSON.stringify({ ...JSON.parse(stale), address: `127.0.0.1:${liar.address().port}` });
    for (const text of [stale, "{", "null", foreign]) {
      await writeFile(path.join(engines(), name), text);
      const next = await start();
      assert.equal(await next.load(), next.pid, text);
      await says(next.ask());
      await next.end();
      assert.deepEqual(await readdir(engines()), []);
    }
    liar.close();
  });

  test("has its key in a file that only this user can read", { skip: process.platform === "win32" }, async () => {
    const first = await start();
    await first.load();
    const [name] = await readdir(engines());
    assert.equal((await stat(path.join(engines(), name))).mode & 0o777, 0o600);
    assert.equal((await stat(engines())).mode & 0o777, 0o700);
  });

  test("works without a cache folder", async () => {
    await writeFile(path.join(folder, "file"), "");
    const first = await start({}, { WORKERS_AI_LOCAL_CACHE: path.join(folder, "file", "below") });
    await says(first.ask());
  });
});

describe("its server", () => {
  let one;
  beforeEach(async () => {
    one = await start();
  });

  test("answers requests with its key only, whatever page they are of", async () => {
    assert.equal((await ask({ ...one.link, key: "" })).status, 401);
    assert.equal((await ask({ ...one.link, key: "wrong" })).status, 401);
    // A page of a name that resolves to this machine cannot know the key.
    const [rebound] = await new Promise((resolve, reject) => {
      const { address } = one.link;
      request(`http://${address}/v1/models`, { headers: { host: "rebound.example" } }, (response) => resolve([response.statusCode, response.resume()])).once("error", reject).end();
    });
    assert.equal(rebound, 401);
    await says(one.ask());
  });

  test("does not tell its key to who asks for its health", async () => {
    const text = await (await fetch(`http://${one.link.address}/workers-ai-local/health?abc`)).text();
    assert.match(text, /^[0-9a-f]{64}$/);
    assert.ok(!text.includes(one.link.key));
  });

  test("answers a body that is too large with the error of the binding", async () => {
    await one.load();
    // The second one forwards.
    for (const { ask } of [one, await start()]) {
      const answer = await ask({ prompt: "x".repeat(10 << 20) });
      assert.deepEqual([answer.status, (await answer.json()).internalCode], [413, 3006]);
    }
  });
});
