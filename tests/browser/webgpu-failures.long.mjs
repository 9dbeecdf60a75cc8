// GPUs of which it is found only after kernels were compiled that they cannot be used. On the software adapter that takes 10 to 30 s for each page.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { inPage } from "./ai-page.mjs";
import { COUNTED, COUNTING, MODEL, WEIGHTS_DO_NOT_FIT, WORDS, cpuComputes, endsInError, endsMemory, looksReal, openPatched, run, tooSmall } from "./gpu-faults.mjs";

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

/** Waits until an answer that is streamed has begun. */
const begun = (page) => page.waitForFunction(() => globalThis.text?.length >= 2, undefined, { timeout: 300_000 });

describe("a shader that computes wrongly", () => {
  const patch = () => {
    const { createShaderModule } = GPUDevice.prototype;
    GPUDevice.prototype.createShaderModule = function (descriptor) {
      // Only RMSNorm has an EPSILON: its result becomes a hundredth too large.
      const code = descriptor.code.replace(/f32\(WIDTH\) ?\+ ?EPSILON/, "(1.02 * f32(WIDTH)) + EPSILON");
      return createShaderModule.call(this, { ...descriptor, code });
    };
  };
  const says = /^The GPU .+ computes wrongly: Norm differs from its reference by 9\.\d+e-3\.$/;

  it("the CPU computes, and says why", async () => {
    const { page, problems } = await openPatched({}, looksReal, patch);
    await cpuComputes(page, says);
    assert.deepEqual(problems, []);
    await page.close();
  });

  it("a clear error where the GPU is required", async () => {
    const { page } = await openPatched({ backend: "webgpu" }, patch);
    await endsInError(page, ["3040", "5004"], says);
    await page.close();
  });
});

describe("a GPU whose memory ends while the model is loaded", () => {
  it("a clear error where the GPU is required", async () => {
    const { page } = await openPatched({ backend: "webgpu" }, endsMemory, tooSmall);
    await endsInError(page, ["3040"], WEIGHTS_DO_NOT_FIT);
    await page.close();
  });
});

describe("a GPU whose memory ends during an answer, because another one starts", () => {
  const contextNeeds = /Out of GPU memory \(.+\): the context \(KV cache\) needs \d\.\d MB beside \d+\.\d MB\. Use a smaller model or a shorter context\./;

  async function second(page, worker) {
    const first = stream(page);
    await begun(page);
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

it("a device lost in the middle of an answer loses no token: another device continues", async () => {
  const { page, worker } = await openPatched({ backend: "webgpu" }, () => {
    const { requestDevice } = GPUAdapter.prototype;
    globalThis.devices = [];
    GPUAdapter.prototype.requestDevice = async function (...all) {
      const device = await requestDevice.apply(this, all);
      globalThis.devices.push(device);
      return device;
    };
  });
  const text = stream(page);
  await begun(page);
  await worker.evaluate(() => globalThis.devices[0].destroy());
  assert.equal(await text, TEXT);
  assert.equal(await worker.evaluate(() => globalThis.devices.length), 2);
  await page.close();
});
