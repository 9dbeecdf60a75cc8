// The browser entry in every place from which a program can use it: a page, a shared worker, a service worker, a package on another origin
// or behind a dev server. And the life of its Web Worker: it loads or says why not, and it ends with its `Ai`.

import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import path from "node:path";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { builds } from "../../pkg/wasm/builds.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { FILE, SAYS as FILE_SAYS, startDownloadServer } from "../download-server.mjs";
import { FAILURES, WORDS } from "../lost-instance.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { launch, openPage } from "./chromium.mjs";

const PKG = fileURLToPath(new URL("../../pkg/", import.meta.url));
const ID = "@cf/meta/llama-3.1-8b-instruct";
const MODEL = scriptedModel().bytes;
const SAYS = "Hello there!";
const TYPES = { ".js": "text/javascript", ".wasm": "application/wasm", ".html": "text/html" };
const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };

/**
 * Starts a server: `/` is an empty page, `/model.gguf` a model that says `SAYS`.
 *
 * @param {object} [options]
 * @param {string[]} [options.at] the paths that are the folder `pkg/`
 * @param {Record<string, string>} [options.files] further files; also those that replace a file of `pkg/`
 * @param {Record<string, string>} [options.headers] headers of every response
 * @param {Set<string>} [options.missing] paths that are not found
 * @param {() => Promise<void>} [options.beforeModel] what the model's response waits for
 */
async function serve({ at = ["/pkg/"], files = {}, headers = {}, missing = new Set(), beforeModel } = {}) {
  const read = async (pathname) => {
    if (missing.has(pathname)) return undefined;
    if (pathname === "/") return "<!doctype html><link rel=icon href='data:,'>";
    if (pathname === "/model.gguf") return MODEL;
    const folder = at.find((folder) => pathname.startsWith(folder));
    return files[pathname] ?? (folder && readFile(path.join(PKG, pathname.slice(folder.length))).catch(() => undefined));
  };
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const body = await read(pathname);
    if (pathname === "/model.gguf") await beforeModel?.();
    const type = TYPES[pathname === "/" ? ".html" : path.extname(pathname)] ?? "application/octet-stream";
    response.writeHead(body === undefined ? 404 : 200, { "content-type": type, "cache-control": "no-store", ...headers }).end(body);
  });
  return listening(server);
}

/** Runs `work(Ai, options)` in a new page of a server; `options` has the model and its id. Resolves to its result, or to its error's text. */
async function inPageOf(browser, url, { entry = "/pkg/browser.js", work, config = {} }) {
  const { page, problems } = await openPage(browser);
  await page.goto(`${url}/`);
  const outcome = await page.evaluate(
    `import(${JSON.stringify(entry)})
       .then(({ Ai }) => (${work})(Ai, ${JSON.stringify({ config: { default: `${url}/model.gguf`, threads: 1, ...config }, id: ID })}))
       .catch((error) => error.name + ": " + error.message)`,
  );
  return { page, problems, outcome };
}

/** Answers one prompt. */
const answer = async (Ai, { id, config }) => {
  const ai = new Ai({ onWarning() {}, ...config });
  const { response } = await ai.run(id, { prompt: "Hi" });
  return response;
};

describe("a stream goes on, to the same text, while another request", () => {
  let browser;
  let server;
  before(async () => {
    browser = await launch();
    const files = { "/lost-instance.js": await readFile(new URL("../lost-instance.mjs", import.meta.url)), "/counting.gguf": scriptedModel({ script: WORDS }).bytes };
    server = await serve({ files });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  for (const how of Object.keys(FAILURES)) {
    it(`breaks the instance by ${how}`, async () => {
      const { page } = await openPage(browser);
      await page.goto(`${server.url}/`);
      // The engine in the page's own thread, where its instance can be reached.
      const outcome = await page.evaluate(
        async ({ id, how }) => {
          const { Ai } = await import("/pkg/service-worker.js");
          const { narrow } = await import("/pkg/instance.js");
          const { streamWhileAnotherBreaks } = await import("/lost-instance.js");
          const of = (file) => new Ai({ default: file, onWarning() {} });
          return streamWhileAnotherBreaks(narrow, of("/counting.gguf"), of("/model.gguf"), id, how);
        },
        { id: ID, how },
      );
      assert.match(outcome.error, FAILURES[how].says);
      assert.deepEqual([outcome.text, outcome.later, outcome.replaced], [WORDS.join(""), SAYS, FAILURES[how].replaced]);
      await page.close();
    });
  }
});

describe("a model file on a server of another origin", () => {
  let browser;
  let server;
  let files;
  let page;
  before(async () => {
    browser = await launch();
    [server, files] = [await serve(), await startDownloadServer()];
    ({ page } = await openPage(browser));
    await page.goto(`${server.url}/`);
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    await files?.close();
  });

  /** What the model of a source says, or the error. */
  const says = (source) =>
    page.evaluate(
      async ({ id, source }) => {
        const { Ai } = await import("/pkg/browser.js");
        const ai = new Ai({ default: source, threads: 1, onWarning() {} });
        const text = await ai.run(id, { prompt: "Hi" }).then(({ response }) => response, ({ message }) => message);
        await ai.close();
        return text;
      },
      { id: ID, source },
    );

  it("is found behind redirects, which the browser follows", async () => {
    assert.equal(await says(`${files.url}/3/m.gguf`), FILE_SAYS);
  });

  it("is compared with its SHA-256", async () => {
    const sha256 = createHash("sha256").update(FILE).digest("hex");
    assert.equal(await says({ url: `${files.url}/0/m.gguf`, sha256 }), FILE_SAYS);
    assert.match(await says({ url: `${files.url}/0/m.gguf`, sha256: sha256.replace(/^./, (digit) => (digit === "0" ? "1" : "0")) }), /^5004: .* is not the expected file/);
  });

  it("is 3008 if it changes before its second half", async () => {
    assert.match(await says(`${files.url}/changes.gguf`), /^3008: .* changed while it was read/);
    assert.equal(await says(`${files.url}/changes.gguf`), "The other.");
  });
});

describe("the default model", () => {
  let browser;
  let server;
  let page;
  let asked;
  before(async () => {
    [browser, server] = [await launch(), await serve()];
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });
  // Each test has a context of its own, so an empty storage.
  beforeEach(async () => {
    ({ page } = await openPage(browser));
    asked = 0;
    await page.context().route(DEFAULT_MODEL.url, (route) => {
      asked += 1;
      return route.fulfill({ body: Buffer.from(MODEL), headers: { "access-control-allow-origin": "*" } });
    });
    await page.goto(`${server.url}/`);
  });
  afterEach(() => page.close());

  const says = () =>
    page.evaluate(async (id) => {
      const { Ai } = await import("/pkg/browser.js");
      return new Ai({ threads: 1, onWarning() {} }).run(id, { prompt: "Hi" }).then(({ response }) => response, ({ message }) => message);
    }, ID);
  const kept = () => page.evaluate(async () => (await (await import("/pkg/browser.js")).Ai.models.list()).map(({ name, complete }) => [name, complete]));

  it("is 5004 if the server sends another file, and that is not kept", async () => {
    assert.match(await says(), /^5004: .* is not the expected file: its SHA-256 is /);
    assert.equal(asked, 1);
    assert.deepEqual(await kept(), []);
  });

  it("is downloaded once", async () => {
    const sha256 = createHash("sha256").update(MODEL).digest("hex");
    const module = (await readFile(new URL("../../pkg/default-model.js", import.meta.url), "utf8")).replace(DEFAULT_MODEL.sha256, sha256);
    await page.context().route("**/default-model.js", (route) => route.fulfill({ body: module, contentType: "text/javascript" }));
    assert.equal(await says(), SAYS);
    assert.deepEqual(await kept(), [[DEFAULT_MODEL.url, true]]);
    assert.equal(await says(), SAYS);
    assert.equal(asked, 1);
  });
});

describe("in a worker that can start no other", () => {
  let browser;
  let server;

  const script = (entry, handle) => `
    import { Ai } from "${entry}";
    const answer = () => new Ai({ default: "/model.gguf", onWarning() {} }).run("${ID}", { prompt: "Hi" });
    const text = () => answer().then(({ response }) => response, (error) => error.name + ": " + error.message);
    ${handle}`;
  const onMessage = 'addEventListener("message", (event) => event.waitUntil(text().then((reply) => event.source.postMessage(reply))));';

  before(async () => {
    browser = await launch();
    server = await serve({
      files: {
        "/shared.js": script("/pkg/browser.js", 'addEventListener("connect", async ({ ports: [port] }) => port.postMessage(await text()));'),
        "/service.js": script("/pkg/service-worker.js", onMessage),
        "/service-with-main-entry.js": script("/pkg/browser.js", onMessage),
      },
    });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it("a shared worker computes in its own thread", async () => {
    const { page } = await openPage(browser);
    await page.goto(`${server.url}/`);
    const reply = await page.evaluate(
      () =>
        new Promise((resolve) => {
          const { port } = new SharedWorker("/shared.js", { type: "module" });
          port.onmessage = ({ data }) => resolve(data);
        }),
    );
    assert.equal(reply, SAYS);
    await page.close();
  });

  /** The text that a service worker replies. */
  async function serviceWorkerReplies(file) {
    const { page } = await openPage(browser);
    await page.goto(`${server.url}/`);
    const reply = await page.evaluate(async (file) => {
      const registration = await navigator.serviceWorker.register(file, { type: "module", scope: file });
      const worker = registration.installing ?? registration.active;
      const replied = new Promise((resolve) => navigator.serviceWorker.addEventListener("message", ({ data }) => resolve(data), { once: true }));
      navigator.serviceWorker.startMessages();
      worker.postMessage("go");
      return replied;
    }, file);
    await page.close();
    return reply;
  }

  it("a service worker computes in its own thread, with the entry for it", async () => {
    assert.equal(await serviceWorkerReplies("/service.js"), SAYS);
  });

  it("the main entry names that entry in a service worker, which has no import()", async () => {
    assert.match(await serviceWorkerReplies("/service-with-main-entry.js"), /^AiInternalError: .*import Ai from "workers-ai-local\/service-worker"/);
  });

  it("that entry, the Web Worker and the threads import everything statically", async () => {
    const seen = new Set();
    const visit = async (file) => {
      if (seen.has(file)) return;
      seen.add(file);
      const code = (await readFile(file, "utf8")).replace(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, "");
      assert.doesNotMatch(code, /\bimport\s*\(/, `${file} has an import()`);
      for (const [, name] of code.matchAll(/^(?:import|export) [^;]*?"(\.[^"]+)"/gm)) await visit(path.join(path.dirname(file), name));
    };
    for (const entry of ["service-worker.js", "browser-worker.js", "browser-thread.js"]) await visit(path.join(PKG, entry));
    assert.ok([...seen].some((file) => file.endsWith("workers_ai_local.js")));
  });
});

describe("from another origin", () => {
  let browser;
  let cdn;
  before(async () => {
    browser = await launch();
    cdn = await serve({ headers: { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" } });
  });
  after(async () => {
    await browser?.close();
    await cdn?.close();
  });

  it("answers, and leaves no Blob URL behind", async (t) => {
    const server = await serve({ at: [] });
    t.after(server.close);
    const { page, problems, outcome } = await inPageOf(browser, server.url, {
      entry: `${cdn.url}/pkg/browser.js`,
      work: async (Ai, { id, config }) => {
        const open = new Set();
        const { createObjectURL, revokeObjectURL } = URL;
        URL.createObjectURL = (blob) => {
          const url = createObjectURL.call(URL, blob);
          open.add(url);
          return url;
        };
        URL.revokeObjectURL = (url) => {
          open.delete(url);
          revokeObjectURL.call(URL, url);
        };
        const { response } = await new Ai({ onWarning() {}, ...config }).run(id, { prompt: "Hi" });
        return { response, open: open.size };
      },
    });
    assert.deepEqual([outcome, problems], [{ response: SAYS, open: 0 }, []]);
    await page.close();
  });

  it("has threads", { skip: !builds.threads && 'the build "threads" is not there: `npm run build` says why' }, async (t) => {
    const server = await serve({ at: [], headers: ISOLATED });
    t.after(server.close);
    const { page, problems, outcome } = await inPageOf(browser, server.url, {
      entry: `${cdn.url}/pkg/browser.js`,
      config: { threads: 2 },
      work: async (Ai, { id, config }) => {
        const ai = new Ai({ onWarning() {}, ...config });
        const { response } = await ai.run(id, { prompt: "Hi" });
        for (let tries = 0; tries < 500 && (await ai.stats()).threads < 2; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
        return [response, (await ai.stats()).threads];
      },
    });
    assert.deepEqual([outcome, problems], [[SAYS, 2], []]);
    await page.close();
  });

  it("says what a Content Security Policy must allow", async (t) => {
    const server = await serve({ at: [], headers: { "content-security-policy": "worker-src 'self'" } });
    t.after(server.close);
    const { page, outcome } = await inPageOf(browser, server.url, { entry: `${cdn.url}/pkg/browser.js`, work: answer });
    assert.match(outcome, /^AiInternalError: The engine's Web Worker could not be started: .*script-src, and blob: in worker-src\.$/);
    await page.close();
  });
});

describe("the Web Worker's script", () => {
  let browser;
  before(async () => {
    browser = await launch();
  });
  after(() => browser?.close());

  it("is found where Vite's dev server has moved the entry, but not the worker", async (t) => {
    const moved = "/node_modules/.vite/deps/";
    const server = await serve({ at: ["/node_modules/workers-ai-local/pkg/", moved], missing: new Set([`${moved}browser-worker.js`]) });
    t.after(server.close);
    const { page, problems, outcome } = await inPageOf(browser, server.url, { entry: `${moved}browser.js`, work: answer });
    assert.deepEqual([outcome, problems], [SAYS, []]);
    await page.close();
  });

  it("is an error that says what to do while it is missing, and is loaded once it is there", async (t) => {
    const missing = new Set(["/pkg/browser-worker.js"]);
    const server = await serve({ missing });
    t.after(server.close);
    const { page, outcome } = await inPageOf(browser, server.url, {
      work: async (Ai, { id, config }) => {
        globalThis.ai = new Ai({ onWarning() {}, ...config });
        return ai.run(id, { prompt: "Hi" });
      },
    });
    assert.equal(
      outcome,
      "AiInternalError: The engine's Web Worker could not be started: its script could not be loaded. The server must have browser-worker.js beside browser.js (the option `worker` names another place), " +
        'and a Content Security Policy of the page must allow it in worker-src. With Vite, set `optimizeDeps: { exclude: ["workers-ai-local"] }`.',
    );
    missing.clear();
    assert.equal(await page.evaluate(async (id) => (await ai.run(id, { prompt: "Hi" })).response, ID), SAYS);
    await page.close();
  });

  it("is an error that says what to do if the page's Content Security Policy forbids it", async (t) => {
    const server = await serve({ headers: { "content-security-policy": "worker-src 'none'" } });
    t.after(server.close);
    const { page, outcome } = await inPageOf(browser, server.url, { work: answer });
    assert.match(outcome, /^AiInternalError: The engine's Web Worker could not be started: .*worker-src/);
    await page.close();
  });

  it("is started by a Web Worker of the program, too", async (t) => {
    const program = `
      import { Ai } from "/pkg/browser.js";
      addEventListener("message", async ({ data: { id, config } }) => {
        const ai = new Ai({ onWarning() {}, ...config });
        postMessage((await ai.run(id, { prompt: "Hi" })).response);
      });`;
    const server = await serve({ files: { "/program.js": program } });
    t.after(server.close);
    const { page, problems, outcome } = await inPageOf(browser, server.url, {
      work: (Ai, options) =>
        new Promise((resolve) => {
          const program = new Worker("/program.js", { type: "module" });
          program.onmessage = ({ data }) => resolve(data);
          program.postMessage(options);
        }),
    });
    assert.deepEqual([outcome, problems], [SAYS, []]);
    await page.close();
  });

  it("reports a configuration that it refuses", async (t) => {
    const server = await serve();
    t.after(server.close);
    const { page, outcome } = await inPageOf(browser, server.url, { config: { default: {} }, work: answer });
    assert.match(outcome, /^AiInternalError: default is not a model file\./);
    await page.close();
  });

  it("is error 3040 only if it had loaded and then fails; the next call starts another one", async (t) => {
    const server = await serve();
    t.after(server.close);
    const { page } = await inPageOf(browser, server.url, {
      work: async (Ai, { id, config }) => {
        globalThis.ai = new Ai({ onWarning() {}, ...config });
        globalThis.reader = (await ai.run(id, { prompt: "Hi", stream: true })).getReader();
        await reader.read();
      },
    });
    const failed = page.workers()[0].waitForEvent("close");
    await page.workers()[0].evaluate(() => void setTimeout(() => { throw new Error("broken by a test"); }));
    await failed;
    const [rest, next] = await page.evaluate(async (id) => {
      const rest = await reader.read().catch((error) => error.message);
      return [rest, (await ai.run(id, { prompt: "Hi" })).response];
    }, ID);
    assert.match(String(rest), /^3040: The engine's Web Worker failed: .+\. Try again\.$/);
    assert.equal(next, SAYS);
    await page.close();
  });
});

describe("where a bundler has moved everything, the options say", () => {
  let browser;
  let cdn;
  let server;
  before(async () => {
    browser = await launch();
    cdn = await serve({ at: ["/cdn/"], headers: { "access-control-allow-origin": "*", "cross-origin-resource-policy": "cross-origin" } });
    // The entry alone is at /app/, the worker and what it imports at /w/, without any .wasm; those are at /assets/.
    const missing = new Set(["/app/browser-worker.js", ...Object.keys(builds).map((build) => `/w/wasm/${build}/workers_ai_local_bg.wasm`)]);
    const wasm = await readFile(path.join(PKG, "wasm/simd128/workers_ai_local_bg.wasm"));
    server = await serve({ at: ["/app/", "/w/"], missing, files: { "/assets/simd128/workers_ai_local_bg.wasm": wasm, "/assets/engine.0123.wasm": wasm } });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
    await cdn?.close();
  });

  /** What the page's `Ai` says with the options that `text`, an expression, makes. */
  const says = async (text) => {
    const work = `async (Ai, { id, config }) => {
      const ai = new Ai({ onWarning() {}, ...config, ...(${text}) });
      const { response } = await ai.run(id, { prompt: "Hi" });
      await ai.close();
      return response;
    }`;
    const { page, outcome } = await inPageOf(browser, server.url, { entry: "/app/browser.js", work });
    await page.close();
    return outcome;
  };

  for (const [what, options] of Object.entries({
    "the worker's address and a folder, relative to the page": '{ worker: "w/browser-worker.js", wasmUrl: "assets" }',
    "both as URLs, and the address of one build": '{ worker: new URL("/w/browser-worker.js", location.href), wasmUrl: { simd128: new URL("/assets/engine.0123.wasm", location.href) } }',
    "how to start it": '{ worker: () => new Worker("/w/browser-worker.js", { type: "module" }), wasmUrl: "/assets/" }',
    "how to start it, later": '{ worker: async () => new Worker("/w/browser-worker.js", { type: "module" }), wasmUrl: "/assets/" }',
    "the started worker": '{ worker: new Worker("/w/browser-worker.js", { type: "module" }), wasmUrl: "/assets/" }',
    "a worker that has long been loaded":
      '{ worker: await new Promise((resolve) => { const worker = new Worker("/w/browser-worker.js", { type: "module" }); worker.onmessage = () => resolve(worker); }), wasmUrl: "/assets/" }',
  })) {
    it(what, async () => assert.equal(await says(options), SAYS));
  }

  it("a worker of another origin", async () => {
    assert.equal(await says(`{ worker: "${cdn.url}/cdn/browser-worker.js" }`), SAYS);
  });

  it("a started worker serves one Ai; a second one gets an error that says so", async () => {
    const work = `async (Ai, { id, config }) => {
      const worker = new Worker("/w/browser-worker.js", { type: "module" });
      const options = { onWarning() {}, ...config, worker, wasmUrl: "/assets/" };
      const first = new Ai(options);
      const { response } = await first.run(id, { prompt: "Hi" });
      await first.close();
      return [response, await new Ai(options).run(id, { prompt: "Hi" }).catch((error) => error.message)];
    }`;
    const { page, outcome } = await inPageOf(browser, server.url, { entry: "/app/browser.js", work });
    await page.close();
    assert.equal(outcome[0], SAYS);
    assert.match(outcome[1], /it has ended, or serves another Ai; give a function that starts one/);
  });

  it("without them, what is missing is named with its option", async () => {
    assert.match(await says('{ worker: "/w/browser-worker.js" }'), /^AiInternalError: .*\/w\/wasm\/\S+\.wasm cannot be loaded: 404 .* set the option `wasmUrl`\.$/);
    assert.match(await says('{ worker: "/w/none.js" }'), /^AiInternalError: The Web Worker of the option `worker` could not be started: /);
    assert.match(await says('{ worker: "/w/browser-worker.js", wasmUrl: "/nowhere" }'), /\/nowhere\/\S+\.wasm cannot be loaded: 404/);
  });
});

describe("in place of a model, in a page,", () => {
  let browser;
  let server;
  before(async () => {
    browser = await launch();
    server = await serve();
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  it("a script answers, its functions included", async () => {
    const work = async (Ai, { id }) => {
      const ai = new Ai({ script: [(model, { prompt }) => ({ text: `${prompt} ${prompt}!` })] });
      const { response } = await ai.run(id, { prompt: "Hi" });
      const streamed = await new Response(await ai.run(id, { prompt: "Ho", stream: true })).text();
      return { response, streamed, loaded: (await ai.stats()).models.length };
    };
    const { outcome } = await inPageOf(browser, server.url, { work });
    assert.deepEqual([outcome.response, outcome.loaded], ["Hi Hi!", 0]);
    assert.match(outcome.streamed, /"response":" Ho!"/);
  });

  it("neither the service nor a record can answer", async () => {
    for (const config of [{ remote: { [ID]: "always" } }, { record: "fixtures/" }]) {
      const { outcome } = await inPageOf(browser, server.url, { work: async (Ai, options) => new Ai(options.config).run(options.id, { prompt: "Hi" }), config });
      assert.match(outcome, /^AiInternalError: (remote|record) needs/);
    }
  });
});

describe("the Web Worker ends", () => {
  let browser;
  let server;
  /** Resolves to let the server send a model. */
  let sendModel = Promise.resolve();
  let modelRequested = () => {};

  before(async () => {
    browser = await launch({ args: ["--js-flags=--expose-gc"] });
    server = await serve({
      beforeModel: () => {
        modelRequested();
        return sendModel;
      },
    });
  });
  after(async () => {
    await browser?.close();
    await server?.close();
  });

  const collect = (page) => page.evaluate(() => globalThis.gc({ type: "major", execution: "async" }));

  /** Collects garbage until the page has no worker; `false` if it keeps one. */
  async function endsWithGarbage(page) {
    for (let tries = 0; tries < 50; tries += 1) {
      await collect(page);
      if (page.workers().length === 0) return true;
      await sleep(50);
    }
    return false;
  }

  async function collectOften(page) {
    for (let times = 0; times < 5; times += 1) {
      await collect(page);
      await sleep(20);
    }
  }

  it("with close()", async () => {
    const { page, outcome } = await inPageOf(browser, server.url, {
      work: async (Ai, { id, config }) => {
        const ai = (globalThis.ai = new Ai({ onWarning() {}, ...config }));
        const { response } = await ai.run(id, { prompt: "Hi" });
        await ai.close();
        return response;
      },
    });
    assert.equal(outcome, SAYS);
    for (let tries = 0; tries < 100 && page.workers().length > 0; tries += 1) await sleep(20);
    assert.equal(page.workers().length, 0);
    await page.close();
  });

  it("when nothing refers to the Ai any more, even if its own callbacks do", async () => {
    const { page, outcome } = await inPageOf(browser, server.url, {
      work: async (Ai, { id, config }) => {
        const ai = new Ai({ ...config, onProgress: () => ai.backend, onWarning: () => ai.backend });
        return (await ai.run(id, { prompt: "Hi" })).response;
      },
    });
    assert.equal(outcome, SAYS);
    assert.equal(page.workers().length, 1);
    assert.ok(await endsWithGarbage(page));
    await page.close();
  });

  it("not while somebody holds the Ai", async () => {
    const { page } = await inPageOf(browser, server.url, {
      work: async (Ai, { id, config }) => {
        globalThis.ai = new Ai({ onWarning() {}, ...config });
        await ai.run(id, { prompt: "Hi" });
      },
    });
    await collectOften(page);
    assert.equal(page.workers().length, 1);
    assert.equal(await page.evaluate(async (id) => (await ai.run(id, { prompt: "Hi" })).response, ID), SAYS);
    await page.close();
  });

  it("not while a call is open", async () => {
    let send;
    sendModel = new Promise((resolve) => (send = resolve));
    const requested = new Promise((resolve) => (modelRequested = resolve));
    const { page } = await inPageOf(browser, server.url, {
      work: async (Ai, { id, config }) => {
        new Ai({ onWarning() {}, ...config }).run(id, { prompt: "Hi" }).then(({ response }) => (globalThis.response = response));
      },
    });
    await requested;
    await collectOften(page);
    send();
    await page.waitForFunction(() => globalThis.response !== undefined, undefined, { timeout: 20_000 });
    assert.equal(await page.evaluate(() => globalThis.response), SAYS);
    assert.ok(await endsWithGarbage(page));
    await page.close();
  });

  it("not while somebody reads a stream", async () => {
    const { page } = await inPageOf(browser, server.url, {
      work: async (Ai, { id, config }) => {
        const stream = await new Ai({ onWarning() {}, ...config }).run(id, { prompt: "Hi", stream: true });
        globalThis.reader = stream.pipeThrough(new TextDecoderStream()).getReader();
        globalThis.text = (await reader.read()).value;
      },
    });
    await collectOften(page);
    assert.equal(page.workers().length, 1);
    const text = await page.evaluate(async () => {
      for (let step; !(step = await reader.read()).done; ) globalThis.text += step.value;
      globalThis.reader = undefined;
      return globalThis.text;
    });
    assert.equal([...text.matchAll(/"response":"([^"]*)"/g)].map(([, piece]) => piece).join(""), SAYS);
    assert.ok(await endsWithGarbage(page));
    await page.close();
  });
});
