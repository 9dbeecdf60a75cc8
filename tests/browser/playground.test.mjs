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
 * Limits for the page's event loop while the engine computes, as shares of the time of the answer: other processes make all of it slower. An engine in
 * the page's thread would miss them by far: it would use nearly all of the time, and prefill would be one long gap.
 */
const LONGEST_GAP = 0.25;
const TICKS_AT_LEAST = 0.5;
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
    await page.waitForFunction(() => /^\d+ of 98 MB · \d+ %/.test(document.querySelector("#progress-text").textContent));
    await page.waitForSelector("#engine[data-state=ready]", { state: "attached", timeout: LOAD_LIMIT_MS });
    const status = await page.textContent("#engine-status");
    assert.match(status, /^Ready: [^/ ]+, computed on the (CPU|GPU \(WebGPU\))\. Loaded in \d+\.\d s\.$/);
    assert.equal(page.workers().filter((worker) => worker.url().endsWith("/browser-worker.js")).length, 1);
    assert.ok(await page.locator("#loading").isHidden());
    const groups = await page.locator("#model optgroup").evaluateAll((groups) => groups.map(({ label, children }) => [label, [...children].map(({ value, text }) => [value, text])]));
    const [, llamas] = groups.find(([label]) => label === "@cf/meta/");
    assert.ok(llamas.some(([value, text]) => value === "@cf/meta/llama-3.1-8b-instruct" && text === "llama-3.1-8b-instruct"));
    for (const [label, models] of groups) for (const [value, text] of models) assert.equal(value, label + text);
    assert.match(await page.textContent("#model-note"), /^@cf\/meta\/llama-3\.1-8b-instruct: /);
    await page.selectOption("#model", "@cf/google/gemma-3-12b-it");
    assert.match(await page.textContent("#model-note"), /^@cf\/google\/gemma-3-12b-it: Google Gemma 3 12B.* Here \S+\.gguf answers for it\.$/);
    assert.match(await page.textContent("#model-name"), /^[^/ ]+\.gguf$/);
  });

  it("says what computes, and why", async () => {
    const facts = await page.locator("#facts-list dt").evaluateAll((names) => Object.fromEntries(names.map((name) => [name.textContent, name.nextElementSibling.textContent])));
    assert.equal(facts.Where, "this browser");
    assert.equal(facts.Backend, "CPU");
    assert.match(facts.Why, /WebGPU|GPU/);
    assert.match(facts.Build, /^(simd128|relaxed|threads|relaxed-threads)$/);
    assert.match(facts.Threads, /^\d+/);
    assert.equal(facts.Context, "8,192 tokens");
  });

  it("streams an answer while the page stays responsive", async () => {
    await set({ temperature: 0, max_tokens: 40 });
    const watching = watch(page);
    // The probe must be in place before the engine has work.
    await watching.started;
    await page.fill("#prompt", PROMPT);
    await page.press("#prompt", "Enter");
    assert.equal(await page.inputValue("#prompt"), "");
    await answered();
    const seen = await watching.stop();
    firstAnswer = await lastText();

    // The text grew piece by piece over time, and each text continues the one before: it is shown once a frame, as Markdown, whose signs come and go.
    assert.ok(seen.texts.length >= 10, `${seen.texts.length} pieces`);
    const letters = (text) => text.replace(/[^\p{L}]/gu, "");
    for (const [index, { text }] of seen.texts.entries()) {
      assert.ok(index === 0 || letters(text).startsWith(letters(seen.texts[index - 1].text)), text);
    }
    const streamed = seen.texts.at(-1).at - seen.texts[0].at;
    assert.ok(streamed > 50, `all of the text arrived within ${streamed} ms`);

    const share = seen.ticks / (seen.elapsed / TICK_MS);
    const what = `${seen.ticks} ticks of ${TICK_MS} ms and ${seen.frames} frames in ${seen.elapsed.toFixed()} ms, longest gap ${seen.longest.toFixed()} ms`;
    assert.ok(seen.longest < LONGEST_GAP * seen.elapsed, what);
    assert.ok(share > TICKS_AT_LEAST, what);
    assert.ok(seen.frames > 10, what);

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
    const shared = Math.min(text.length, firstAnswer.length) - 1;
    assert.equal(text.slice(0, shared), firstAnswer.slice(0, shared));
    await page.waitForTimeout(500);
    assert.equal(await lastText(), text);
  });

  it("continues the stopped answer where it ends", async () => {
    const before = await lastText();
    await set({ max_tokens: 12 });
    await page.locator(".turn").last().getByRole("button", { name: "Continue" }).click();
    await answered();
    const text = await lastText();
    assert.ok(text.length > before.length && text.startsWith(before.trimEnd().slice(0, -1)), text);
    assert.equal(await page.locator(".turn").count(), 2);
    // The same as in one go: the first answer had more tokens than the stopped one.
    const shared = Math.min(text.length, firstAnswer.length) - 1;
    assert.equal(text.slice(0, shared), firstAnswer.slice(0, shared));
    assert.match(await lastFacts(), / of them cached/);
  });

  it("asks again: another seed gives another answer in place of the first", async () => {
    await set({ max_tokens: 12, temperature: 1, seed: 5 });
    const before = await lastText();
    await page.locator(".turn").last().getByRole("button", { name: "Regenerate" }).click();
    await answered();
    assert.equal(await page.locator(".turn").count(), 2);
    assert.notEqual(await lastText(), before);
    await set({ temperature: 0, seed: "" });
  });

  it("edits a prompt, and answers the new one", async () => {
    await page.locator(".turn").first().hover();
    await page.locator(".turn").first().getByRole("button", { name: "Edit" }).click();
    await page.fill(".edit textarea", "Write a story about a lamp.");
    await page.press(".edit textarea", "Enter");
    await answered();
    assert.equal(await page.locator(".turn").count(), 2);
    assert.equal(await page.locator(".turn .text").first().textContent(), "Write a story about a lamp.");
    assert.notEqual(await lastText(), "");
  });

  it("goes on with the conversation, from the cached prefix", async () => {
    await set({ max_tokens: 4 });
    await page.fill("#prompt", "Thank you.");
    await page.click("#send");
    await answered();
    assert.equal(await page.locator(".turn").count(), 4);
    assert.match(await lastFacts(), /^(\d+\.\d tokens\/s · )?\d tokens .* of them cached/);
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
    assert.match(await page.locator(".turn .error").last().textContent(), /^The answer failed\. 5021: .*\. Lower max_tokens, or begin a new conversation\.$/);
    assert.equal(await page.inputValue("#prompt"), "Hello");
    await page.fill("#prompt", "");
  });

  it("shows how much of the context window is used", async () => {
    const [, used] = /^([\d,]+) of 8,192 tokens$/.exec(await page.textContent("#context-text")) ?? [];
    assert.ok(Number(used) > 40, used);
  });

  it("keeps the conversation over a reload, renames it and deletes it", async () => {
    const before = await page.locator("#conversation .text").allTextContents();
    await page.reload();
    await page.waitForSelector("#engine[data-state=ready]", { state: "attached", timeout: LOAD_LIMIT_MS });
    assert.deepEqual(await page.locator("#conversation .text").allTextContents(), before);
    assert.equal(await page.inputValue("#max_tokens"), "1000000");
    assert.equal(await page.locator("#conversation-list li").count(), 2);
    const current = page.locator("#conversation-list li:has([aria-current])");
    await current.getByRole("button", { name: /^Rename/ }).click();
    await page.keyboard.type("A lamp");
    await page.keyboard.press("Enter");
    assert.equal(await current.locator(".title").textContent(), "A lamp");
    await current.getByRole("button", { name: "Delete A lamp" }).click();
    await page.waitForFunction(() => document.querySelectorAll("#conversation-list li").length === 1);
    assert.equal(await page.locator(".turn").count(), 0);
    assert.ok(await page.locator("#empty").isVisible());
  });

  it("answers JSON of a schema, and says that it fits", async () => {
    await set({ max_tokens: 120, temperature: 0 });
    await page.getByRole("button", { name: /Fill a JSON schema/ }).click();
    await answered();
    assert.equal(await page.textContent(".turn:last-child .verdict"), "Valid: it fits the schema");
    const { name, age, hobbies } = JSON.parse(await page.textContent(".turn:last-child pre"));
    assert.equal(typeof name, "string");
    assert.ok(Number.isInteger(age) && Array.isArray(hobbies));
    // Too few tokens for the whole object.
    await set({ max_tokens: 4 });
    await page.fill("#prompt", "Another one.");
    await page.press("#prompt", "Enter");
    await answered();
    assert.match(await page.textContent(".turn:last-child .error"), /5024: .* Raise max_tokens/);
    await page.fill("#schema", "{");
    assert.match(await page.textContent("#schema-error"), /^This is not JSON yet: /);
    await page.fill("#prompt", "Hi");
    await page.press("#prompt", "Enter");
    assert.equal(await page.evaluate(() => document.activeElement.id), "schema");
    await page.click("#reset");
    await page.click("#new");
  });

  it("shows a call of a tool, and goes on with the user's answer", async () => {
    await set({ max_tokens: 40, temperature: 0 });
    await page.getByRole("button", { name: /Call a tool/ }).click();
    await answered();
    const card = page.locator(".turn:last-child .calls");
    assert.equal(await card.locator(".call-name code").first().textContent(), "get_weather");
    assert.equal(typeof JSON.parse(await card.locator("pre").textContent()).city, "string");
    await card.locator("textarea").fill('{"celsius": 21}');
    await card.getByRole("button", { name: "Answer, and let the model go on" }).click();
    await answered();
    // The question, the call with its answer, what the model makes of it.
    assert.equal(await page.locator(".turn").count(), 3);
    assert.equal(await page.locator(".turn:nth-child(2) .calls textarea").count(), 0);
    assert.match(await page.textContent(".turn:nth-child(2) .calls"), /Your answer.*"celsius": 21/s);
    // A small model may call again. It has read the answer in any case: most of the prompt is the first one's.
    assert.match(await lastFacts(), / · prompt \d+ tokens, \d+ of them cached/);
  });

  it("refuses a tool whose parameters are no JSON, beside them", async () => {
    await page.click("#tool-add");
    await page.fill("#tool-name", "other");
    await page.fill("#tool-parameters", "{");
    await page.click("#tool-save");
    assert.match(await page.textContent("#tool-error"), /^The parameters are not JSON: /);
    await page.fill("#tool-parameters", "{}");
    await page.click("#tool-save");
    assert.equal(await page.textContent("#tool-count"), "2");
    for (const name of ["other", "get_weather"]) await page.getByRole("button", { name: `Remove ${name}` }).click();
    await page.click("#new");
  });

  it("continues a raw prompt, and shows the tokens that the model reads", async () => {
    await set({ max_tokens: 6, temperature: 0 });
    await page.fill("#prompt", "1, 2, 3, 4, 5, 6,");
    await page.click("#tokens");
    await page.waitForFunction(() => /^\d+ tokens/.test(document.querySelector("#token-count").textContent));
    assert.match(await page.textContent("#token-text"), /<\|im_start\|>user\n1, 2, 3, 4, 5, 6,<\|im_end\|>\n<\|im_start\|>assistant\n$/);
    assert.deepEqual([...new Set(await page.locator("#token-text mark").allTextContents())], ["<|im_start|>", "<|im_end|>"]);
    await page.keyboard.press("Escape");
    await page.check("#raw");
    await page.click("#tokens");
    await page.waitForFunction(() => /^\d+ tokens/.test(document.querySelector("#token-count").textContent));
    assert.equal(await page.textContent("#token-text"), "1, 2, 3, 4, 5, 6,");
    assert.equal((await page.textContent("#token-ids")).split(" ").length, Number.parseInt(await page.textContent("#token-count"), 10));
    await page.keyboard.press("Escape");
    await page.press("#prompt", "Enter");
    await answered();
    assert.match(await lastText(), /^\s*7, 8/);
    await page.click("#reset");
  });

  it("has logged no errors on the console", () => assert.deepEqual(problems, []));

  /** Sets form fields by id, even while the settings are collapsed. */
  const set = (values) =>
    page.evaluate((values) => {
      for (const [id, value] of Object.entries(values)) {
        const field = document.getElementById(id);
        field.value = value;
        field.dispatchEvent(new Event("input"));
      }
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
    await page.waitForSelector("#engine[data-state=ready]", { state: "attached", timeout: LOAD_LIMIT_MS });
    for (const [turns, id] of [[2, "@cf/meta/llama-3.1-8b-instruct"], [4, "@cf/zai-org/glm-5.3"]]) {
      await page.selectOption("#model", id);
      await page.fill("#prompt", "Hi");
      await page.click("#send");
      await page.waitForFunction((turns) => document.querySelectorAll(".turn").length === turns && !document.querySelector("#send").disabled, turns);
      const turn = page.locator(".turn").last();
      assert.equal(await turn.locator(".text").textContent(), "Hello!", id);
      assert.equal(await turn.locator(".thought summary").textContent(), "Thoughts");
      assert.equal(await turn.locator(".thought p").textContent(), "I wonder.");
      assert.match(await turn.locator(".facts").textContent(), /(^| · )7 tokens, \d of them thoughts · /);
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
