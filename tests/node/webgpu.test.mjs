// The GPU backend in Node, in projects that have installed the npm package `webgpu` (Dawn).

import assert from "node:assert/strict";
import { mkdir, writeFile } from "node:fs/promises";
import path from "node:path";
import { before, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { vulkanForDawn } from "../../scripts/setup/vulkan.mjs";
import { MODEL } from "../real-model.mjs";
import { scriptedFile } from "../scripted-model.mjs";
import { startServeIn } from "../serve-process.mjs";
import { GREEDY, PROMPTS, adapter, inInstalled, inProject, installed, onCpu, project, why } from "./dawn-project.mjs";

describe("a package `webgpu` that cannot be loaded", () => {
  test("makes the CPU compute, and is the reported reason", async () => {
    const address = await project(async (folder) => {
      await mkdir(folder);
      await writeFile(path.join(folder, "package.json"), '{ "name": "webgpu", "type": "module", "exports": "./index.js" }');
      await writeFile(path.join(folder, "index.js"), 'throw new Error("made for another system\\nand more");');
    });
    const loaded = await inProject(address, (Ai) => new Ai({ build: "simd128" }).load());
    assert.deepEqual([loaded.backend, loaded.reason], ["cpu", 'The package "webgpu" cannot be loaded: made for another system.']);
  });
});

describe("with the package `webgpu`", { skip: why || false }, () => {
  test("with only a software adapter, the CPU computes and the reason is reported", { skip: !adapter?.isSoftware && "there is a real GPU" }, async () => {
    const loaded = await inInstalled(async (Ai) => {
      const ai = new Ai({ build: "simd128", onWarning() {} });
      await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "a", max_tokens: 1 });
      return [ai.backend, ai.backendReason];
    });
    assert.equal(loaded[0], "cpu");
    assert.match(loaded[1], /^The only WebGPU adapter, .*, computes on the CPU\.$/);
  });

  test("serve says which adapter computes", async (t) => {
    const model = await scriptedFile();
    t.after(model.remove);
    const cli = fileURLToPath(new URL("cli.js", installed));
    const server = await startServeIn({ cli, env: { ...process.env, ...vulkanForDawn() } }, "--port", "0", "--gguf", model.path, "--backend", "webgpu");
    t.after(server.stop);
    const { backend, reason } = await (await fetch(`${server.url}/local/status`)).json();
    assert.equal(backend, "webgpu");
    assert.match(reason, /^WebGPU works here and passed the self-check \(.+\)\.$/);
  });

  test("backend: \"cpu\" computes on the CPU and reports no reason", async () => {
    const loaded = await inInstalled((Ai) => new Ai({ build: "simd128", backend: "cpu" }).load());
    assert.deepEqual([loaded.backend, loaded.reason], ["cpu", null]);
  });

  describe("backend: \"webgpu\"", () => {
    let outcome;
    const expected = [];
    before(async () => {
      for (const prompt of PROMPTS) expected.push(await onCpu(prompt));
      expected.push(await onCpu(PROMPTS[0] + expected[0]));
      outcome = await inInstalled(
        async (Ai, { model, prompts, greedy, instance }) => {
          const globals = () => JSON.stringify([Object.getOwnPropertyNames(globalThis), Object.getOwnPropertyDescriptor(globalThis, "navigator")]);
          const before = globals();
          const progress = [];
          let turns = 0;
          const clock = setInterval(() => (turns += 1), 5);
          const ai = new Ai({ build: "simd128", backend: "webgpu", onWarning() {}, onProgress: (step) => progress.push({ ...step, turns }) });
          const loaded = await ai.load();
          clearInterval(clock);
          const counters = async () => (await ai.stats()).models[0].gpu;

          const texts = [];
          for (const prompt of prompts) texts.push((await ai.run(model, { ...greedy, prompt })).response);

          const earlier = await counters();
          // The prompt is the first prompt and its answer, so the KV cache already has this prefix.
          const stream = await ai.run(model, { ...greedy, prompt: prompts[0] + texts[0], stream: true });
          const events = (await new Response(stream).text()).split("\n\n").filter((event) => event.startsWith("data: {"));
          const pieces = events.map((event) => JSON.parse(event.slice("data: ".length)));
          const later = await counters();

          const { narrow } = await import(instance);
          const { prototype } = narrow.glue().Task;
          const { poll } = prototype;
          let polls = 0;
          prototype.poll = function (...results) {
            polls += 1;
            return poll.apply(this, results);
          };
          const together = await Promise.all(prompts.map((prompt) => ai.run(model, { ...greedy, prompt })));
          prototype.poll = poll;

          const seeded = { raw: true, prompt: prompts.at(-1), temperature: 1, seed: 5, max_tokens: 3 };
          const [a, b] = [await ai.run(model, seeded), await ai.run(model, seeded)];
          const controller = new AbortController();
          const aborted = ai.run(model, { ...greedy, prompt: prompts[0], max_tokens: 200 }, { signal: controller.signal }).catch(({ name }) => name);
          setTimeout(() => controller.abort(), 300);
          return {
            loaded,
            progress,
            texts,
            streamed: pieces.map(({ response }) => response).join(""),
            usage: pieces.at(-1).usage,
            work: Object.fromEntries(Object.keys(later).map((key) => [key, later[key] - earlier[key]])),
            together: together.map(({ response }) => response),
            polls,
            seeded: [a.response, b.response],
            aborted: await aborted,
            globals: before === globals(),
            stats: await ai.stats(),
          };
        },
        { model: MODEL, prompts: PROMPTS, greedy: GREEDY, instance: new URL("instance.js", installed).href },
      );
    });

    test("computes on the GPU, which holds the weights", () => {
      assert.deepEqual([outcome.loaded.backend, outcome.loaded.reason], ["webgpu", null]);
      const { models, memoryBytes } = outcome.stats;
      assert.ok(models[0].gpu.bytesAllocated > 95_000_000);
      assert.ok(memoryBytes < 64 << 20, `${memoryBytes} bytes of WebAssembly memory besides the weights`);
    });

    test("writes and streams the CPU's greedy text", () => assert.deepEqual([...outcome.texts, outcome.streamed], expected));

    test("requests wait for the GPU without being polled, also for the step of another one", () => {
      assert.deepEqual(outcome.together, expected.slice(0, PROMPTS.length));
      assert.ok(outcome.polls > 0 && outcome.polls < 100, `${outcome.polls} polls`);
    });

    test("needs one submission per token, and reads back little", () => {
      const { submissions, bytesReadBack, buffersCreated } = outcome.work;
      const tokens = outcome.usage.completion_tokens;
      assert.equal(tokens, GREEDY.max_tokens);
      assert.ok(submissions > 0 && submissions <= tokens + 1, `${submissions} submissions for ${tokens} tokens`);
      assert.ok(bytesReadBack <= 4096 * tokens, `${bytesReadBack} bytes read back`);
      assert.equal(buffersCreated, 0);
    });

    test("honours a seed and an abort signal", () => {
      assert.equal(outcome.seeded[0], outcome.seeded[1]);
      assert.equal(outcome.aborted, "AbortError");
    });

    test("reports the progress of loading: the file, then compiled kernels, then checked kernels", () => {
      const { progress } = outcome;
      const phases = progress.map(({ phase }) => phase).filter((phase, index, all) => phase !== all[index - 1]);
      assert.deepEqual(phases, ["weights", "compile", "check"]);
      const size = progress.at(-1).total;
      for (const phase of ["compile", "check"]) {
        const steps = progress.filter((step) => step.phase === phase);
        const { total } = steps[0].kernels;
        assert.ok(total > 10);
        assert.deepEqual(steps.map(({ kernels }) => kernels), Array.from({ length: total }, (_, index) => ({ ready: index + 1, total })));
        assert.ok(steps.every(({ loaded }) => loaded === size));
      }
    });

    test("does not block the event loop while it loads", () => {
      const checking = outcome.progress.filter(({ phase }) => phase !== "weights");
      assert.ok(checking.at(-1).turns - checking[0].turns > 3, "timers fire while kernels are compiled and checked");
    });

    test("leaves the globals unchanged", () => assert.equal(outcome.globals, true));
  });
});
