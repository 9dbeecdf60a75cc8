// GPUs that cannot be used, as far as that is found before kernels are compiled; `webgpu-failures.long.mjs` has the others.

import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { WEIGHTS_DO_NOT_FIT, cpuComputes, endsInError, endsMemory, looksReal, openPatched, tooSmall } from "./gpu-faults.mjs";

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

describe("a GPU whose memory ends while the model is loaded", () => {
  it("the CPU computes, and says why", async () => {
    const { page } = await openPatched({}, looksReal, endsMemory, tooSmall);
    await cpuComputes(page, WEIGHTS_DO_NOT_FIT);
    await page.close();
  });
});
