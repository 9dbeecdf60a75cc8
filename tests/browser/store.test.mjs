// A browser's stored models: what was loaded once is read from the origin's storage, whole and unchanged, or loaded again.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { partName, splitFile } from "../gguf-fixtures.mjs";
import { startHub } from "../hub-server.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { launch } from "./chromium.mjs";
import { answerIn, bytesOf, deleteIn, fileOf, listIn, paddedModel, startModelHost } from "./model-host.mjs";

const SAYS = ["Kept", " whole", "."];
/** More than two pieces. */
const PADDING = 20_000_000;
const MB = 1e6;

let browser;
let context;
let page;
let host;
let files;
/** The model's URL. */
let url;

before(async () => {
  browser = await launch();
});
after(() => browser?.close());

// Each test has a context of its own, so an empty storage.
beforeEach(async () => {
  files = new Map([["/model.gguf", paddedModel(PADDING, SAYS)]]);
  host = await startModelHost(files);
  url = `${host.url}/model.gguf`;
  context = await browser.newContext();
  page = await pageOf(host.url);
});
afterEach(async () => {
  await context.close();
  await host.close();
});

async function pageOf(url) {
  const page = await context.newPage();
  await page.goto(`${url}/`);
  return page;
}

const answer = (source, { on = page, ...options } = {}) => answerIn(on, source, options);
const answered = { response: SAYS.join(""), warnings: [] };
const list = () => listIn(page);
const remove = (name) => deleteIn(page, name);
const usage = () => page.evaluate(async () => (await navigator.storage.estimate()).usage);
/** The requests for contents. */
const downloads = () => host.asked.filter(({ method }) => method === "GET");

describe("a model from a URL", () => {
  it("is downloaded once, and listed", async () => {
    assert.deepEqual(await answer(url), answered);
    assert.deepEqual(await answer("model.gguf"), answered);
    assert.equal(downloads().length, 1);
    const file = files.get("/model.gguf");
    const sha256 = createHash("sha256").update(bytesOf(file)).digest("hex");
    const [{ bytes, used, ...model }, ...others] = await list();
    assert.deepEqual([model, others], [{ name: url, url, size: file.size, complete: true, sha256 }, []]);
    assert.ok(bytes >= file.size && bytes < file.size + MB, `${bytes} bytes`);
    assert.ok(Math.abs(Date.now() - used) < 600_000);
  });

  it("is removed by its name, which gives the room back", async () => {
    const before = await usage();
    await answer(url);
    assert.ok((await usage()) - before > PADDING);
    assert.equal(await remove(`${host.url}/other.gguf`), false);
    assert.equal(await remove("/model.gguf"), true);
    assert.deepEqual(await list(), []);
    assert.ok((await usage()) - before < MB, `${(await usage()) - before} bytes are still used`);
    assert.equal(await remove("/model.gguf"), false);
    assert.deepEqual(await answer(url), answered);
    assert.equal(downloads().length, 2);
  });

  it("answers on a page without a network", async () => {
    const worker = `
      addEventListener("fetch", (event) => {
        if (!event.request.url.startsWith(location.origin)) return;
        const kept = caches.open("page");
        const ask = async () => {
          const response = await fetch(event.request);
          await (await kept).put(event.request, response.clone());
          return response;
        };
        event.respondWith(kept.then((cache) => cache.match(event.request)).then((response) => response ?? ask()));
      });
      addEventListener("activate", (event) => event.waitUntil(clients.claim()));`;
    const site = await startModelHost(new Map([["/service.js", worker]]));
    page = await pageOf(site.url);
    await page.evaluate(async () => {
      await navigator.serviceWorker.register("/service.js");
      if (!navigator.serviceWorker.controller) await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
    });
    await page.reload();
    assert.deepEqual(await answer(url), answered);
    await site.close();
    await host.close();
    await page.reload();
    assert.deepEqual(await answer(url), answered);
    assert.match((await answer(`${host.url}/other.gguf`)).error, /^3008: /);
  });

  it("is downloaded again when the server has another version", async () => {
    await answer(url);
    files.set("/model.gguf", { ...paddedModel(PADDING, ["New."]), headers: { etag: '"2"' } });
    assert.equal((await answer(url)).response, "New.");
    assert.equal((await list()).length, 1);
    assert.equal((await answer(url)).response, "New.");
    assert.equal(downloads().length, 2);
  });

  it("is not kept if the server says so, if nothing shows its version, or if the program says so", async () => {
    for (const headers of [{ etag: '"1"', "cache-control": "no-store" }, {}]) {
      files.get("/model.gguf").headers = headers;
      assert.deepEqual(await answer(url), answered);
      assert.deepEqual(await list(), []);
    }
    files.get("/model.gguf").headers = { etag: '"1"' };
    assert.deepEqual(await answer(url, { config: { cache: false } }), answered);
    assert.deepEqual(await list(), []);
  });

  it("is kept for its headers only", async () => {
    const source = (key) => ({ url, headers: { authorization: `Bearer ${key}` } });
    for (const key of ["a", "b", "a"]) assert.deepEqual(await answer(source(key)), answered);
    assert.deepEqual(downloads().map(({ authorization }) => authorization), ["Bearer a", "Bearer b"]);
  });
});

describe("a download that is interrupted", () => {
  it("goes on by range in the same load, and is stored whole", async () => {
    files.get("/model.gguf").cutAt = 11_000_000;
    assert.deepEqual(await answer(url), answered);
    // The browser drops what it has not passed on when a connection breaks.
    const [first, second, ...others] = downloads().map(({ range }) => range);
    assert.deepEqual([first, others], [undefined, []]);
    const from = Number(/^bytes=(\d+)-$/.exec(second)[1]);
    assert.ok(from > 0 && from <= 11 * MB, second);
    const [{ complete, sha256 }] = await list();
    assert.deepEqual([complete, sha256], [true, createHash("sha256").update(bytesOf(files.get("/model.gguf"))).digest("hex")]);
    assert.deepEqual(await answer(url), answered);
    assert.equal(downloads().length, 2);
  });

  it("makes sure that the file is the same one, on another origin by the answer alone", async () => {
    files.get("/model.gguf").cutAt = 11_000_000;
    assert.deepEqual(await answer(url), answered);
    assert.equal(downloads()[1].condition, '"1"');
    const other = await startModelHost(new Map([["/model.gguf", { ...paddedModel(PADDING, SAYS), cutAt: 11_000_000 }]]));
    assert.deepEqual(await answer(`${other.url}/model.gguf`), answered);
    const [, resumed] = other.asked.filter(({ method }) => method === "GET");
    await other.close();
    assert.deepEqual([typeof resumed.range, resumed.condition], ["string", undefined]);
  });

  /** Begins to load and closes the page when some of it is stored. */
  async function closePageMeanwhile() {
    files.get("/model.gguf").pause = 100;
    const first = await pageOf(host.url);
    const loading = answer(url, { on: first }).catch(() => {});
    while (!((await list())[0]?.bytes > 8 * MB)) await sleep(50);
    await first.close();
    await loading;
    files.get("/model.gguf").pause = 0;
  }

  it("goes on in the next page after the page was closed", async () => {
    await closePageMeanwhile();
    assert.equal((await list())[0].complete, false);
    assert.deepEqual(await answer(url), answered);
    const [, { range }] = downloads();
    assert.ok(Number(/\d+/.exec(range)[0]) >= 8 * MB, range);
    const [{ complete, sha256 }] = await list();
    assert.deepEqual([complete, sha256], [true, createHash("sha256").update(bytesOf(files.get("/model.gguf"))).digest("hex")]);
  });

  it("begins anew if the file has changed meanwhile", async () => {
    await closePageMeanwhile();
    files.set("/model.gguf", { ...paddedModel(PADDING, ["New."]), headers: { etag: '"2"' } });
    assert.equal((await answer(url)).response, "New.");
    assert.deepEqual(downloads().map(({ range }) => range), [undefined, undefined]);
  });
});

describe("wrong bytes", () => {
  const wrong = "0".repeat(64);

  it("are 5004 and not kept if the SHA-256 is given", async () => {
    assert.match((await answer({ url, sha256: wrong })).error, /^5004: .* is not the expected file: its SHA-256 is /);
    assert.deepEqual(await list(), []);
  });

  it("are not kept if a range does not fit its beginning, and the SHA-256 is given", async () => {
    const file = files.get("/model.gguf");
    const sha256 = createHash("sha256").update(bytesOf(file)).digest("hex");
    file.cutAt = 11_000_000;
    const { read } = file;
    // The beginning of the second answer is wrong.
    file.read = (from, to) => {
      if (file.cutAt) return read(from, to);
      file.read = read;
      return Uint8Array.from(read(from, to), (byte) => byte ^ 1);
    };
    assert.match((await answer({ url, sha256 })).error, /^5004: /);
    assert.deepEqual(await list(), []);
    assert.deepEqual(await answer({ url, sha256 }), answered);
    assert.deepEqual(await answer({ url, sha256 }), answered);
    assert.equal(downloads().length, 3);
  });

  it("in the storage are noticed, and downloaded again", async () => {
    await answer(url);
    await page.evaluate(async () => {
      const root = await (await navigator.storage.getDirectory()).getDirectoryHandle("workers-ai-local");
      for await (const folder of root.values()) {
        for await (const [name, handle] of folder.entries()) {
          if (!name.endsWith("-1")) continue;
          const stream = await handle.createWritable({ keepExistingData: true });
          await stream.write({ type: "write", position: 1000, data: new Uint8Array(16) });
          await stream.close();
        }
      }
    });
    assert.deepEqual(await answer(url), answered);
    assert.deepEqual(downloads().map(({ range }) => range), [undefined, "bytes=8388608-"]);
    assert.deepEqual(await answer(url), answered);
    assert.deepEqual(await answer(url), answered);
    assert.equal(downloads().length, 3);
  });
});

describe("two pages at once", () => {
  it("download once", async () => {
    files.get("/model.gguf").pause = 50;
    const other = await pageOf(host.url);
    assert.deepEqual(await Promise.all([answer(url), answer(url, { on: other })]), [answered, answered]);
    assert.equal(downloads().length, 1);
    assert.equal((await list()).length, 1);
  });

  it("and one goes on where the other was closed", async () => {
    files.get("/model.gguf").pause = 100;
    const other = await pageOf(host.url);
    const closed = answer(url, { on: other }).catch(() => {});
    while (!((await list())[0]?.bytes > 8 * MB)) await sleep(50);
    const answering = answer(url);
    await sleep(500);
    await other.close();
    await closed;
    assert.deepEqual(await answering, answered);
    assert.equal((await list())[0].complete, true);
    assert.equal(downloads().length, 2);
  });
});

describe("where the private file system", () => {
  it("is missing, Cache Storage keeps the models", async () => {
    const without = "StorageManager.prototype.getDirectory = () => Promise.reject(new Error('no'));";
    assert.deepEqual(await answer(url, { before: without }), answered);
    assert.deepEqual(await answer(url, { before: without }), answered);
    assert.equal(downloads().length, 1);
    assert.deepEqual(await list(), []);
    await page.evaluate(without);
    // The page has opened its own store before.
    await page.reload();
    await page.evaluate(without);
    const [{ complete, name, bytes }] = await list();
    assert.deepEqual([complete, name], [true, url]);
    assert.ok(bytes >= PADDING);
    assert.equal(await remove(url), true);
    assert.deepEqual(await list(), []);
  });

  for (const missing of ["createWritable", "createSyncAccessHandle", "move"]) {
    it(`has no files with ${missing}(), the models are kept by the other functions`, async () => {
      const before = `delete FileSystemFileHandle.prototype.${missing};`;
      assert.deepEqual(await answer(url, { before }), answered);
      assert.deepEqual(await answer(url, { before }), answered);
      assert.equal(downloads().length, 1);
      assert.equal((await list())[0].complete, true);
    });
  }

  it("and Cache Storage are missing, the model is downloaded each time", async () => {
    const without = "StorageManager.prototype.getDirectory = () => Promise.reject(new Error('no')); delete self.caches; Object.defineProperty(self, 'caches', { value: undefined });";
    assert.deepEqual(await answer(url, { before: without }), answered);
    assert.deepEqual(await answer(url, { before: without }), answered);
    assert.equal(downloads().length, 2);
    assert.deepEqual(await list(), []);
  });
});

describe("a load that is aborted", () => {
  it("goes on with the next request", async () => {
    Object.assign(files.get("/model.gguf"), { pause: 50, delay: 1000 });
    const outcome = await page.evaluate(
      async ({ url, id }) => {
        const { Ai } = await import("/pkg/browser.js");
        const ai = new Ai({ default: url, threads: 1, onWarning() {} });
        // Some of them before it connects, one while it does, one while it loads.
        const aborted = [];
        for (const wait of [1, 20, 60, 500, 2500]) aborted.push(await ai.run(id, { prompt: "Hi" }, { signal: AbortSignal.timeout(wait) }).catch(({ name }) => name));
        return [...aborted, (await ai.run(id, { prompt: "Hi" })).response];
      },
      { url, id: "@cf/meta/llama-3.1-8b-instruct" },
    );
    assert.deepEqual(outcome, [...Array(5).fill("TimeoutError"), SAYS.join("")]);
    const [{ complete, sha256 }] = await list();
    assert.deepEqual([complete, sha256], [true, createHash("sha256").update(bytesOf(files.get("/model.gguf"))).digest("hex")]);
  });
});

describe("the browser", () => {
  it("is asked not to remove what is stored, when something is", async () => {
    await page.evaluate(() => {
      globalThis.asked = 0;
      StorageManager.prototype.persist = async () => (globalThis.asked += 1) > 0;
    });
    await answer(url, { config: { cache: false } });
    assert.equal(await page.evaluate(() => asked), 0);
    await answer(url);
    assert.equal(await page.evaluate(() => asked), 1);
    await answer(url);
    assert.equal(await page.evaluate(() => asked), 1);
  });
});

describe("in a worker that can start no other", () => {
  const script = (entry, handle) => `
    import { Ai } from "${entry}";
    const text = async (url) => {
      const ai = new Ai({ default: url, onWarning() {} });
      const { response } = await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi" });
      await ai.close();
      return [response, (await Ai.models.list()).map(({ complete }) => complete)];
    };
    const reply = (port) => ({ data }) => text(data).then((value) => port.postMessage(value), (error) => port.postMessage(String(error)));
    ${handle}`;

  it("models are stored, too", async () => {
    files.set("/shared.js", script("/pkg/browser.js", 'addEventListener("connect", ({ ports: [port] }) => { port.onmessage = reply(port); });'));
    files.set("/service.js", script("/pkg/service-worker.js", 'addEventListener("message", (event) => event.waitUntil(reply(event.source)(event)));'));
    const shared = () =>
      page.evaluate(
        (url) =>
          new Promise((resolve) => {
            const { port } = new SharedWorker("/shared.js", { type: "module" });
            port.onmessage = ({ data }) => resolve(data);
            port.postMessage(url);
          }),
        url,
      );
    const service = () =>
      page.evaluate(async (url) => {
        const registration = await navigator.serviceWorker.register("/service.js", { type: "module" });
        const replied = new Promise((resolve) => navigator.serviceWorker.addEventListener("message", ({ data }) => resolve(data), { once: true }));
        navigator.serviceWorker.startMessages();
        (registration.installing ?? registration.active).postMessage(url);
        return replied;
      }, url);
    for (const replies of [shared, service]) {
      for (let times = 0; times < 2; times += 1) assert.deepEqual(await replies(), [SAYS.join(""), [true]]);
      assert.equal(downloads().length, 1);
      assert.equal(await remove(url), true);
      host.asked.length = 0;
    }
  });
});

describe("a model that is removed", () => {
  it("while another page downloads it, answers there, and is gone", async () => {
    files.get("/model.gguf").pause = 100;
    const other = await pageOf(host.url);
    const answering = answer(url, { on: other });
    while (!((await list())[0]?.bytes > 8 * MB)) await sleep(50);
    assert.equal(await remove(url), true);
    assert.deepEqual(await answering, answered);
    assert.deepEqual(await list(), []);
    assert.ok((await usage()) < MB, `${await usage()} bytes are used`);
  });
});

describe("without room", () => {
  /** Lets the origin store so many bytes. */
  async function setQuota(bytes) {
    const session = await context.newCDPSession(page);
    await session.send("Storage.overrideQuotaForOrigin", { origin: host.url, quotaSize: bytes });
  }

  it("a model answers, and a warning says what to do", async () => {
    // Chromium's own estimate hides what is really free.
    const before = "StorageManager.prototype.estimate = async () => ({ usage: 90e6, quota: 100e6 });";
    const { response, warnings } = await answer(url, { before });
    assert.equal(response, answered.response);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /is not kept in this browser \(it needs 2\d MB, and this site may store 9 MB more\).*Ai\.models\.delete\(name\)/);
    assert.deepEqual(await list(), []);
  });

  it("that the browser has not announced, too; and nothing is left behind", async () => {
    await setQuota(10 * MB);
    const { response, warnings } = await answer(url);
    assert.equal(response, answered.response);
    assert.equal(warnings.length, 1);
    assert.match(warnings[0], /is not kept in this browser \(there is no more room\)/);
    assert.deepEqual(await list(), []);
    assert.ok((await usage()) < MB, `${await usage()} bytes are used`);
  });

  it("not even for its name, because more is stored than there may be; what is stored is read", async () => {
    assert.deepEqual(await answer(url), answered);
    files.set("/other.gguf", paddedModel(1_000_000, SAYS));
    await setQuota(MB / 10);
    const { response, warnings } = await answer(`${host.url}/other.gguf`);
    assert.equal(response, answered.response);
    assert.match(warnings.join(), /other\.gguf is not kept in this browser \(there is no more room\)/);
    assert.deepEqual((await list()).map(({ name }) => name), [url]);
    assert.deepEqual(await answer(url), answered);
  });
});

describe("a split model", () => {
  /** So small that each is stored whole when its header is read. */
  const PARTS = splitFile(bytesOf(paddedModel(1, SAYS)), [2, 2]);
  const LARGE = splitFile(bytesOf(paddedModel(PADDING, SAYS)), [2, 2]);
  const nameOf = (part) => partName("s-Q8_0", part, PARTS.length);
  const sizeOf = (parts) => parts.reduce((sum, { length }) => sum + length, 0);
  const shown = async () => (await list()).map(({ name, complete, size, bytes }) => ({ name, complete, size, isFirstWhole: bytes > PARTS[0].length }));

  it("by URL is complete when all its files are there", async () => {
    const serve = (part) => files.set(`/${nameOf(part)}`, fileOf(PARTS[part]));
    serve(0);
    const sources = PARTS.map((_, part) => ({ url: `${host.url}/${nameOf(part)}?signature=${part}` }));
    assert.match((await answer(sources)).error, /^3042: .*00002-of-00003/);
    assert.deepEqual(await shown(), [{ name: sources[0].url, complete: false, size: undefined, isFirstWhole: true }]);
    PARTS.forEach((_, part) => serve(part));
    assert.deepEqual(await answer(sources), answered);
    assert.deepEqual((await list()).map(({ complete }) => complete), [true, true, true]);
    for (const { url } of sources) assert.equal(await remove(url), true);

    files.delete(`/${nameOf(1)}`);
    const url = `${host.url}/${nameOf(0)}`;
    await answer(url);
    assert.deepEqual(await shown(), [{ name: url, complete: false, size: undefined, isFirstWhole: true }]);
    serve(1);
    assert.deepEqual(await answer(url), answered);
    const [{ bytes, used, ...whole }, ...others] = await list();
    assert.deepEqual([whole, others], [{ name: url, url, size: sizeOf(PARTS), complete: true }, []]);
  });

  describe("of the hub", () => {
    let hub;
    const config = () => ({ hub: { endpoint: hub.url } });
    const repositoryOf = (parts) => ({ files: Object.fromEntries(parts.map((bytes, part) => [nameOf(part), bytes])) });
    beforeEach(async () => void (hub = await startHub({ "some/parts": repositoryOf(PARTS), "large/parts": repositoryOf(LARGE) })));
    afterEach(() => hub.close());

    it("is complete when all its files are there", async () => {
      hub.faults.cdn = ({ path }) => (path === nameOf(1) ? { status: 404 } : undefined);
      assert.match((await answer("hf:some/parts", { config: config() })).error, /^3042: /);
      assert.deepEqual(await shown(), [{ name: "hf:some/parts", complete: false, size: sizeOf(PARTS), isFirstWhole: true }]);
    });

    it("is kept only if there is room for all its files", async () => {
      // For each of them, and not for all; 1 MiB stays free.
      const quota = 2 ** 20 + Math.max(...LARGE.map(({ length }) => length)) + 1000;
      const before = `StorageManager.prototype.estimate = async () => ({ usage: 0, quota: ${quota} });`;
      const { response, warnings } = await answer("hf:large/parts", { before, config: config() });
      assert.deepEqual([response, warnings.length], [answered.response, 1]);
      assert.match(warnings[0], /hf:large\/parts is not kept in this browser \(it needs 21 MB, /);
      assert.deepEqual(await list(), []);
    });
  });
});

describe("the default models", () => {
  it("come from the mirror that is configured, and the one of text is removed by its short name", async (t) => {
    const { pathname } = new URL(DEFAULT_MODEL.url);
    const hub = await startHub({ [pathname.split("/").slice(1, 3).join("/")]: { files: { [DEFAULT_MODEL.file]: await readFile(MODEL_PATH) } } });
    t.after(() => hub.close());
    const { response } = await answer(undefined, { config: { hub: { endpoint: hub.url } } });
    assert.ok(response.length > 0);
    assert.equal(hub.asked[0].path, pathname);
    assert.deepEqual((await list()).map(({ url, complete }) => ({ url, complete })), [{ url: hub.url + pathname, complete: true }]);
    assert.equal(await remove("smollm2-135m"), true);
    assert.deepEqual(await list(), []);

    hub.asked.length = 0;
    const embedded = (endpoint) =>
      page.evaluate(async (endpoint) => {
        const ai = new (await import("/pkg/browser.js")).Ai({ hub: { endpoint }, onWarning() {} });
        return ai.run("@cf/baai/bge-small-en-v1.5", { text: "Hi" }).then(() => "", ({ message }) => message);
      }, endpoint);
    assert.match(await embedded(hub.url), /all-MiniLM-L6-v2/);
    assert.ok(hub.asked.length > 0 && hub.asked.every(({ path }) => path.includes("/all-MiniLM-L6-v2/")), "this hub has none of its files");
  });
});

describe("small files", () => {
  it("are kept too", async () => {
    files.set("/small.gguf", fileOf(bytesOf(paddedModel(1, SAYS))));
    assert.deepEqual(await answer("/small.gguf"), answered);
    assert.deepEqual(await answer("/small.gguf"), answered);
    assert.equal(downloads().length, 1);
  });
});
