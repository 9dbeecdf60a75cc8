// A model of more than 4 GiB on the CPU in Node 24, with a small model beside it, for the gate and the long tests.

import assert from "node:assert/strict";
import { ensureNode24 } from "../../scripts/setup/node24.mjs";
import { startLargeModelServer } from "../large-model.mjs";
import { likeliestAfter } from "../large-model-reference.mjs";
import { MODEL_PATH } from "../real-model.mjs";
import { inOneProcess } from "./one-process.mjs";

/** Where the server cuts the first connection that reads so far, in bytes: the range request for the rest starts above 2^32. */
const CUT = 4_400_000_000;
const LARGE = "@cf/meta/llama-3.1-8b-instruct";
const SMALL = "@cf/meta/llama-3.2-1b-instruct";

/** Runs in Node 24. */
async function answers(Ai, { url, config, small, LARGE, SMALL, prompt }) {
  const progress = [];
  const ai = new Ai({ ...config, backend: "cpu", models: { [LARGE]: { url }, [SMALL]: small }, onProgress: ({ model, loaded, total }) => progress.push({ model, loaded, total }) });
  let most = 0;
  const watch = setInterval(() => (most = Math.max(most, process.memoryUsage().rss)), 200);
  const started = Date.now();
  await ai.load(LARGE);
  const seconds = (Date.now() - started) / 1000;
  const input = { prompt, raw: true, temperature: 0 };
  const large = await ai.run(LARGE, { ...input, max_tokens: 1 });
  const [four, beside] = await Promise.all([
    ai.run(LARGE, { ...input, max_tokens: 4 }),
    ai.run(SMALL, { prompt: "The capital of France is", raw: true, temperature: 0, max_tokens: 4 }),
  ]);
  clearInterval(watch);
  const steps = progress.filter(({ model }) => model === LARGE);
  return { large, four, beside, seconds, most, last: steps.at(-1), steps: steps.length, stats: await ai.stats() };
}

/**
 * Checks how a large model loads, answers and leaves 32 bits to a small model.
 *
 * @param {import("node:test").TestContext} t
 * @param {object} model from `large-model.mjs`
 * @param {object} options
 * @param {string[]} options.prompt two tokens of its vocabulary
 * @param {object} [options.config] of the `Ai`
 */
export async function checkLargeModel(t, model, { prompt, config }) {
  const server = await startLargeModelServer(model, { cut: CUT });
  t.after(() => server.close());
  const outcome = await inOneProcess(answers, {
    argument: { url: `${server.url}/large.gguf`, config, small: MODEL_PATH, LARGE, SMALL, prompt: prompt.join("").replaceAll("Ġ", " ") },
    node: await ensureNode24(),
    limit: 900_000,
  });
  const { stats } = outcome;
  t.diagnostic(`${stats.wide.build}: ${(model.size / 1e6 / outcome.seconds).toFixed(0)} MB/s, at most ${(outcome.most / model.size).toFixed(3)} × the file resident`);
  assert.deepEqual([outcome.last.loaded, outcome.last.total], [model.size, model.size]);
  assert.ok(outcome.steps > 100, `${outcome.steps} reports of progress`);
  const buildOf = (isLarge) => stats.models.find(({ name }) => name.endsWith("large.gguf") === isLarge).build;
  assert.match(buildOf(true), /^wasm64/);
  assert.doesNotMatch(buildOf(false), /^wasm64/);
  assert.ok(stats.wide.memoryBytes > model.size && stats.wide.memoryBytes < 1.1 * model.size, `${stats.wide.memoryBytes} bytes`);
  // With the small model, and Node itself.
  assert.ok(outcome.most < 1.1 * model.size + 0.4e9, `${outcome.most} bytes resident`);
  // The header is read by both engines; the weights are read once, and from where the connection was cut.
  assert.deepEqual(server.ranges.slice(0, 2), [undefined, undefined]);
  assert.equal(server.ranges.length, 3);
  assert.ok(server.ranges[2] > 2 ** 32 && server.ranges[2] <= CUT, `from ${server.ranges[2]} on`);

  const likeliest = likeliestAfter(model, prompt);
  assert.equal(outcome.large.usage.prompt_tokens, prompt.length);
  assert.equal(outcome.large.response, likeliest);
  assert.ok(outcome.four.response.startsWith(likeliest), outcome.four.response);
  assert.equal(outcome.four.usage.completion_tokens, 4);
  assert.match(outcome.beside.response, /^ Paris/);
}
