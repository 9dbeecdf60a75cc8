// The playground when something comes between: runs and loads that are given up, files that the server does not send, Workers that write without an end
// or ask for what is no model. In a real Chromium; the answers are a script's.

import assert from "node:assert/strict";
import { createServer as createHttpServer } from "node:http";
import { after, afterEach, before, beforeEach, describe, it } from "node:test";
import { listening } from "../../scripts/lib/ports.mjs";
import { Stopwatch } from "../../www/speed.js";
import { launch, openPage } from "./chromium.mjs";
import { startScripted } from "./scripted-playground.mjs";

const LIMIT_MS = 20_000;
/** As long as what should not happen is waited for. */
const WHILE_MS = 500;
let server;
let browser;
let page;
let problems;
/** The paths that the server was asked for. */
const asked = [];
before(async () => {
  server = await startScripted({ source: "/home/a/My Models/it's.gguf" });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});
beforeEach(async () => {
  ({ page, problems } = await openPage(browser));
  page.setDefaultTimeout(LIMIT_MS);
  asked.length = 0;
  page.on("request", (request) => asked.push(new URL(request.url()).pathname));
});
afterEach(() => page.close());

const ready = () => page.waitForSelector("#engine[data-state=ready]", { state: "attached" });
async function open() {
  await page.goto(server.url);
  await ready();
}
async function ask(prompt) {
  await page.fill("#prompt", prompt);
  await page.press("#prompt", "Enter");
}
const answered = () => page.waitForSelector("#send:enabled");
/** Requests for this path wait until the function that is returned is called. */
async function hold(path) {
  const { promise, resolve } = Promise.withResolvers();
  await page.route(path, async (route) => {
    await promise;
    await route.continue();
  });
  return resolve;
}

describe("a Worker", () => {
  beforeEach(async () => {
    await open();
    await page.click("#tab-worker");
  });
  const ended = () => page.waitForSelector("#worker-stop[hidden]", { state: "attached" });
  async function run(code) {
    await page.fill("#worker-editor textarea", code);
    await page.click("#worker-send");
  }

  it("that is run again before it has started runs once", async () => {
    const release = await hold("**/worker-boot.js");
    const code = "export default { fetch: () => new Response('ran') };";
    await run(code);
    await run(code);
    release();
    await ended();
    assert.match(await page.innerText("#worker-response"), /ran/);
    assert.equal(asked.filter((path) => path === "/sandbox.html").length, 1);
    assert.equal(page.frames().length, 1);
    assert.deepEqual(problems, []);
  });

  it("runs as soon as the server sends the sandbox's scripts again", async () => {
    const code = "export default { fetch: () => new Response('ran') };";
    await page.route("**/worker-boot.js", (route) => route.fulfill({ status: 503, body: "busy" }), { times: 1 });
    await run(code);
    await ended();
    assert.equal(await page.textContent("#worker-response .error"), "The server of this page answers /worker-boot.js with status 503. Run the Worker again when it does.");
    await run(code);
    await ended();
    assert.match(await page.innerText("#worker-response"), /^200[^]*ran/);
  });

  it("that writes without an end is cut off", async () => {
    await run("export default { fetch() { for (let n = 0; n < 2000; n += 1) console.log(n === 1 ? '' : 'x'.repeat(20_000)); return new Response('done'); } };");
    await ended();
    const lines = await page.locator("#worker-response .log span").allTextContents();
    assert.equal(lines.length, 500);
    assert.deepEqual([lines[0], lines[1], lines.at(-1)], [`${"x".repeat(10_000)}…\n`, "\n", "… (the rest is not shown)\n"]);
  });

  it("reaches no other path of the server by the name of a model", async () => {
    await run('export default {\n  async fetch(request, env) {\n    return Response.json(await env.AI.run("../../../../../../local/tokenize", { model: "@cf/meta/llama-3.1-8b-instruct", prompt: "Hi" }));\n  },\n};');
    await ended();
    assert.equal(await page.textContent("#worker-response .error"), "Line 3: AiError: 5007: No such model ../../../../../../local/tokenize or task");
    await run('export default { async fetch(request, env) { return Response.json(await env.AI.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi" })); } };');
    await ended();
    await run('export default { async fetch(request, env) { return Response.json(await env.AI.run("@cf/a?b/%2e%2e#c", { prompt: "Hi" })); } };');
    await ended();
    assert.deepEqual(asked.filter((path) => path.startsWith("/client/") && path.includes("/run/")), ["/client/v4/accounts/local/ai/run/@cf/meta/llama-3.1-8b-instruct", "/client/v4/accounts/local/ai/run/@cf/a%3Fb/%252e%252e%23c"]);
    assert.ok(!asked.includes("/local/tokenize"));
  });

  const WITH_WORK = `export default {
  fetch(request, env, ctx) {
    const later = async () => {
      await new Promise((resolve) => setTimeout(resolve, 200));
      const { response } = await env.AI.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi" });
      console.log("later:", response);
      ctx.waitUntil(Promise.reject("more work"));
    };
    ctx.waitUntil(later());
    return new Response("at once");
  },
};`;

  it("has the work that it passes to waitUntil done after its response, with its lines on the console", async () => {
    await run(WITH_WORK);
    await ended();
    assert.match(await page.innerText("#worker-response"), /^200[^]*at once/);
    assert.deepEqual(await page.locator("#worker-response .log span").allTextContents(), ["later: An answer.\n", "waitUntil: more work\n"]);
    assert.doesNotMatch(await page.innerText("#worker-response"), /Waiting/);
    assert.equal(page.frames().length, 1);
  });

  it("whose work has no end is ended after 30 seconds, or when it is stopped", async () => {
    const ENDLESS = "export default { fetch(request, env, ctx) { ctx.waitUntil(new Promise(() => {})); return new Response('at once'); } };";
    const waiting = () => page.waitForFunction(() => /Waiting for what was passed to waitUntil/.test(document.querySelector("#worker-response").textContent));
    await page.clock.install();
    await run(ENDLESS);
    await waiting();
    await page.click("#worker-stop");
    await ended();
    assert.match(await page.innerText("#worker-response"), /^200[^]*at once[^]*Stopped\.$/);
    await run(ENDLESS);
    await waiting();
    await page.clock.fastForward(29_000);
    assert.ok(await page.locator("#worker-stop").isVisible());
    await page.clock.fastForward(1_000);
    await ended();
    assert.match(await page.innerText("#worker-response"), /What was passed to waitUntil was ended after 30 s, as at Cloudflare\./);
    assert.equal(page.frames().length, 1);
  });

  it("is taken along with the model's path as a shell reads it", async () => {
    assert.ok((await page.textContent("#worker-take-text")).includes(`npx workers-ai-local dev --gguf '/home/a/My Models/it'\\''s.gguf'`));
  });
});

describe("the sandbox", () => {
  it("takes nothing from a page of another server that frames it", async () => {
    const other = await listening(createHttpServer((request, response) => response.writeHead(200, { "content-type": "text/html" }).end("<!doctype html><title>Other</title>")));
    try {
      await page.goto(other.url);
      const said = await page.evaluate(
        async ([sandbox, ms]) => {
          const said = [];
          addEventListener("message", ({ data }) => said.push(data));
          const frame = document.createElement("iframe");
          frame.src = sandbox;
          const loaded = new Promise((resolve) => (frame.onload = resolve));
          document.body.append(frame);
          await loaded;
          frame.contentWindow.postMessage({ parse: "x =" }, "*");
          await new Promise((resolve) => setTimeout(resolve, ms));
          return said;
        },
        [`${server.url}/sandbox.html`, WHILE_MS],
      );
      assert.deepEqual(said.filter(({ ready }) => !ready), []);
    } finally {
      await other.close();
    }
  });
});

describe("the conversation", () => {
  it("offers nothing that asks while no model is loaded", async () => {
    await open();
    await ask("Hi");
    await answered();
    const buttons = () => page.locator(".turn").getByRole("button", { name: /^(Edit|Regenerate)$/ });
    assert.equal(await buttons().count(), 2);
    const release = await hold("**/local/status");
    await page.reload();
    await page.waitForSelector(".turn[data-role=assistant]");
    assert.equal(await buttons().count(), 0);
    release();
    await ready();
    assert.equal(await buttons().count(), 2);
  });

  it("goes on after an answer whose JSON cannot be checked", async () => {
    await open();
    await page.route("**/vendor/json-schema.js", (route) => route.fulfill({ status: 404 }));
    await page.getByRole("button", { name: /Fill a JSON schema/ }).click();
    await answered();
    assert.match(await page.textContent(".verdict"), /^Valid JSON that cannot be checked against the schema: /);
    assert.ok(await page.locator("#stop").isHidden());
  });

  it("keeps what an answer has said when another conversation is opened", async () => {
    await open();
    await ask("Speak slowly");
    await page.waitForFunction(() => /word3/.test(document.querySelector("#conversation").textContent));
    await page.click("#new");
    await answered();
    await page.waitForTimeout(WHILE_MS);
    await page.reload();
    await ready();
    await page.getByRole("button", { name: "Speak slowly", exact: true }).click();
    assert.match(await page.textContent(".turn[data-role=assistant]"), /word3.*stopped/s);
  });
});

describe("the start", () => {
  it("says that the server answers something else, and begins again on request", async () => {
    await page.route("**/local/status", (route) => route.fulfill({ status: 200, contentType: "application/json", body: "<p>" }), { times: 1 });
    await page.goto(server.url);
    await page.waitForSelector("#engine[data-state=failed]");
    assert.match(await page.textContent("#engine-status"), /^The server of this page does not say what it computes with: /);
    await page.click("#retry");
    await ready();
    assert.deepEqual(problems, []);
  });

  it("of a model in the browser that is given up loads nothing", async () => {
    await open();
    const release = await hold("**/pkg/wasm/builds.js");
    const workers = [];
    page.on("worker", (worker) => workers.push(worker.url()));
    await page.click("#open-models");
    await page.getByRole("radio", { name: /This browser/ }).check();
    await page.click("#open-models");
    await page.getByRole("radio", { name: /The server of this page/ }).check();
    await ready();
    release();
    await page.waitForTimeout(WHILE_MS);
    assert.deepEqual(workers, []);
    assert.match(await page.textContent("#model-place"), /^server/);
  });
});

describe("the speed of an answer", () => {
  const speed = (...times) => {
    let now = 0;
    const watch = new Stopwatch(() => now);
    for (now of times) watch.piece();
    return watch.tokensPerSecond();
  };

  it("is known from its second token on, unless it came at once", () => {
    assert.equal(speed(900), null);
    assert.equal(speed(900, 910, 949), null);
    assert.equal(speed(900, 950, 1000), 20);
  });
});
