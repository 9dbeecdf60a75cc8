// The same request gives the same text in workerd as in Node, byte for byte.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Ai } from "workers-ai-local";
import { PARITY_INPUTS, parityTexts } from "../parity-inputs.mjs";
import { startProbe } from "./worker.mjs";

let worker;
before(async () => {
  worker = await startProbe({ fixture: "probe", configs: ["wrangler.toml"] });
});
after(() => worker?.stop());

test("workerd and Node give the same texts", async () => {
  const node = new Ai({ onWarning() {} });
  const inNode = await parityTexts((model, input) => node.run(model, input));
  const inWorkerd = await parityTexts((model, input) => worker.run(model, input));
  assert.deepEqual(inWorkerd, inNode);
  assert.equal(Object.keys(inNode).length, PARITY_INPUTS.length);
  for (const text of Object.values(inNode)) assert.notEqual(text, "");
});
