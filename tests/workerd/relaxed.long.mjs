// The build with relaxed SIMD in workerd, selected by the Worker's variable BUILD, returns the texts of Node.

import assert from "node:assert/strict";
import { test } from "node:test";
import { Ai } from "workers-ai-local";
import { parityTexts } from "../parity-inputs.mjs";
import { startWithBuild } from "./worker.mjs";

test("workerd with relaxed SIMD and Node return the same texts", async (t) => {
  const worker = await startWithBuild("relaxed");
  t.after(() => worker.stop());
  const node = new Ai({ onWarning() {} });
  const inNode = await parityTexts((model, input) => node.run(model, input));
  assert.deepEqual(await parityTexts(async (model, input) => (await (await worker.ask(model, input)).json()).result), inNode);
});
