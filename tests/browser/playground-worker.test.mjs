// The playground's Worker tab in a real Chromium with the real model: Workers that are typed, run in a sandbox and answer with env.AI.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { createServer } from "node:http";
import { WORKER_EXAMPLES } from "../../www/worker-examples.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { startPlayground } from "../../scripts/playground.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { launch, openPage } from "./chromium.mjs";

const LOAD_LIMIT_MS = 60_000;
const ANSWER_LIMIT_MS = 120_000;

let server;
let browser;
let page;
let problems;
/** A server that nobody should reach. */
let outside;
const reached = [];
before(async () => {
  server = await startPlayground({ modelPath: MODEL_PATH });
  outside = await listening(createServer((request, response) => (reached.push(request.url), response.writeHead(200, { "access-control-allow-origin": "*", "content-type": request.url.endsWith(".js") ? "text/javascript" : "text/event-stream" }).end("postMessage('reached')"))));
  browser = await launch();
  ({ page, problems } = await openPage(browser));
  page.setDefaultTimeout(ANSWER_LIMIT_MS);
  await page.goto(server.url);
  await page.waitForSelector("#engine[data-state=ready]", { state: "attached", timeout: LOAD_LIMIT_MS });
  await page.click("#tab-worker");
});
after(async () => {
  await browser?.close();
  await server?.close();
  await outside?.close();
});

const ended = () => page.waitForSelector("#worker-stop[hidden]", { state: "attached" });
/** Types a Worker, runs it, and returns what is shown. */
async function shown(code) {
  await page.fill("#worker-editor textarea", code);
  await page.press("#worker-editor textarea", "Control+Enter");
  await ended();
  return page.innerText("#worker-response");
}
const body = () => page.textContent("#worker-response .code-block pre");
const example = async (title) => {
  await page.selectOption("#worker-example", { label: title });
  await page.click("#worker-send");
  await ended();
};

describe("the examples", () => {
  it("answer with an object", async () => {
    await example("An answer as JSON");
    assert.match(await page.textContent("#worker-response .status"), /^200 · application\/json · first byte after \d/);
    const { response, usage } = JSON.parse(await body());
    assert.notEqual(response, "");
    assert.ok(usage.completion_tokens > 0);
  });

  it("answer with a stream, whose text grows", async () => {
    await page.selectOption("#worker-example", { label: "A stream" });
    await page.click("#worker-send");
    const lengths = new Set();
    while (await page.locator("#worker-stop").isVisible()) lengths.add((await page.locator(".said").textContent().catch(() => "")).length);
    assert.ok(lengths.size >= 3, [...lengths].join(" "));
    assert.match(await page.textContent("#worker-response .status"), /^200 · text\/event-stream · .* · complete after /);
    assert.match(await page.textContent("#worker-response .raw"), /^data: \{"response":.*data: \[DONE\]\n\n$/s);
  });

  it("call a tool, and answer with what it returns", async () => {
    await example("A tool");
    const { called, result, response } = JSON.parse(await body());
    assert.equal(called.name, "get_weather");
    assert.equal(result.celsius, 21);
    assert.equal(typeof response, "string");
    assert.match(await page.textContent("#worker-response .log"), /^get_weather \{"city":/);
  });

  it("answer with JSON of a schema", async () => {
    await example("JSON of a schema");
    const { name, colours } = JSON.parse(await body());
    assert.equal(typeof name, "string");
    assert.ok(colours.length >= 1 && colours.every((colour) => ["red", "green", "blue"].includes(colour)));
  });

  it("are all tried, here or in playground-server.test.mjs", () => {
    assert.deepEqual(WORKER_EXAMPLES.map(({ title }) => title), ["An answer as JSON", "A stream", "A tool", "JSON of a schema", "Answers from documents (RAG)"]);
  });
});

describe("a Worker that is typed", () => {
  it("gets the request: method, path and body", async () => {
    await page.selectOption("#worker-method", "POST");
    await page.fill("#worker-path", "/a?b=c");
    await page.fill("#worker-body", '{"d": 1}');
    const text = await shown(`export default {
  async fetch(request) {
    const { pathname, search } = new URL(request.url);
    return Response.json({ method: request.method, pathname, search, type: request.headers.get("content-type"), body: await request.json() }, { status: 201, headers: { "x-own": "yes" } });
  },
};`);
    assert.match(text, /^201/);
    assert.deepEqual(JSON.parse(await body()), { method: "POST", pathname: "/a", search: "?b=c", type: "application/json", body: { d: 1 } });
    await page.click("#worker-response summary");
    assert.match(await page.innerText("#worker-response"), /x-own: yes/);
    await page.selectOption("#worker-method", "GET");
  });

  it("is kept over a reload", async () => {
    const code = "export default { fetch: () => new Response('kept') };\n";
    assert.match(await shown(code), /kept/);
    await page.reload();
    await page.waitForSelector("#engine[data-state=ready]", { state: "attached", timeout: LOAD_LIMIT_MS });
    assert.equal(await page.inputValue("#worker-editor textarea"), code);
    assert.equal(await page.getAttribute("#tab-worker", "aria-selected"), "true");
  });

  const WRONG = {
    "cannot be parsed": ["export default {\n  async fetch() {\n    const x = ;\n  },\n};", /^Line 3: SyntaxError: /, ["3"]],
    throws: ["export default {\n  async fetch() {\n    null.x;\n  },\n};", /^Line 3: TypeError: /, ["3"]],
    "asks for a model that does not exist": ['export default {\n  async fetch(request, env) {\n    return Response.json(\n      await env.AI.run("@cf/no/such", { prompt: "Hi" }),\n    );\n  },\n};', /^Line 4: AiError: 5007: /, ["4"]],
    "imports a package": ['import OpenAI from "openai";\nexport default {};', /openai.* a Worker in this tab is one module without packages\.$/s, []],
    "has no handler": ["export const a = 1;", /^The module has no fetch handler\. It ends with: export default \{/, []],
    "returns no response": ["export default { fetch: () => 5 };", /^The fetch handler returned no Response: /, []],
    "throws while it streams": [
      "export default { fetch: () => new Response(new ReadableStream({ pull(controller) { controller.error(new Error('broke off')); } })) };",
      /broke off/,
      [],
    ],
  };
  for (const [what, [code, message, lines]] of Object.entries(WRONG)) {
    it(`that ${what} is an error with its line`, async () => {
      await shown(code);
      assert.match(await page.textContent("#worker-response .error"), message);
      assert.deepEqual(await page.locator(".line-numbers .wrong").allTextContents(), lines);
      assert.equal(page.frames().length, 1);
    });
  }

  it("that never ends is stopped, and the page goes on", async () => {
    await page.fill("#worker-editor textarea", "export default { fetch() { for (;;); } };");
    await page.click("#worker-send");
    await page.click("#worker-stop");
    await ended();
    assert.match(await page.innerText("#worker-response"), /Stopped\.$/);
    assert.match(await shown("export default { fetch: () => new Response('next') };"), /next/);
  });

  it("that is stopped while its model answers ends the computation", async () => {
    await page.fill("#worker-editor textarea", 'export default { async fetch(request, env) { return new Response(await env.AI.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Tell a long story.", max_tokens: 2000, stream: true })); } };');
    await page.click("#worker-send");
    await page.waitForFunction(() => document.querySelector("#worker-response .raw")?.textContent.length > 100);
    await page.click("#worker-stop");
    await ended();
    // The next answer does not wait for two thousand tokens.
    assert.match(await shown('export default { async fetch(request, env) { return Response.json(await env.AI.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi", max_tokens: 3 })); } };'), /^200/);
  });

  it("reaches neither the network nor this page", async () => {
    await shown(`export default {
  async fetch() {
    const tried = {};
    const attempt = async (name, work) => (tried[name] = await work().then(() => "reached", () => "refused"));
    await attempt("network", () => fetch("${outside.url}/leak"));
    await attempt("server", () => fetch("${server.url}/index.html"));
    await attempt("storage", async () => (await caches.open("x")) || localStorage);
    await attempt("database", () => new Promise((resolve, reject) => { const open = indexedDB.open("x"); open.onsuccess = resolve; open.onerror = reject; }));
    await attempt("files", async () => navigator.storage.getDirectory());
    await attempt("socket", () => new Promise((resolve, reject) => { const socket = new WebSocket("${outside.url.replace("http", "ws")}/socket"); socket.onopen = resolve; socket.onerror = reject; }));
    await attempt("events", () => new Promise((resolve, reject) => { const source = new EventSource("${outside.url}/events"); source.onopen = resolve; source.onerror = reject; }));
    await attempt("script", async () => importScripts("${outside.url}/script.js"));
    await attempt("module", () => import("${outside.url}/module.js"));
    await attempt("beacon", async () => { if (!navigator.sendBeacon("${outside.url}/beacon", "x")) throw new Error(); });
    const nested = (script) => new Promise((resolve, reject) => { const worker = new Worker(script); worker.onmessage = ({ data }) => (data === "reached" ? resolve() : reject()); worker.onerror = reject; });
    await attempt("worker", () => nested("${outside.url}/worker.js"));
    const inner = "fetch('${outside.url}/inner').then(() => 'reached', () => 'refused').then(postMessage)";
    await attempt("workersNetwork", () => nested(URL.createObjectURL(new Blob([inner], { type: "text/javascript" }))));
    return Response.json({ ...tried, origin: self.origin });
  },
};`);
    const ways = ["network", "server", "storage", "database", "files", "socket", "events", "script", "module", "beacon", "worker", "workersNetwork"];
    assert.deepEqual(JSON.parse(await body()), { ...Object.fromEntries(ways.map((way) => [way, "refused"])), origin: "null" });
    assert.deepEqual(reached, []);
  });

  it("opens from the conversation's code", async () => {
    await page.click("#tab-chat");
    await page.fill("#max_tokens", "5");
    await page.fill("#prompt", "Say hello.");
    await page.click("#open-code");
    await page.click("#code-to-worker");
    assert.match(await page.inputValue("#worker-editor textarea"), /content: "Say hello\."/);
    await page.click("#worker-send");
    await ended();
    assert.match(await page.textContent("#worker-response .status"), /^200 · text\/event-stream/);
    assert.notEqual(await page.textContent(".said"), "");
  });
});

describe("around the Worker", () => {
  it("says how to run it elsewhere", async () => {
    await page.click("#worker-take summary");
    assert.match(await page.textContent("#worker-take-text"), /\[ai\]\nbinding = "AI".*npx workers-ai-local dev/s);
  });

  it("lets the keyboard into the editor and out of it", async () => {
    await page.focus("#worker-copy");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.ariaLabel), "Code of the Worker");
    await page.keyboard.press("Control+Home");
    await page.keyboard.press("Tab");
    assert.match(await page.inputValue("#worker-editor textarea"), /^ {2}export/);
    await page.keyboard.press("Escape");
    await page.keyboard.press("Tab");
    assert.equal(await page.evaluate(() => document.activeElement.id), "worker-method");
  });

  it("logs no errors on the console but those of the Workers", () => {
    const own = /SyntaxError|blob:|Content Security Policy|Failed to resolve module|Cross-Origin|ERR_FAILED|ERR_BLOCKED/;
    assert.deepEqual(problems.filter((problem) => !own.test(problem)), []);
  });
});
