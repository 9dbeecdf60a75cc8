// A user's Worker that exports the entrypoint of `workers-ai-local/worker` and binds it as `AI`.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { MODEL, PARIS } from "../real-model.mjs";
import { eventually, startProbe } from "./worker.mjs";

let worker;
before(async () => {
  worker = await startProbe({ fixture: "exported" });
});
after(() => worker?.stop());

test("the entrypoint answers as env.AI", async () => {
  assert.equal((await worker.run(MODEL, { ...PARIS, max_tokens: 1 })).response, " Paris");
});

test("a warning advises the Worker's variables", async () => {
  await worker.run("@cf/meta/llama-3.1-8b-instruct", { ...PARIS, max_tokens: 1 });
  await eventually("the log has the warning", () => worker.logs.some((line) => /has no local weights/.test(line)));
  const warning = worker.logs.find((line) => /has no local weights/.test(line));
  assert.match(warning, /Give it a GGUF with the variable AI_MODELS = \{ "@cf\/meta\/llama-3\.1-8b-instruct" = "name, key or URL" \}, or refuse it with STRICT = "true"\./);
  assert.doesNotMatch(worker.logs.join("\n"), /new Ai/);
});
