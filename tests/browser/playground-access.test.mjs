// The playground for everybody: axe-core finds nothing serious in any of its states, in both themes and on screens of four sizes; nothing is wider than the screen;
// all of it works by keyboard. The answers are a script's, so that the states are always the same.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createRequire } from "node:module";
import { after, before, describe, it } from "node:test";
import { launch, openPage } from "./chromium.mjs";
import { STATES, ask, isReady, reset, startHost, startScripted } from "./scripted-playground.mjs";

const AXE = await readFile(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const BOTH = ["light", "dark"];
const SIZES = {
  "1280 × 800": { width: 1280, height: 800, themes: BOTH },
  "390 × 844": { width: 390, height: 844, themes: BOTH },
  "768 × 1024": { width: 768, height: 1024, themes: ["light"] },
  "1920 × 1080": { width: 1920, height: 1080, themes: ["dark"] },
};
/** The rules whose result depends on the theme. */
const OF_COLOURS = ["color-contrast", "link-in-text-block"];

let server;
let browser;
before(async () => {
  server = await startScripted();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
});

async function open(options) {
  const opened = await openPage(browser, options);
  opened.page.setDefaultTimeout(20_000);
  await opened.page.goto(server.url);
  await isReady(opened.page);
  return opened;
}

/** What axe-core finds, of the rules that count; of all of them without `rules`. */
async function violations(page, rules) {
  const found = await page.evaluate(async (rules) => {
    const options = { resultTypes: ["violations"], ...(rules && { runOnly: { type: "rule", values: rules } }) };
    return (await globalThis.axe.run(options)).violations.map(({ id, impact, nodes }) => ({ id, impact, where: nodes.map(({ target }) => target.join(" ")) }));
  }, rules);
  return found.filter(({ impact }) => impact === "serious" || impact === "critical");
}

describe("axe-core", () => {
  let host;
  before(async () => (host = await startHost()));
  after(() => host?.close());

  for (const [size, { themes, ...viewport }] of Object.entries(SIZES)) {
    describe(`on ${size}`, () => {
      // One page for all states: a load takes longer than to look at it.
      let page;
      before(async () => {
        ({ page } = await open({ viewport, reducedMotion: "reduce" }));
        await page.evaluate(AXE);
      });
      after(() => page?.close());

      for (const [state, reach] of Object.entries(STATES)) {
        it(`finds nothing serious in ${state}`, async () => {
          await reset(page);
          await reach(page, host.url);
          for (const [index, colorScheme] of themes.entries()) {
            await page.emulateMedia({ colorScheme });
            assert.deepEqual(await violations(page, index > 0 ? OF_COLOURS : undefined), [], colorScheme);
          }
          const [wanted, given] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
          assert.ok(wanted <= given, `${wanted} > ${given}`);
        });
      }
    });
  }
});

describe("a warning of the engine", () => {
  it("says what to do on this page, once, and is closed by a button", async () => {
    const host = await startHost();
    const { page } = await open();
    await STATES["a model for which there is no room"](page, host.url);
    const warnings = page.locator("#warnings p");
    assert.deepEqual(await warnings.allTextContents(), [
      `${host.url}/whole.gguf is not kept in this browser (there is no more room), so it will be downloaded again at the next load. Free space on the disk, or remove what is no longer needed: see “Stored in this browser” in the dialog “Model”.`,
    ]);
    await page.getByRole("button", { name: "Close this warning" }).click();
    assert.ok(await warnings.isHidden());
    assert.equal(await page.evaluate(() => document.activeElement.id), "prompt");
    await page.close();
    await host.close();
  });
});

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
    const { page } = await open({ viewport: { width: 390, height: 844 } });
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
