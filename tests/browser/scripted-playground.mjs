// The playground of a server whose answers are a script's, and the states of the page that are looked at: by axe-core, and in pictures.

import { createServer as createHttpServer } from "node:http";
import { localApi, statusOf } from "../../pkg/cli/local-api.js";
import { createServer } from "../../pkg/cli/serve.js";
import { Ai } from "../../pkg/node.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const MARKDOWN = "# Title\n\nA **bold** word, `code`, a [link](https://example.com) and ![a picture](https://example.com/a.png).\n\n```js\n// A comment\nconst a = \"text\" + 1;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n> quoted\n\n- [x] done\n\n<img src=x onerror=alert(1)><script>alert(2)</script>\n\n[bad](javascript:alert(3))";
/** By a word of the prompt. */
const SCRIPT = [
  { input: /Markdown/, text: MARKDOWN.match(/[\s\S]{1,7}/g) },
  { input: { messages: [{}, {}, { role: "tool" }] }, text: "It is 21 °C." },
  { input: /weather/, reasoning: "I have a tool.", calls: [{ name: "get_weather", arguments: { city: "Paris" } }] },
  { input: /person/, json: { name: "Ada", age: 41, hobbies: ["chess"] } },
  { input: /slowly/, text: Array.from({ length: 200 }, (_, index) => `word${index} `), delay: 20 },
  { input: /fails/, error: 5021 },
  { text: "An answer." },
];
const TOKENS = { tokens: [1, 2, 3, 4], pieces: ["<|im_start|>", "user", "\n", "Hi"], text: "<|im_start|>user\nHi" };
const FACTS = { stats: async () => ({ build: "threads", threads: 2, memoryBytes: 1e8, models: [] }), backendReason: "A reason." };

/**
 * @param {object} [options]
 * @param {string} [options.source] what the server says its model is
 */
export async function startScripted({ source = "" } = {}) {
  const ai = new Ai({ script: SCRIPT, onWarning() {} });
  const health = { status: "ok", model: "model.gguf", backend: "cpu" };
  const models = { "*": { file: health.model, source, context: 8192 } };
  const known = { ...health, source, id: "@cf/meta/llama-3.1-8b-instruct", models, weights: "", hub: {}, context: 8192 };
  const server = await listening(createServer(ai, { health: () => health, local: localApi({ tokenize: async () => TOKENS }, () => statusOf(FACTS, known, null)) }));
  return {
    url: server.url,
    async close() {
      await server.close();
      await ai.close();
    },
  };
}

/** A host of models: one that is complete, one that stops in its middle, and none at any other address. */
export function startHost() {
  const { bytes } = scriptedModel();
  return listening(
    createHttpServer(({ url }, response) => {
      const isModel = url === "/whole.gguf" || url === "/slow.gguf";
      const cors = { "access-control-allow-origin": "*", "access-control-expose-headers": "*" };
      response.writeHead(isModel ? 200 : 404, { ...cors, ...(isModel && { "content-length": bytes.length, etag: '"1"' }) });
      if (url === "/slow.gguf") response.write(bytes.subarray(0, bytes.length / 2));
      else response.end(isModel ? bytes : undefined);
    }),
  );
}

export const isReady = (page) => page.waitForSelector("#engine[data-state=ready]", { state: "attached" });

export async function ask(page, prompt) {
  await page.fill("#prompt", prompt);
  await page.press("#prompt", "Enter");
  await page.waitForSelector("#send:enabled");
}

async function load(page, source) {
  await page.click("#open-models");
  await page.fill("#source", source);
  await page.press("#source", "Enter");
}

/** Opens a drawer that may be open. */
async function openDrawer(page, toggle) {
  if ((await page.getAttribute(toggle, "aria-expanded")) === "false") await page.click(toggle);
}

/** Lets a page's origin store so many bytes until the session that is returned is detached. */
async function setQuota(page, bytes) {
  const session = await page.context().newCDPSession(page);
  await session.send("Storage.overrideQuotaForOrigin", { origin: new URL(page.url()).origin, quotaSize: bytes });
  return session;
}

/** What is done to come to each state from the first screen. `host` is the address of `startHost`. @type {Record<string, (page: any, host: string) => Promise<any>>} */
export const STATES = {
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
  "the tokens": async (page) => {
    await page.click("#tokens");
    await page.waitForSelector("#token-text > *");
  },
  "the dialog of models, with an error": async (page) => {
    await page.click("#open-models");
    await page.click("#hub-fields summary");
    await page.fill("#source", "none");
    await page.press("#source", "Enter");
    await page.waitForSelector("#source-error:not([hidden])");
  },
  "the settings, with a tool that is made": async (page) => {
    await openDrawer(page, "#show-settings");
    await page.selectOption("#format", "json_schema");
    await page.click("#tools-section summary");
    await page.click("#tool-add");
    await page.fill("#tool-parameters", "{");
    await page.click("#tool-save");
  },
  "the list of conversations": async (page) => {
    await ask(page, "Hi");
    await openDrawer(page, "#show-conversations");
    await page.locator("#conversation-list").getByRole("button", { name: /^Rename/ }).first().click();
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
  "a model that loads": async (page, host) => {
    await load(page, `${host}/slow.gguf`);
    await page.waitForSelector("#progress[value]");
  },
  "a model that does not load": async (page, host) => {
    await load(page, `${host}/missing.gguf`);
    await page.waitForSelector("#engine[data-state=failed]");
  },
  "a model for which there is no room": async (page, host) => {
    const quota = await setQuota(page, 100_000);
    await load(page, `${host}/whole.gguf`);
    await page.waitForSelector("#warnings p");
    await isReady(page);
    await quota.detach();
  },
};

/** Goes back to the first screen, whatever the state, without a reload. */
export async function reset(page) {
  await page.evaluate(() => {
    const click = (/** @type {string} */ selector) => document.querySelectorAll(selector).forEach((each) => /** @type {HTMLElement} */ (each).click());
    for (const dialog of /** @type {NodeListOf<HTMLDialogElement>} */ (document.querySelectorAll("dialog[open]"))) dialog.close();
    click("#tab-chat, #new, #tool-cancel, #tool-list [aria-label^=Remove], #reset, .drawer[data-over][data-open] .close");
    for (const details of /** @type {NodeListOf<HTMLDetailsElement>} */ (document.querySelectorAll("#tools-section, #worker-take, #hub-fields"))) details.open = false;
    for (const field of /** @type {NodeListOf<HTMLInputElement>} */ (document.querySelectorAll("#prompt, #source"))) field.value = "";
  });
  if ((await page.textContent("#model-place")).startsWith("server")) return;
  await page.click("#open-models");
  await page.getByRole("radio", { name: /The server of this page/ }).check();
  await isReady(page);
}
