// A context that alone takes more than 4 GiB, on the CPU in Node 24: what llama.cpp finds most likely after it follows.

import assert from "node:assert/strict";
import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { ensureNode24 } from "../../scripts/setup/node24.mjs";
import { LARGE_CONTEXT, bytesFrom, largeModel } from "../large-model.mjs";
import { mostLikelyOf, openLlamaCpp } from "../models/llama-cpp.mjs";
import { inOneProcess } from "./one-process.mjs";

/** Tokens: five pages of the KV cache, 4.7 GB. */
const TOKENS = 1100;

let folder;
let llamaCpp;
before(async () => {
  folder = await mkdtemp(join(tmpdir(), "workers-ai-local-context-"));
  llamaCpp = await openLlamaCpp();
});
after(async () => {
  await llamaCpp?.close();
  await rm(folder, { recursive: true, force: true });
});

/** Runs in Node 24. */
async function answer(Ai, { file, prose, count }) {
  const ai = new Ai({ backend: "cpu", default: file, onWarning() {} });
  const model = "@cf/meta/llama-3.1-8b-instruct";
  const tokensOf = async (prompt) => (await ai.tokenize(model, { prompt, raw: true })).tokens;
  let words = prose.split(" ");
  while ((await tokensOf(words.join(" "))).length > count) words = words.slice(0, Math.floor(words.length * 0.99));
  const prompt = words.join(" ");
  const { response } = await ai.run(model, { prompt, raw: true, temperature: 0, max_tokens: 1 });
  return { response, tokens: await tokensOf(prompt), stats: await ai.stats() };
}

test("a context of more than 4 GiB", async (t) => {
  const model = await largeModel(LARGE_CONTEXT);
  const bytes = Buffer.concat([...bytesFrom(model, 0)]);
  const file = join(folder, "large-context.gguf");
  await writeFile(file, bytes);
  const prose = await readFile(new URL("../fixtures/prose.txt", import.meta.url), "utf8");
  const started = Date.now();
  const outcome = await inOneProcess(answer, { argument: { file, prose: prose.repeat(4), count: TOKENS }, node: await ensureNode24(), limit: 1_200_000 });
  const { response, tokens, stats } = outcome;
  t.diagnostic(`${tokens.length} tokens in ${((Date.now() - started) / 1000).toFixed(0)} s, ${(stats.wide.memoryBytes / 1e9).toFixed(2)} GB of memory`);
  assert.ok(tokens.length > TOKENS * 0.95, `${tokens.length} tokens`);
  assert.ok(stats.wide.memoryBytes - bytes.length > 2 ** 32, `${stats.wide.memoryBytes} bytes of memory`);
  assert.match(stats.models[0].build, /^wasm64/);

  const [{ best, logs }] = await mostLikelyOf(llamaCpp, bytes, tokens, tokens.length - 1, 8);
  const place = best.findIndex((token) => model.tokens[token].replaceAll("Ġ", " ").replaceAll("Ċ", "\n") === response);
  assert.ok(place >= 0, `${JSON.stringify(response)} is none of llama.cpp's ${best.map((token) => model.tokens[token])}`);
  assert.ok(logs[0] - logs[place] < 0.02, `${JSON.stringify(response)} is ${logs[0] - logs[place]} less likely than llama.cpp's first`);
});
