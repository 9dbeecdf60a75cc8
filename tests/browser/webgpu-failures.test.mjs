// GPUs that cannot be used: Chromium's software adapter, patched in the engine's worker to be too small, unavailable, wrong or full.
// The model is a scripted one: its text is known, and it loads in milliseconds.

import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { startPlayground } from "../../scripts/playground.mjs";
import { scriptedFile } from "../scripted-model.mjs";
import { inPage, openAi } from "./ai-page.mjs";
import { SOFTWARE_GPU, launch } from "./chromium.mjs";

const MODEL = "@cf/meta/llama-3.1-8b-instruct";
/** Enough tokens that a second request comes while they are streamed. */
const WORDS = Array.from({ length: 400 }, (_, index) => ` ${index}`);
const COUNTING = { prompt: "Count,", raw: true, temperature: 0, max_tokens: 6 };
const COUNTED = WORDS.slice(0, 6).join("");

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
async function openPatched(config, ...patches) {
  const { page, problems } = await openAi(browser, files.url, config);
  const started = page.waitForEvent("worker");
  await inPage(page, async (ai) => ai.models({}));
  const worker = await started;
  for (const patch of patches) await worker.evaluate(patch);
  return { page, worker, problems };
}

const run = (page, input) => inPage(page, async (ai, [model, input]) => ai.run(model, input), [MODEL, input]);

/** Makes "auto" use the software adapter. */
function looksReal() {
  Object.defineProperty(GPUAdapterInfo.prototype, "isFallbackAdapter", { get: () => false });
}

/** With "auto" the CPU computes the right text, and the reason says why. */
async function cpuComputes(page, why) {
  const { response, error } = await run(page, COUNTING);
  assert.equal(error, undefined);
  assert.equal(response, COUNTED);
  const [backend, reason] = await page.evaluate(() => [ai.backend, ai.backendReason]);
  assert.equal(backend, "cpu");
  assert.match(reason, why);
}

/** Where the GPU is required, the error has one of these codes, says why, and what to do. */
async function endsInError(page, codes, why) {
  const { error } = await run(page, COUNTING);
  const [, code, text] = /^AiError: (\d+): (.*) Set backend: "cpu" to compute on the CPU\.$/.exec(error) ?? [];
  assert.match(text ?? error, why);
  assert.ok(codes.includes(code), error);
}

describe("a GPU that cannot be used", () => {
  const cases = [
    {
      what: "an adapter with tiny limits",
      patch: () => Object.defineProperty(GPUSupportedLimits.prototype, "maxStorageBufferBindingSize", { get: () => 65536 }),
      says: /^The WebGPU adapter .+ allows 65536 bytes in a storage binding; 1048576 are needed\.$/,
    },
    {
      what: "an adapter that provides no device",
      patch: () => {
        GPUAdapter.prototype.requestDevice = () => Promise.reject(new DOMException("all devices are taken", "OperationError"));
      },
      says: /^The WebGPU adapter .+ provides no device: .*all devices are taken/,
    },
    {
      what: "a shader that computes wrongly",
      patch: () => {
        const { createShaderModule } = GPUDevice.prototype;
        GPUDevice.prototype.createShaderModule = function (descriptor) {
          // Only RMSNorm has an EPSILON: its result becomes a hundredth too large.
          const code = descriptor.code.replace(/f32\(WIDTH\) ?\+ ?EPSILON/, "(1.02 * f32(WIDTH)) + EPSILON");
          return createShaderModule.call(this, { ...descriptor, code });
        };
      },
      says: /^The GPU .+ computes wrongly: Norm differs from its reference by 9\.\d+e-3\.$/,
    },
  ];
  for (const { what, patch, says } of cases) {
    it(`${what}: the CPU computes, and says why`, async () => {
      const { page, problems } = await openPatched({}, looksReal, patch);
      await cpuComputes(page, says);
      assert.deepEqual(problems, []);
      await page.close();
    });

    it(`${what}: a clear error where the GPU is required`, async () => {
      const { page } = await openPatched({ backend: "webgpu" }, patch);
      await endsInError(page, ["3040", "5004"], says);
      await page.close();
    });
  }
});

/**
 * Limits GPU memory to `globalThis.room` bytes. Beyond that WebGPU behaves as with a real adapter: the buffer is invalid, and the innermost
 * out-of-memory error scope has an error.
 */
function endsMemory() {
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

describe("a GPU that runs out of memory", () => {
  describe("while the model is loaded", () => {
    const says = /^Out of GPU memory \(.+\): the tensor 'output\.weight' needs \d\.\d MB beside \d+\.\d MB\. Use a smaller model or a shorter context\.$/;
    // The embedding and the output, the last tensor, are most of the file's 3.6 MB.
    const tooSmall = () => (globalThis.room = 3e6);

    it("the CPU computes, and says why", async () => {
      const { page } = await openPatched({}, looksReal, endsMemory, tooSmall);
      await cpuComputes(page, says);
      await page.close();
    });

    it("a clear error where the GPU is required", async () => {
      const { page } = await openPatched({ backend: "webgpu" }, endsMemory, tooSmall);
      await endsInError(page, ["3040"], says);
      await page.close();
    });
  });

  describe("during an answer, because another one starts", () => {
    const contextNeeds = /Out of GPU memory \(.+\): the context \(KV cache\) needs \d\.\d MB beside \d+\.\d MB\. Use a smaller model or a shorter context\./;
    // Together with the prompt less than the 256 positions that a cache takes memory for at once.
    const TEXT = WORDS.slice(0, 200).join("");

    /** Streams an answer into `globalThis.text`; resolves to all of it. */
    const stream = (page) =>
      inPage(
        page,
        async (ai, [model, input]) => {
          const answer = await ai.run(model, { ...input, stream: true });
          globalThis.text = "";
          for await (const piece of answer.pipeThrough(new TextDecoderStream())) {
            globalThis.text += [...piece.matchAll(/"response":"([^"]*)"/g)].map(([, text]) => text).join("");
          }
          return globalThis.text;
        },
        [MODEL, { ...COUNTING, max_tokens: 200 }],
      );

    async function second(page, worker) {
      const first = stream(page);
      await page.waitForFunction(() => globalThis.text?.length >= 2, undefined, { timeout: 300_000 });
      await worker.evaluate(() => globalThis.leaveNoRoom());
      const other = await run(page, COUNTING);
      return { first: await first, other };
    }

    it("both continue on the CPU, and no token is lost or repeated", async () => {
      const { page, worker } = await openPatched({}, looksReal, endsMemory);
      const { backend } = await inPage(page, async (ai) => ai.load());
      assert.equal(backend, "webgpu");
      const { first, other } = await second(page, worker);
      assert.equal(other.error, undefined);
      assert.deepEqual([first, other.response], [TEXT, COUNTED]);
      const { models } = await inPage(page, async (ai) => ai.stats());
      assert.equal(models[0].backend, "cpu");
      assert.match(models[0].reason, contextNeeds);
      await page.close();
    });

    it("where the GPU is required, the second one has a clear error, and the first one continues", async () => {
      const { page, worker } = await openPatched({ backend: "webgpu" }, endsMemory);
      const { first, other } = await second(page, worker);
      assert.match(other.error, /^AiError: 3040: /);
      assert.match(other.error, contextNeeds);
      assert.equal(first, TEXT);
      await worker.evaluate(() => (globalThis.room = Infinity));
      assert.equal((await run(page, COUNTING)).response, COUNTED);
      await page.close();
    });
  });
});
