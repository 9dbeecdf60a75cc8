// The GPU backend in Node with processes that end, worker threads, and a build whose memory is shared by threads. On a software adapter each takes
// 20 s, most of which is the compilation of kernels.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { builds } from "../../pkg/wasm/builds.js";
import { MODEL } from "../real-model.mjs";
import { GREEDY, PROMPTS, inInstalled, installed, onCpu, why } from "./dawn-project.mjs";

describe("with the package `webgpu`", { skip: why || false }, () => {
  test("process.exit ends the process in the middle of an answer", async () => {
    const outcome = await inInstalled(async (Ai, { model, prompt }) => {
      const { writeSync } = process.getBuiltinModule("node:fs");
      const ai = new Ai({ build: "simd128", backend: "webgpu", onWarning() {} });
      const stream = await ai.run(model, { raw: true, prompt, max_tokens: 200, stream: true });
      await stream.getReader().read();
      writeSync(1, JSON.stringify(ai.backend));
      process.exit(0);
    }, { model: MODEL, prompt: PROMPTS[0] });
    assert.equal(outcome, "webgpu");
  });

  test("a worker thread uses its own GPU device, and exits", async () => {
    const outcome = await inInstalled(async (_, { address, model, prompt, greedy }) => {
      const { Worker } = process.getBuiltinModule("node:worker_threads");
      const script = `
        import { parentPort } from "node:worker_threads";
        const { Ai } = await import(${JSON.stringify(address)});
        const ai = new Ai({ build: "simd128", backend: "webgpu", onWarning() {} });
        const { response } = await ai.run(${JSON.stringify(model)}, ${JSON.stringify({ ...greedy, prompt })});
        parentPort.postMessage({ response, backend: ai.backend });`;
      const worker = new Worker(new URL(`data:text/javascript,${encodeURIComponent(script)}`));
      const message = new Promise((resolve, reject) => worker.once("message", resolve).once("error", reject));
      const ended = new Promise((resolve) => worker.once("exit", resolve));
      return { ...(await message), code: await ended };
    }, { address: installed, model: MODEL, prompt: PROMPTS[0], greedy: GREEDY });
    assert.deepEqual(outcome, { response: await onCpu(PROMPTS[0]), backend: "webgpu", code: 0 });
  });

  const noThreads = !builds.threads && 'the build "threads" is missing: `npm run build` says why';
  test("the GPU backend works with a build whose memory is shared by threads", { skip: noThreads }, async () => {
    const outcome = await inInstalled(async (Ai, { model, prompt, greedy }) => {
      const ai = new Ai({ build: "threads", threads: 2, backend: "webgpu", onWarning() {} });
      const { response } = await ai.run(model, { ...greedy, prompt });
      return { response, backend: ai.backend, build: (await ai.stats()).build };
    }, { model: MODEL, prompt: PROMPTS[0], greedy: GREEDY });
    assert.deepEqual(outcome, { response: await onCpu(PROMPTS[0]), backend: "webgpu", build: "threads" });
  });
});
