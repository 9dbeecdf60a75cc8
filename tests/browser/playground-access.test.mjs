// The playground for everybody: axe-core finds nothing serious in any of its states, in both themes and on a phone; nothing is wider than the screen;
// all of it works by keyboard. The answers are a script's, so that the states are always the same.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { createServer } from "../../pkg/cli/serve.js";
import { localApi, statusOf } from "../../pkg/cli/local-api.js";
import { Ai } from "../../pkg/node.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { launch, openPage } from "./chromium.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const SIZES = { "1280 × 800": { width: 1280, height: 800 }, "390 × 844": { width: 390, height: 844 } };
const THEMES = ["light", "dark"];

const MARKDOWN = "# Title\n\nA **bold** word, `code`, a [link](https://example.com) and ![a picture](https://example.com/a.png).\n\n```js\n// A comment\nconst a = \"text\" + 1;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\n- [x] done\n\n<img src=x onerror=alert(1)><script>alert(2)</script>\n\n[bad](javascript:alert(3))";
const SCRIPT = [
  { input: /Markdown/, text: MARKDOWN.match(/[\s\S]{1,7}/g) },
  { input: { messages: [{}, {}, { role: "tool" }] }, text: "It is 21 °C." },
  { input: /weather/, reasoning: "I have a tool.", calls: [{ name: "get_weather", arguments: { city: "Paris" } }] },
  { input: /person/, json: { name: "Ada", age: 41, hobbies: ["chess"] } },
  { input: /slowly/, text: Array.from({ length: 200 }, (_, index) => `word${index} `), delay: 20 },
  { input: /fails/, error: 5021 },
  { text: "An answer." },
];

let ai;
let server;
let browser;
before(async () => {
  ai = new Ai({ script: SCRIPT, onWarning() {} });
  const health = { status: "ok", model: "model.gguf", backend: "cpu" };
  const known = { ...health, source: "", id: "@cf/meta/llama-3.1-8b-instruct", ids: {}, weights: "", hub: {}, context: 8192 };
  server = await listening(createServer(ai, { health: () => health, local: localApi({ tokenize: async () => ({ tokens: [1, 2, 3, 4], pieces: ["<|im_start|>", "user", "\n", "Hi"], text: "<|im_start|>user\nHi" }) }, () => statusOf({ stats: async () => ({ build: "threads", threads: 2, memoryBytes: 1e8, models: [] }), backendReason: "A reason." }, known, null)) }));
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  await ai?.close();
});

async function open(options) {
  const opened = await openPage(browser, options);
  opened.page.setDefaultTimeout(20_000);
  await opened.page.goto(server.url);
  await opened.page.waitForSelector("#engine[data-state=ready]", { state: "attached" });
  return opened;
}
async function ask(page, prompt) {
  await page.fill("#prompt", prompt);
  await page.press("#prompt", "Enter");
  await page.waitForSelector("#send:enabled");
}

/** What is done to come to each state from a fresh page. */
const STATES = {
  "the first screen": async () => {},
  "an answer with everything of Markdown": (page) => ask(page, "Markdown"),
  "an answer that failed": (page) => ask(page, "This fails"),
  "a call of a tool": async (page) => {
    await page.getByRole("button", { name: /Call a tool/ }).click();
    await page.waitForSelector(".calls textarea");
    await page.click(".thought summary");
  },
  "JSON of a schema": async (page) => {
    await page.getByRole("button", { name: /Fill a JSON schema/ }).click();
    await page.waitForSelector(".verdict");
  },
  "the code": (page) => page.click("#open-code"),
  "the tokens": (page) => page.click("#tokens"),
  "the dialog of models, with an error": async (page) => {
    await page.click("#open-models");
    await page.click("#hub-fields summary");
    await page.fill("#source", "none");
    await page.press("#source", "Enter");
    await page.waitForSelector("#source-error:not([hidden])");
  },
  "the settings, with a tool that is made": async (page) => {
    if ((await page.getAttribute("#show-settings", "aria-expanded")) === "false") await page.click("#show-settings");
    await page.selectOption("#format", "json_schema");
    await page.click("#tools-section summary");
    await page.click("#tool-add");
    await page.fill("#tool-parameters", "{");
    await page.click("#tool-save");
  },
  "the list of conversations": async (page) => {
    await ask(page, "Hi");
    if ((await page.getAttribute("#show-conversations", "aria-expanded")) === "false") await page.click("#show-conversations");
    await page.locator("#conversation-list").getByRole("button", { name: /^Rename/ }).click();
  },
  "the Worker's response": async (page) => {
    await page.click("#tab-worker");
    await page.selectOption("#worker-example", { label: "A stream" });
    await page.click("#worker-send");
    await page.waitForFunction(() => /complete after/.test(document.querySelector("#worker-response").textContent));
    await page.click("#worker-take summary");
  },
  "the Worker's error": async (page) => {
    await page.click("#tab-worker");
    await page.selectOption("#worker-method", "POST");
    await page.fill("#worker-editor textarea", "export default {\n fetch() { x; } };");
    await page.click("#worker-send");
    await page.waitForSelector("#worker-response .error");
  },
};

for (const [size, viewport] of Object.entries(SIZES)) {
  describe(`axe-core, on ${size}`, () => {
    for (const [state, reach] of Object.entries(STATES)) {
      it(`finds nothing serious in ${state}`, async () => {
        const { page } = await open({ viewport });
        await reach(page);
        await page.evaluate(AXE);
        for (const colorScheme of THEMES) {
          await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
          const violations = await page.evaluate(async () => (await globalThis.axe.run()).violations.map(({ id, impact, nodes }) => ({ id, impact, where: nodes.map(({ target }) => target.join(" ")) })));
          assert.deepEqual(violations.filter(({ impact }) => impact === "serious" || impact === "critical"), [], colorScheme);
          const [wanted, given] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          assert.ok(wanted <= given, `${wanted} > ${given}`);
        }
        await page.close();
      });
    }
  });
}

describe("what a model writes", () => {
  it("is shown as Markdown, and never becomes a script, an image or a link that runs", async () => {
    const { page, problems } = await open();
    let dialogs = 0;
    page.on("dialog", (dialog) => ((dialogs += 1), dialog.dismiss()));
    const asked = [];
    page.on("request", (request) => asked.push(new URL(request.url()).origin));
    await ask(page, "Markdown");
    const answer = page.locator(".turn:last-child .markdown");
    assert.equal(await answer.locator("img, script").count(), 0);
    assert.deepEqual(await answer.locator("a").evaluateAll((links) => links.map(({ href, rel, target }) => [href, rel, target])), [
      ["https://example.com/", "noopener noreferrer", "_blank"],
      ["https://example.com/a.png", "noopener noreferrer", "_blank"],
      ["", "noopener noreferrer", "_blank"],
    ]);
    assert.match(await answer.textContent(), /<img src=x onerror=alert\(1\)><script>alert\(2\)<\/script>/);
    assert.equal(await answer.locator(".hljs-comment").textContent(), "// A comment");
    assert.equal(await answer.locator("table td").first().textContent(), "1");
    assert.deepEqual([dialogs, [...new Set(asked)], problems], [0, [server.url], []]);
    await page.close();
  });

  it("keeps the elements of blocks that do not change while the answer grows", async () => {
    const { page } = await open();
    await page.evaluate(() => {
      globalThis.removed = 0;
      new MutationObserver((records) => {
        for (const { removedNodes } of records) for (const node of removedNodes) if (node.textContent.startsWith("Title")) globalThis.removed += 1;
      }).observe(document.querySelector("#conversation"), { childList: true, subtree: true });
    });
    await ask(page, "Markdown");
    // It is made anew while it grows itself, and then no more: the answer has some forty more pieces.
    assert.ok((await page.evaluate(() => globalThis.removed)) <= 3);
    await page.close();
  });

  it("is copied by a button: the code alone", async () => {
    const { page } = await open({ permissions: ["clipboard-read", "clipboard-write"] });
    await ask(page, "Markdown");
    await page.locator(".turn:last-child .code-block").getByRole("button", { name: "Copy the code" }).click();
    assert.equal(await page.evaluate(() => navigator.clipboard.readText()), '// A comment\nconst a = "text" + 1;');
    await page.close();
  });
});

describe("by keyboard alone", () => {
  /** Presses Tab until the element with this name has the focus; fails if the focus comes around without it. */
  async function tabTo(page, wanted) {
    for (let presses = 0; presses < 120; presses += 1) {
      const found = await page.evaluate((wanted) => document.activeElement?.matches(wanted), wanted);
      if (found) return;
      await page.keyboard.press("Tab");
    }
    assert.fail(`Tab does not reach ${wanted}`);
  }

  it("asks, stops, continues with the next question and starts anew", async () => {
    const { page } = await open();
    await tabTo(page, "#prompt");
    await page.keyboard.type("Speak slowly");
    await page.keyboard.press("Shift+Enter");
    await page.keyboard.type("please");
    assert.equal(await page.inputValue("#prompt"), "Speak slowly\nplease");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => /word3/.test(document.querySelector("#conversation").textContent));
    await page.keyboard.press("Escape");
    await page.waitForSelector("#send:enabled");
    assert.match(await page.locator(".facts").last().textContent(), /stopped$/);
    assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
    await tabTo(page, "#new");
    await page.keyboard.press("Enter");
    assert.equal(await page.locator(".turn").count(), 0);
    await page.close();
  });

  it("changes tabs by the arrows, and opens and closes each dialog with the focus where it was", async () => {
    const { page } = await open();
    await tabTo(page, "#tab-chat");
    await page.keyboard.press("ArrowRight");
    assert.ok(await page.locator("#worker").isVisible());
    await page.keyboard.press("ArrowLeft");
    assert.ok(await page.locator("#chat").isVisible());
    for (const [button, dialog] of Object.entries({ "#open-models": "#models", "#open-code": "#code", "#tokens": "#token-view" })) {
      await tabTo(page, button);
      await page.keyboard.press("Enter");
      assert.ok(await page.locator(dialog).isVisible(), dialog);
      await page.keyboard.press("Escape");
      assert.ok(await page.locator(dialog).isHidden(), dialog);
      assert.ok(await page.evaluate((button) => document.activeElement.matches(button), button), button);
    }
    await page.close();
  });

  it("opens a drawer on a phone, keeps the focus out of it while it is closed, and closes it by Esc", async () => {
    const { page } = await open({ viewport: SIZES["390 × 844"] });
    assert.equal(await page.evaluate(() => document.querySelector("#settings-panel").inert), true);
    await tabTo(page, "#show-settings");
    await page.keyboard.press("Enter");
    assert.ok(await page.locator("#settings-panel").isVisible());
    await tabTo(page, "#temperature");
    await page.keyboard.press("Escape");
    assert.ok(await page.locator("#settings-panel").isHidden());
    assert.equal(await page.evaluate(() => document.activeElement.id), "show-settings");
    await page.close();
  });

  it("answers a call", async () => {
    const { page } = await open();
    await tabTo(page, ".example:last-child");
    await page.keyboard.press("Enter");
    await page.waitForSelector(".calls textarea");
    await tabTo(page, ".calls textarea");
    await page.keyboard.type("21");
    await tabTo(page, ".calls [type=submit]");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => /It is 21/.test(document.querySelector("#conversation").textContent));
    await page.close();
  });
});
