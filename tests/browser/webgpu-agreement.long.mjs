// Compares the next tokens of the GPU and CPU backends over the same prose. Decoding is forced: each prompt is a prefix of the story, so a
// difference in one token does not affect the next.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { it } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { SOFTWARE_GPU, launch } from "./chromium.mjs";

/** The number of next tokens to compare; each prompt is one word longer than the one before. */
const COUNT = 200;
/** The number of words before the first compared token. */
const FIRST = 8;

it(`the GPU's likeliest token of the real model equals the CPU's at 98 % or more of ${COUNT} positions in a story`, async (test) => {
  const story = await readFile(new URL("../fixtures/story.txt", import.meta.url), "utf8");
  // Prompts end at word ends, where following text cannot change the tokens, so each prompt begins with the tokens of the one before.
  const ends = [...story.matchAll(/\S+/g)].map(({ 0: word, index }) => index + word.length).slice(FIRST, FIRST + COUNT);
  assert.equal(ends.length, COUNT);
  const files = await startPlayground({ modelPath: MODEL_PATH });
  const browser = await launch({ args: SOFTWARE_GPU });
  try {
    const pages = await Promise.all(["webgpu", "cpu"].map((backend) => openAi(browser, files.url, { backend })));
    const nextTokens = ({ page }) =>
      inPage(
        page,
        async (ai, prompts) => {
          const found = [];
          for (const prompt of prompts) {
            const { response, finish_reason, usage } = await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt, raw: true, temperature: 0, max_tokens: 1 });
            found.push({ text: response, finish: finish_reason, computed: usage.prompt_tokens - usage.prompt_tokens_details.cached_tokens });
          }
          return { found, backend: ai.backend };
        },
        ends.map((end) => story.slice(0, end)),
      );
    const [gpu, cpu] = await Promise.all(pages.map(nextTokens));
    assert.deepEqual([gpu.error, cpu.error, gpu.backend, cpu.backend], [undefined, undefined, "webgpu", "cpu"]);
    const computed = gpu.found.slice(1).map(({ computed }) => computed);
    assert.ok(Math.max(...computed) < 10, "cached prefixes were reused");
    assert.ok(new Set(cpu.found.map(({ text }) => text)).size > COUNT / 5, "the answers vary between positions");
    const different = ends.flatMap((end, index) => {
      const [a, b] = [gpu.found[index], cpu.found[index]];
      const same = a.text === b.text && a.finish === b.finish;
      return same ? [] : [`${JSON.stringify(story.slice(end - 20, end))}: ${JSON.stringify(a.text)}, ${JSON.stringify(b.text)} on the CPU`];
    });
    test.diagnostic(`${COUNT - different.length} of ${COUNT} agree`);
    for (const difference of different) test.diagnostic(difference);
    assert.ok(different.length <= 0.02 * COUNT, different.join("\n"));
  } finally {
    await browser.close();
    await files.close();
  }
});
