// Models in the playground: files that are opened and dropped, good and bad; names on a hub; what the browser has stored. In a real Chromium.

import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtemp, rm, truncate, writeFile } from "node:fs/promises";
import { connect, createServer } from "node:net";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, beforeEach, afterEach, describe, it } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { string } from "../gguf-fixtures.mjs";
import { TOKEN, startHub } from "../hub-server.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { launch, openPage } from "./chromium.mjs";

const LOAD_LIMIT_MS = 60_000;
const modelSaying = (text) => scriptedModel({ script: [text] }).bytes;

let folder;
let server;
let hub;
let browser;
let page;
let problems;

before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-playground-"));
  await writeFile(path.join(folder, "of-server.gguf"), modelSaying("server"));
  server = await startPlayground({ modelPath: path.join(folder, "of-server.gguf") });
  hub = await startHub({
    "maker/tiny-GGUF": { files: { "tiny-Q4_0.gguf": modelSaying("named"), "tiny-Q8_0.gguf": modelSaying("eight") } },
    "maker/gated-GGUF": { gated: true, files: { "gated-Q4_0.gguf": modelSaying("gated") } },
  });
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await server?.close();
  await hub?.close();
  await rm(folder, { recursive: true, force: true });
});

async function open(url = server.url) {
  ({ page, problems } = await openPage(browser));
  page.setDefaultTimeout(LOAD_LIMIT_MS);
  await page.goto(url);
  await loaded("of-server.gguf");
}

const status = () => page.textContent("#engine-status");
const loaded = async (name) => {
  await page.waitForFunction((name) => document.querySelector("#engine").dataset.state === "ready" && document.querySelector("#model-name").textContent === name, name);
};
const failed = async () => {
  await page.waitForSelector("#engine[data-state=failed]");
  return status();
};
/** A file in the folder, with this content. */
async function fileOf(name, bytes) {
  const file = path.join(folder, name);
  await writeFile(file, bytes);
  return file;
}
/** What the model answers. */
async function answer() {
  await page.fill("#prompt", "Hi");
  await page.press("#prompt", "Enter");
  await page.waitForSelector("#send:enabled");
  return page.locator(".turn .text").last().textContent();
}
async function useHub() {
  if (!(await page.evaluate(() => document.querySelector("#hub-fields").open))) await page.click("#hub-fields summary");
  await page.fill("#hub-endpoint", hub.url);
}
async function choose(name) {
  await page.click("#open-models");
  await useHub();
  await page.fill("#source", name);
  await page.press("#source", "Enter");
}

describe("a file", () => {
  beforeEach(() => open());
  afterEach(() => page.close());

  it("that is opened answers", async () => {
    await page.setInputFiles("#file", await fileOf("opened.gguf", modelSaying("opened")));
    await loaded("opened.gguf");
    assert.equal(await answer(), "opened");
    assert.deepEqual(problems, []);
  });

  it("that is dropped answers", async () => {
    const text = Buffer.from(modelSaying("dropped")).toString("base64");
    const dropped = await page.evaluateHandle((text) => {
      const transfer = new DataTransfer();
      transfer.items.add(new File([Uint8Array.from(atob(text), (each) => each.charCodeAt(0))], "dropped.gguf"));
      return transfer;
    }, text);
    await page.dispatchEvent("body", "dragover", { dataTransfer: dropped });
    assert.ok(await page.locator("#drop").isVisible());
    await page.dispatchEvent("body", "drop", { dataTransfer: dropped });
    assert.ok(await page.locator("#drop").isHidden());
    await loaded("dropped.gguf");
    assert.equal(await answer(), "dropped");
  });

});

describe("a file, after another one on the same page,", () => {
  before(() => open());
  after(() => page.close());

  const REFUSED = {
    "that is empty": ["empty.gguf", "", /^empty\.gguf is empty\. Download it again\.$/],
    "that is a page": ["page.gguf", "<!doctype html>", /^page\.gguf is not a GGUF file: its content is something else\. Download it again, /],
    "of another kind": ["notes.txt", "Notes", /^notes\.txt is not a GGUF file\. Choose one whose name ends in \.gguf\.$/],
  };
  for (const [what, [name, content, message]] of Object.entries(REFUSED)) {
    it(`${what} is refused beside the field, and the model before stays`, async () => {
      await page.setInputFiles("#file", await fileOf(name, content));
      await page.waitForSelector("#source-error:not([hidden])");
      assert.match(await page.textContent("#source-error"), message);
      await page.keyboard.press("Escape");
      assert.equal(await page.textContent("#model-name"), "of-server.gguf");
    });
  }

  it("that was refused leaves the model before, which answers", async () => {
    await loaded("of-server.gguf");
    assert.equal(await answer(), "server");
  });

  it("that is too large is refused beside the field", async () => {
    const file = await fileOf("huge.gguf", modelSaying("huge"));
    await truncate(file, 17 * 2 ** 30);
    await page.setInputFiles("#file", file);
    await page.waitForSelector("#source-error:not([hidden])");
    assert.match(await page.textContent("#source-error"), /^huge\.gguf is too large: 18 GB, and a page has at most 17 GB for a model\. Choose a smaller one/);
    await page.keyboard.press("Escape");
    await rm(file);
  });

  const whole = modelSaying("broken");
  const BROKEN = {
    "that is cut off": [whole.subarray(0, whole.length / 2), /^broken\.gguf cannot be loaded\. broken\.gguf is cut off: .* Get the file again\.$/],
    "with nonsense in its header": [whole.map((byte, at) => (at >= 32 && at < 64 ? 0xff : byte)), /^broken\.gguf cannot be loaded\. broken\.gguf cannot be used as a model: .* Download it again, or choose another file\.$/],
    "of an unknown architecture": [
      scriptedModel({ metadata: { "general.architecture": string("mamba") } }).bytes,
      /^broken\.gguf cannot be loaded\. broken\.gguf has the architecture 'mamba', which is not supported\. Use a GGUF of one of these: llama, /,
    ],
  };
  for (const [what, [bytes, message]] of Object.entries(BROKEN)) {
    it(`${what} is an error, after which another one loads`, async () => {
      await page.setInputFiles("#file", await fileOf("broken.gguf", bytes));
      assert.match(await failed(), message);
      assert.ok(await page.locator("#send").isDisabled());
      await page.click("#other-model");
      await page.setInputFiles("#file", await fileOf("better.gguf", modelSaying("better")));
      await loaded("better.gguf");
      assert.equal(await answer(), "better");
    });
  }
});

describe("a name", () => {
  beforeEach(() => open());
  afterEach(() => page.close());

  it("on the hub loads its file, is stored, is loaded again after a reload without the hub, and can be deleted", async () => {
    await choose("hf:maker/tiny-GGUF");
    await loaded("hf:maker/tiny-GGUF");
    assert.equal(await answer(), "named");
    await page.click("#open-code");
    assert.match(await page.textContent("#code-run"), /npx workers-ai-local dev --gguf hf:maker\/tiny-GGUF/);
    await page.keyboard.press("Escape");

    const asked = hub.asked.filter(({ to }) => to === "cdn").length;
    await page.reload();
    await loaded("hf:maker/tiny-GGUF");
    assert.equal(hub.asked.filter(({ to }) => to === "cdn").length, asked, "the file came from the browser");
    await page.click("#open-models");
    const row = page.locator("#stored li", { hasText: "hf:maker/tiny-GGUF" });
    assert.match(await row.locator("small").textContent(), /^\d+ kB · last used /);
    await row.getByRole("button", { name: "Delete hf:maker/tiny-GGUF" }).click();
    await row.waitFor({ state: "detached" });
    assert.ok(!(await page.evaluate(async () => (await (await import("/pkg/browser.js")).Ai.models.list()).map(({ name }) => name))).includes("hf:maker/tiny-GGUF"));
    assert.deepEqual(problems, []);
  });

  it("with a quantisation, and the address of a file", async () => {
    await choose("hf:maker/tiny-GGUF:Q8_0");
    await loaded("hf:maker/tiny-GGUF:Q8_0");
    assert.equal(await answer(), "eight");
    await choose(`${hub.url}/maker/tiny-GGUF/resolve/main/tiny-Q4_0.gguf`);
    await loaded("tiny-Q4_0.gguf");
    assert.equal(await answer(), "named");
  });

  it("of a gated model asks for a token, and loads with it", async () => {
    await choose("hf:maker/gated-GGUF");
    assert.match(await failed(), /HTTP 401.* under “Hub” in the dialog “Model”/);
    await page.click("#other-model");
    await page.fill("#hub-token", TOKEN);
    await page.fill("#source", "hf:maker/gated-GGUF");
    await page.press("#source", "Enter");
    await loaded("hf:maker/gated-GGUF");
    assert.equal(await answer(), "gated");
    assert.deepEqual(hub.asked.filter(({ to, headers }) => to === "cdn" && headers.authorization), [], "the token went to the hub only");
    assert.ok(!JSON.stringify(await page.evaluate(() => ({ ...localStorage, ...sessionStorage }))).includes(TOKEN));
  });

  const WRONG = {
    "hf:maker/tiny-GGUF:Q2_K": /maker\/tiny-GGUF has no Q2_K: .*Q4_0/,
    "hf:maker/missing-GGUF": /maker\/missing-GGUF does not exist, or is private or gated/,
    "http://127.0.0.1:1/model.gguf": /Failed to fetch\. Check the connection and try again\. The server must also allow pages of other origins/,
  };
  for (const [name, message] of Object.entries(WRONG)) {
    it(`that is wrong is an error with what to do: ${name}`, async () => {
      await choose(name);
      assert.match(await failed(), message);
      await page.reload();
      await loaded("of-server.gguf");
    });
  }

});

describe("a name, after another one on the same page,", () => {
  before(() => open());
  after(() => page.close());

  for (const [name, message] of Object.entries({ "": /^Enter a name or an address/, lama: /^There is no short name “lama”\. Choose one of the list/, "hf:maker": /is not the name of a model\. Write hf:owner\/repo/ })) {
    it(`that is none is refused beside the field: ${JSON.stringify(name)}`, async () => {
      await choose(name);
      await page.waitForSelector("#source-error:not([hidden])");
      assert.match(await page.textContent("#source-error"), message);
      assert.equal(await page.evaluate(() => document.activeElement.id), "source");
      await page.keyboard.press("Escape");
    });
  }

  it("of the list has a size and a licence, and loads by itself", async () => {
    await page.click("#open-models");
    const row = page.locator("#curated li", { hasText: "llama-3.2-1b" });
    assert.match(await row.locator("small").textContent(), /^1\.2B · about 810 MB · 131,072 tokens · Llama 3\.2/);
    await useHub();
    await row.getByRole("button", { name: "Load llama-3.2-1b" }).click();
    // This hub does not have it.
    assert.match(await failed(), /^llama-3\.2-1b cannot be loaded\. .*bartowski\/Llama-3\.2-1B-Instruct-GGUF/);
  });
});

describe("the page's own address", () => {
  // `startPlayground` listens on IPv4 only.
  let gate;
  let url;
  before(async () => {
    gate = createServer((socket) => {
      const { hostname, port } = new URL(server.url);
      socket.pipe(connect(port, hostname)).on("error", () => socket.destroy()).pipe(socket).on("error", () => {});
    });
    await once(gate.listen(0, "::1"), "listening");
    url = `http://[::1]:${gate.address().port}`;
    await open(url);
  });
  after(async () => {
    await page?.close();
    gate.close();
  });

  it("with IPv6 is one from which a model is loaded, and loaded again from the list", async () => {
    const address = `${url}/models/of-server.gguf`;
    for (const load of [() => choose(address), () => page.click("#open-models").then(() => page.locator("#stored").getByRole("button", { name: `Load ${address}` }).click())]) {
      await page.evaluate(() => (document.querySelector("#engine-status").textContent = ""));
      await load();
      await page.waitForFunction(() => /^Ready: of-server\.gguf/.test(document.querySelector("#engine-status").textContent));
    }
    assert.equal(await answer(), "server");
  });

  it("is not another one of that machine, which the page's policy forbids", async () => {
    await choose("http://[::1]:1/model.gguf");
    await page.waitForSelector("#source-error:not([hidden])");
    assert.equal(await page.textContent("#source-error"), "Only https addresses can be loaded, and those of this machine.");
  });
});
