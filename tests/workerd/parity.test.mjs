// The same request returns the same text in workerd and in Node, byte for byte.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Ai } from "workers-ai-local";
import { PARITY_INPUTS, parityTexts } from "../parity-inputs.mjs";
import { startProbe, startWithBuild } from "./worker.mjs";

let worker;
before(async () => {
  worker = await startProbe({ fixture: "probe", configs: ["wrangler.toml"] });
});
after(() => worker?.stop());

let inNode;
before(async () => {
  const node = new Ai({ onWarning() {} });
  inNode = await parityTexts((model, input) => node.run(model, input));
});

test("workerd and Node return the same texts", async () => {
  assert.deepEqual(await parityTexts((model, input) => worker.run(model, input)), inNode);
  assert.equal(Object.keys(inNode).length, PARITY_INPUTS.length);
  for (const text of Object.values(inNode)) assert.notEqual(text, "");
});

test("a Worker with a build that workerd cannot run reports the mistake to its developer", async (t) => {
  const worker = await startWithBuild("threads");
  t.after(() => worker.stop());
  const refused = await worker.ask(PARITY_INPUTS[0].model, PARITY_INPUTS[0].input);
  assert.equal(refused.status, 500);
  assert.match(await refused.text(), /The build .{1,10}threads.{1,10} cannot run here: memory cannot be shared/);
});
