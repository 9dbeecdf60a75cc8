// The GPU backend in Node, in projects that have installed the npm package `webgpu` (Dawn). Where there is no GPU, the tests use a
// software adapter (SwiftShader), which is slow, so answers are short.

import assert from "node:assert/strict";
import { cp, mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { fileURLToPath, pathToFileURL } from "node:url";
import { vulkanForDawn } from "../../scripts/setup/vulkan.mjs";
import { builds } from "../../pkg/wasm/builds.js";
import { Ai } from "workers-ai-local";
import { MODEL, MODEL_PATH } from "../real-model.mjs";
import { inOneProcess } from "./one-process.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
/** The package `webgpu`, installed under another name so that nothing else in this project can import it. */
const DAWN = path.join(ROOT, "node_modules", "dawn-node");
const PROMPTS = ["1, 2, 3,", "The capital of France is"];
const GREEDY = { raw: true, temperature: 0, max_tokens: 3 };

const cpu = new Ai({ build: "simd128", backend: "cpu", onWarning() {} });
const onCpu = async (prompt) => (await cpu.run(MODEL, { ...GREEDY, prompt })).response;

const folders = [];
after(() => Promise.all(folders.map((folder) => rm(folder, { recursive: true }))));

/** Creates a project with this package and with the package `webgpu` as `addWebgpu` creates it. Returns the URL of this package's entry. */
async function project(addWebgpu) {
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-"));
  folders.push(folder);
  const modules = path.join(folder, "node_modules");
  const own = path.join(modules, "workers-ai-local");
  await mkdir(own, { recursive: true });
  for (const part of ["package.json", "pkg"]) await cp(path.join(ROOT, part), path.join(own, part), { recursive: true });
  await addWebgpu(path.join(modules, "webgpu"));
  return pathToFileURL(path.join(own, "pkg", "node.js")).href;
}

const inProject = (address, work, argument) =>
  inOneProcess(work, { argument, address, env: { ...vulkanForDawn(), WORKERS_AI_LOCAL_MODEL: MODEL_PATH }, limit: 400_000 });

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

const installed = await project((folder) => symlink(DAWN, folder, "dir"));
const inInstalled = (work, argument) => inProject(installed, work, argument);

/** The adapter that Dawn finds on this machine. If there is none, a line on the console says why. */
const adapter = await inInstalled(async (_, dawn) => {
  const { create } = await import(dawn);
  const adapter = await create([]).requestAdapter({ powerPreference: "high-performance" });
  return adapter && { isSoftware: adapter.info.isFallbackAdapter };
}, pathToFileURL(path.join(DAWN, "index.js")).href).catch((error) => ({ error: error.stderr?.trim().split("\n").at(-1) ?? error.message }));
const why = adapter?.error ?? (adapter === null && "there is no Vulkan driver that Dawn accepts (Debian: `apt-get install chromium` includes one)");
if (why) console.log(`NOT TESTED: the GPU in Node, because ${why}`);

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
