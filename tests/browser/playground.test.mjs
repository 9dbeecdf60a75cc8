// The playground page in a real Chromium with the real model: what a user sees and does.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { eventData } from "../../pkg/sse.js";
import { startPlayground } from "../../scripts/playground.mjs";
import { ensureModel } from "../../scripts/setup/model.mjs";
import { CHATML, USER_DEFINED, scriptedFile } from "../scripted-model.mjs";
import { launch, openPage } from "./chromium.mjs";

/** Long enough that its prefill takes some time. */
const PROMPT =
  "Here is a list of what we need for the trip to the mountains in autumn: warm clothes, good shoes, a map, water, bread, " +
  "cheese, apples, a lamp, matches, a rope, a tent and sleeping bags. Write a long story about that trip.";

/** A machine with one busy core computes only a few tokens per second. */
const LOAD_LIMIT_MS = 60_000;
const ANSWER_LIMIT_MS = 120_000;

/**
 * Limits for the page's event loop while the engine computes. An engine in the page's thread would miss both by far:
 * it would use nearly all of the time, and prefill would be one long gap. The margin allows for other processes.
 */
const LONGEST_GAP_MS = 400;
const TICKS_AT_LEAST = 0.6;
const TICK_MS = 20;

let server;
let browser;

before(async () => {
  server = await startPlayground({ modelPath: await ensureModel() });
  browser = await launch();
});

after(async () => {
  await browser?.close();
  await server?.close();
});

describe("the playground", () => {
  let page;
  let problems;
  let firstAnswer;

  before(async () => {
    ({ page, problems } = await openPage(browser));
    page.setDefaultTimeout(ANSWER_LIMIT_MS);
    await page.goto(server.url);
  });
  after(() => page?.close());

  it("loads the model in a Web Worker, with progress, and shows the model and the backend", async () => {
    await page.waitForFunction(() => /^\d+ of 98 MB · \d+ %$/.test(document.querySelector("#progress-text").textContent));
    await page.waitForSelector("#engine[data-state=ready]", { timeout: LOAD_LIMIT_MS });
    const status = await page.textContent("#engine-status");
    assert.match(status, /^Ready: [^/ ]+, computed on the (CPU|GPU \(WebGPU\))\. Loaded in \d+\.\d s\.$/);
    assert.equal(page.workers().filter((worker) => worker.url().endsWith("/browser-worker.js")).length, 1);
    assert.ok(await page.locator("#loading").isHidden());
    const groups = await page.locator("#model optgroup").evaluateAll((groups) => groups.map(({ label, children }) => [label, [...children].map(({ value, text }) => [value, text])]));
    const [, llamas] = groups.find(([label]) => label === "@cf/meta/");
    assert.ok(llamas.some(([value, text]) => value === "@cf/meta/llama-3.1-8b-instruct" && text === "llama-3.1-8b-instruct"));
    for (const [label, models] of groups) for (const [value, text] of models) assert.equal(value, label + text);
    assert.match(await page.textContent("#model-note"), /^@cf\/huggingface\/smollm2-135m-instruct: The small model /);
    await page.selectOption("#model", "@cf/google/gemma-3-12b-it");
    assert.match(await page.textContent("#model-note"), /^@cf\/google\/gemma-3-12b-it: Google Gemma 3 12B/);
  });

  it("streams an answer while the page stays responsive", async () => {
    await set({ temperature: 0, max_tokens: 40 });
    const watching = watch(page);
    // The probe must be in place before the engine has work.
    await watching.started;
    await page.fill("#prompt", PROMPT);
    await page.press("#prompt", "Control+Enter");
    assert.equal(await page.inputValue("#prompt"), "");
    await answered();
    const seen = await watching.stop();

    // The text grew piece by piece over time, and each text continues the one before.
    assert.ok(seen.texts.length >= 20, `${seen.texts.length} pieces`);
    for (const [index, { text }] of seen.texts.entries()) {
      assert.ok(index === 0 || text.startsWith(seen.texts[index - 1].text), text);
    }
    const streamed = seen.texts.at(-1).at - seen.texts[0].at;
    assert.ok(streamed > 50, `all of the text arrived within ${streamed} ms`);

    const share = seen.ticks / (seen.elapsed / TICK_MS);
    const what = `${seen.ticks} ticks of ${TICK_MS} ms and ${seen.frames} frames in ${seen.elapsed.toFixed()} ms, longest gap ${seen.longest.toFixed()} ms`;
    assert.ok(seen.longest < LONGEST_GAP_MS, what);
    assert.ok(share > TICKS_AT_LEAST, what);
    assert.ok(seen.frames > 10, what);

    firstAnswer = await lastText();
    assert.equal(firstAnswer, seen.texts.at(-1).text);
  });

  it("shows tokens per second, the time to the first token and the token counts", async () => {
    const facts = await lastFacts();
    assert.match(facts, /^\d+\.\d tokens\/s · 40 tokens · first token after \d+\.\d\d s · prompt \d+ tokens · cut off at max_tokens$/);
    const speed = Number.parseFloat(facts);
    assert.ok(speed > 0.5 && speed < 1000, facts);
  });

  it("answers a second turn, with the first turn cached", async () => {
    await set({ max_tokens: 8 });
    await page.fill("#prompt", "Who came along?");
    await page.click("#send");
    await answered();
    assert.equal(await page.locator(".turn").count(), 4);
    assert.notEqual(await lastText(), "");
    const [, prompt, cached] = /prompt (\d+) tokens, (\d+) of them cached/.exec(await lastFacts()) ?? [];
    // All but the new turn is cached, and the first prompt alone is most of the conversation.
    assert.ok(Number(cached) > Number(prompt) / 2, await lastFacts());
  });

  it("starts a new conversation, in which the same prompt produces the same text, and stops on request", async () => {
    await page.click("#new");
    assert.equal(await page.locator(".turn").count(), 0);
    // Without a stop, this answer would have 2000 tokens or more.
    await set({ max_tokens: 2000 });
    await page.fill("#prompt", PROMPT);
    await page.click("#send");
    await page.waitForFunction(() => [...document.querySelectorAll(".text")].at(-1).textContent.length > 20);
    const clicked = Date.now();
    await page.click("#stop");
    await answered();
    assert.ok(Date.now() - clicked < 5000, `stopped after ${Date.now() - clicked} ms`);
    const text = await lastText();
    assert.match(await lastFacts(), /^about \d+ tokens.* · stopped$/);
    const shared = Math.min(text.length, firstAnswer.length);
    assert.equal(text.slice(0, shared), firstAnswer.slice(0, shared));
    await page.waitForTimeout(500);
    assert.equal(await lastText(), text);
  });

  it("continues the conversation after a stop, from the cached prefix", async () => {
    await set({ max_tokens: 4 });
    await page.fill("#prompt", "Thank you.");
    await page.click("#send");
    await answered();
    assert.equal(await page.locator(".turn").count(), 4);
    assert.match(await lastFacts(), /tokens\/s · \d tokens .* of them cached/);
  });

  it("focuses an invalid setting, and sends nothing", async () => {
    await page.evaluate(() => (document.querySelector("#settings").open = false));
    await set({ top_k: 99 });
    await page.fill("#prompt", "Hello");
    await page.click("#send");
    assert.equal(await page.evaluate(() => document.activeElement.id), "top_k");
    assert.equal(await page.locator(".turn").count(), 4);
    await set({ top_k: "" });
  });

  it("shows an error of the engine as text, and restores the prompt", async () => {
    // Exceeds any context window.
    await set({ max_tokens: 1_000_000 });
    await page.fill("#prompt", "Hello");
    await page.click("#send");
    await answered();
    assert.match(await page.locator(".turn .error").last().textContent(), /^The answer failed\. 5021: /);
    assert.equal(await page.inputValue("#prompt"), "Hello");
  });

  it("has logged no errors on the console", () => assert.deepEqual(problems, []));

  /** Sets form fields by id, even while the settings are collapsed. */
  const set = (values) =>
    page.evaluate((values) => {
      for (const [id, value] of Object.entries(values)) document.getElementById(id).value = value;
    }, values);
  const answered = () => page.waitForSelector("#send:enabled");
  const lastText = () => page.locator(".turn .text").last().textContent();
  const lastFacts = () => page.locator(".turn .facts").last().textContent();
});

describe("the playground with a model that thinks", () => {
  let thinker;
  let file;
  before(async () => {
    file = await scriptedFile({
      template: `${CHATML}{% if enable_thinking is false %}<think></think>{% endif %}`,
      script: ["<think>", "I", " wonder", ".", "</think>", "Hello", "!"],
      tokens: ["<think>", "</think>"].map((text) => ({ text, kind: USER_DEFINED })),
    });
    thinker = await startPlayground({ modelPath: file.path });
  });
  after(async () => {
    await thinker?.close();
    await file?.remove();
  });

  it("shows the thoughts apart from the text, with ids of either shape", async () => {
    const { page, problems } = await openPage(browser);
    await page.goto(thinker.url);
    await page.waitForSelector("#engine[data-state=ready]", { timeout: LOAD_LIMIT_MS });
    for (const [turns, id] of [[2, "@cf/meta/llama-3.1-8b-instruct"], [4, "@cf/zai-org/glm-5.3"]]) {
      await page.selectOption("#model", id);
      await page.fill("#prompt", "Hi");
      await page.click("#send");
      await page.waitForFunction((turns) => document.querySelectorAll(".turn").length === turns && !document.querySelector("#send").disabled, turns);
      const turn = page.locator(".turn").last();
      assert.equal(await turn.locator(".text").textContent(), "Hello!", id);
      assert.equal(await turn.locator(".thought summary").textContent(), "Thoughts");
      assert.equal(await turn.locator(".thought p").textContent(), "I wonder.");
      assert.match(await turn.locator(".facts").textContent(), / · 7 tokens, \d of them thoughts · /);
    }
    assert.deepEqual(problems, []);
    await page.close();
  });
});

describe("the playground without the compiled package", () => {
  for (const missing of ["**/pkg/wasm/**", "**/pkg/**"]) {
    it(`shows a one-line message: no ${missing}`, async () => {
      const { page } = await openPage(browser);
      await page.route(missing, (route) => route.fulfill({ status: 404 }));
      await page.goto(server.url);
      await page.waitForSelector("#engine[data-state=failed]");
      assert.equal(
        await page.textContent("#engine-status"),
        "The model cannot be loaded. The package is not built: run `npm run build`, then reload this page.",
      );
      assert.ok(await page.locator("#send").isDisabled());
      await page.close();
    });
  }
});

describe("server-sent events", () => {
  const events = async (bytes, size) => {
    const chunks = [];
    for (let at = 0; at < bytes.length; at += size) chunks.push(bytes.subarray(at, at + size));
    return Array.fromAsync(eventData(ReadableStream.from(chunks)));
  };

  it("are read completely, wherever chunks end", async () => {
    for (const end of ["\n", "\r\n", "\r"]) {
      const text = ['data: {"response":"中 👋🏽"}', "", ": a comment", "data:two", "data:  lines", "id: 7", "", "data: [DONE]", "", "data: incomplete"];
      // A "\r" at the end of a chunk is known to be a whole line ending only when more bytes follow, as they do here.
      const bytes = new TextEncoder().encode(text.join(end));
      for (let size = 1; size <= bytes.length; size += 1) {
        assert.deepEqual(await events(bytes, size), ['{"response":"中 👋🏽"}', "two\n lines", "[DONE]"], `${JSON.stringify(end)}, ${size}`);
      }
    }
  });

  it("cancel the stream when the reader stops early", async () => {
    let cancelled = false;
    const stream = new ReadableStream({
      pull: (controller) => controller.enqueue(new TextEncoder().encode("data: 1\n\n")),
      cancel: () => void (cancelled = true),
    });
    for await (const data of eventData(stream)) {
      assert.equal(data, "1");
      break;
    }
    assert.ok(cancelled);
  });
});

/** Records, inside the page, its event loop, its frames and the text of the conversation's first answer; `stop` returns the record. */
function watch(page) {
  const started = page.evaluate((tickMs) => {
    const seen = { ticks: 0, frames: 0, longest: 0, texts: [] };
    const begin = performance.now();
    let last = begin;
    const tick = () => {
      const now = performance.now();
      seen.longest = Math.max(seen.longest, now - last);
      last = now;
    };
    const timer = setInterval(() => {
      tick();
      seen.ticks += 1;
    }, tickMs);
    let running = true;
    const frame = () => {
      seen.frames += 1;
      if (running) requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
    const observer = new MutationObserver(() => {
      const text = document.querySelector(".turn[data-role=assistant] .text")?.textContent;
      if (text && text !== seen.texts.at(-1)?.text) seen.texts.push({ text, at: performance.now() });
    });
    observer.observe(document.querySelector("#conversation"), { childList: true, characterData: true, subtree: true });
    window.stopWatching = () => {
      // Count the gap that is still open too.
      tick();
      running = false;
      clearInterval(timer);
      observer.disconnect();
      return { ...seen, elapsed: performance.now() - begin };
    };
  }, TICK_MS);
  return { started, stop: () => page.evaluate(() => window.stopWatching()) };
}
