// A file of 1 GB in a browser's storage, on disk: read again without a network, in bounded memory; and removed.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, it } from "node:test";
import { chromium } from "playwright-core";
import { ensureBrowser } from "../../scripts/setup/browser.mjs";
import { ARGS } from "./chromium.mjs";
import { answerIn, deleteIn, listIn, paddedModel, startModelHost } from "./model-host.mjs";

const SIZE = 1e9;
const SAYS = ["Large", " and", " kept", "."];
/** Answers from the page's own cache, and keeps what it gets from the network; models are of another origin. */
const SERVICE_WORKER = `
  addEventListener("fetch", (event) => {
    if (!event.request.url.startsWith(location.origin)) return;
    const ask = async (cache) => {
      const response = await fetch(event.request);
      await cache.put(event.request, response.clone());
      return response;
    };
    event.respondWith(caches.open("page").then(async (cache) => (await cache.match(event.request)) ?? ask(cache)));
  });
  addEventListener("activate", (event) => event.waitUntil(clients.claim()));`;

let folder;
let context;
let page;
let site;
let models;
let url;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-profile-"));
  // A profile on disk: others keep everything in memory.
  context = await chromium.launchPersistentContext(folder, { executablePath: process.env.CHROMIUM_PATH || (await ensureBrowser()), args: ARGS });
  site = await startModelHost(new Map([["/service.js", SERVICE_WORKER]]));
  models = await startModelHost(new Map([["/large.gguf", paddedModel(SIZE, SAYS)]]));
  url = `${models.url}/large.gguf`;
  page = await context.newPage();
  await page.goto(`${site.url}/`);
  await page.evaluate(async () => {
    await navigator.serviceWorker.register("/service.js");
    if (!navigator.serviceWorker.controller) await new Promise((resolve) => navigator.serviceWorker.addEventListener("controllerchange", resolve, { once: true }));
  });
  await page.reload();
});
after(async () => {
  await context?.close();
  await site?.close();
  await models?.close();
  if (folder) await rm(folder, { recursive: true });
});

const answered = { response: SAYS.join(""), warnings: [] };
const usage = () => page.evaluate(async () => (await navigator.storage.estimate()).usage);

/** Runs work, and returns its result with the seconds that it took and the most memory that the page's process had meanwhile. */
async function measured(work) {
  const session = await context.browser().newBrowserCDPSession();
  let most = 0;
  const watch = setInterval(async () => {
    const { processInfo } = await session.send("SystemInfo.getProcessInfo");
    for (const { id } of processInfo.filter(({ type }) => type === "renderer")) {
      const status = await readFile(`/proc/${id}/status`, "utf8").catch(() => "");
      most = Math.max(most, 1024 * Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0));
    }
  }, 200);
  const started = Date.now();
  const result = await work();
  clearInterval(watch);
  await session.detach();
  return { result, seconds: (Date.now() - started) / 1000, most };
}

describe("a model of 1 GB", () => {
  it("is stored while it is loaded, in bounded memory", async (test) => {
    const { result, seconds, most } = await measured(() => answerIn(page, url));
    assert.deepEqual(result, answered);
    test.diagnostic(`${(SIZE / 1e6 / seconds).toFixed(0)} MB/s, at most ${(most / 1e6).toFixed(0)} MB in the page's process`);
    const [{ complete, size }] = await listIn(page);
    assert.equal(complete, true);
    assert.ok(size > SIZE);
    assert.ok((await usage()) > SIZE);
    assert.ok(most > 0 && most < 0.6 * SIZE, `${most} bytes`);
  });

  it("is read without the network the second time", async (test) => {
    const { result, seconds, most } = await measured(() => answerIn(page, url));
    assert.deepEqual(result, answered);
    test.diagnostic(`${(SIZE / 1e6 / seconds).toFixed(0)} MB/s, at most ${(most / 1e6).toFixed(0)} MB in the page's process`);
    assert.deepEqual(models.asked.filter(({ method }) => method === "GET").length, 1);
    assert.ok(most < 0.6 * SIZE, `${most} bytes`);
  });

  it("answers on a page without a network, after a new start of the page", async () => {
    await site.close();
    await models.close();
    await page.reload();
    assert.deepEqual(await answerIn(page, url), answered);
  });

  it("gives its room back when it is removed", async () => {
    assert.equal(await deleteIn(page, url), true);
    assert.deepEqual(await listIn(page), []);
    assert.ok((await usage()) < 20e6, `${await usage()} bytes are still used`);
    assert.match((await answerIn(page, url)).error, /^3008: /);
  });
});
