// The process in which `npm run fuzz` tries its inputs. Its parent sees when it hangs or ends.

import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { Ai, InferenceUpstreamError } from "workers-ai-local";
import { setFlagsFromString } from "node:v8";
import { narrow } from "../../pkg/instance.js";
import { Random } from "../../tests/random.mjs";
import { scriptedModel } from "../../tests/scripted-model.mjs";
import { KINDS } from "./kinds.mjs";

/** Pages of 64 KiB that the WebAssembly memory may have, so that a file that claims to be large finds its limit soon. */
const MAX_PAGES = 1 << 14;
/** Characters of an input that are shown. */
const SHOWN = 3000;

const [, , kind, from, count, until, folder] = process.argv;
const templates = folder ? await Promise.all((await readdir(folder)).filter((name) => name.endsWith(".jinja")).map((name) => readFile(path.join(folder, name), "utf8"))) : [];

// What a panic says goes to the console before the trap.
let printed = [];
for (const method of ["error", "warn", "log"]) console[method] = (...values) => printed.push(values.join(" "));

const probe = new Ai({ default: scriptedModel().bytes, backend: "cpu", threads: 1, onWarning() {} });
await probe.load();
setFlagsFromString(`--wasm-max-mem-pages=${MAX_PAGES}`);
const tryOne = KINDS[kind]({ templates });
let born = narrow.epoch();

for (let index = 0; index < Number(count) && Date.now() < Number(until); index += 1) {
  const seed = (Number(from) + index) >>> 0;
  let input = "";
  const text = (value) => (typeof value === "string" ? value : (JSON.stringify(value) ?? String(value))).slice(0, SHOWN);
  process.send({ began: seed });
  printed = [];
  const started = Date.now();
  const result = { ended: seed, outcomes: [] };
  try {
    result.outcomes = await tryOne(new Random(seed), (value) => {
      input = text(value);
      process.send({ input });
    });
  } catch (error) {
    result.fault = error instanceof InferenceUpstreamError ? error.message : (error?.stack ?? String(error));
  }
  if (narrow.epoch() !== born || /ran out of memory or failed|and was restarted/.test(result.fault ?? result.outcomes.join("\n"))) {
    result.trap = [...result.outcomes, result.fault, ...printed].filter(Boolean).join("\n").slice(0, SHOWN);
    born = narrow.epoch();
  }
  result.milliseconds = Date.now() - started;
  result.memory = (await probe.stats()).memoryBytes;
  process.send(result);
}
process.send({ done: true }, () => process.exit());
