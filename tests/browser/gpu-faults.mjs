// Chromium's software adapter, patched in the engine's worker to be too small, unavailable, wrong or full, for the tests of GPUs that cannot be used.
// The model is a scripted one: its text is known, and it loads in milliseconds.

import assert from "node:assert/strict";
import { after, before } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { scriptedFile } from "../scripted-model.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { SOFTWARE_GPU, launch } from "./chromium.mjs";

export const MODEL = "@cf/meta/llama-3.1-8b-instruct";
/** Enough tokens that a second request comes while they are streamed. */
export const WORDS = Array.from({ length: 400 }, (_, index) => ` ${index}`);
export const COUNTING = { prompt: "Count,", raw: true, temperature: 0, max_tokens: 6 };
export const COUNTED = WORDS.slice(0, 6).join("");

let model;
let files;
let browser;
before(async () => {
  model = await scriptedFile({ script: WORDS, after: "," });
  files = await startPlayground({ modelPath: model.path });
  browser = await launch({ args: SOFTWARE_GPU });
});
after(async () => {
  await browser?.close();
  await files?.close();
  await model?.remove();
});

/** A page whose engine's worker was patched before it looked for a GPU. */
export async function openPatched(config, ...patches) {
  const { page, problems } = await openAi(browser, files.url, config);
  const started = page.waitForEvent("worker");
  await inPage(page, async (ai) => ai.models({}));
  const worker = await started;
  for (const patch of patches) await worker.evaluate(patch);
  return { page, worker, problems };
}

export const run = (page, input) => inPage(page, async (ai, [model, input]) => ai.run(model, input), [MODEL, input]);

/** Makes "auto" use the software adapter. */
export function looksReal() {
  Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });
}

/** With "auto" the CPU computes the right text, and the reason says why. */
export async function cpuComputes(page, why) {
  const { response, error } = await run(page, COUNTING);
  assert.equal(error, undefined);
  assert.equal(response, COUNTED);
  const [backend, reason] = await page.evaluate(() => [ai.backend, ai.backendReason]);
  assert.equal(backend, "cpu");
  assert.match(reason, why);
}

/** Where the GPU is required, the error has one of these codes, says why, and what to do. */
export async function endsInError(page, codes, why) {
  const { error } = await run(page, COUNTING);
  const [, code, text] = /^AiError: (\d+): (.*) Set backend: "cpu" to compute on the CPU\.$/.exec(error) ?? [];
  assert.match(text ?? error, why);
  assert.ok(codes.includes(code), error);
}

/**
 * Limits GPU memory to `globalThis.room` bytes. Beyond that WebGPU behaves as with a real adapter: the buffer is invalid, and the innermost
 * out-of-memory error scope has an error.
 */
export function endsMemory() {
  const { createBuffer, pushErrorScope, popErrorScope } = GPUDevice.prototype;
  const { destroy } = GPUBuffer.prototype;
  globalThis.room = Infinity;
  let taken = 0;
  const sizes = new WeakMap();
  const scopes = [];
  GPUDevice.prototype.pushErrorScope = function (filter) {
    scopes.push({ filter, full: false });
    return pushErrorScope.call(this, filter);
  };
  GPUDevice.prototype.popErrorScope = async function () {
    const { full } = scopes.pop();
    const error = await popErrorScope.call(this);
    return full ? new GPUOutOfMemoryError("no room left") : error;
  };
  GPUDevice.prototype.createBuffer = function (descriptor) {
    if (taken + descriptor.size <= globalThis.room) {
      taken += descriptor.size;
      const buffer = createBuffer.call(this, descriptor);
      sizes.set(buffer, descriptor.size);
      return buffer;
    }
    const scope = scopes.findLast(({ filter }) => filter === "out-of-memory");
    if (scope) scope.full = true;
    // A buffer without a usage is invalid; its own error is of no interest.
    pushErrorScope.call(this, "validation");
    const buffer = createBuffer.call(this, { size: descriptor.size, usage: 0 });
    void popErrorScope.call(this);
    return buffer;
  };
  GPUBuffer.prototype.destroy = function () {
    taken -= sizes.get(this) ?? 0;
    sizes.delete(this);
    return destroy.call(this);
  };
  globalThis.leaveNoRoom = () => (globalThis.room = taken);
}

/** With this patch the weights do not fit: the embedding and the output, the last tensor, are most of the file's 3.6 MB. */
export const tooSmall = () => (globalThis.room = 3e6);
export const WEIGHTS_DO_NOT_FIT = /^Out of GPU memory \(.+\): the tensor 'output\.weight' needs \d\.\d MB beside \d+\.\d MB\. Use a smaller model or a shorter context\.$/;
