// The same request gives the same text in workerd as in Node, byte for byte.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Ai } from "workers-ai-local";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { PARITY_INPUTS, parityTexts } from "../parity-inputs.mjs";
import { startProbe } from "./worker.mjs";

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

test("workerd and Node give the same texts", async () => {
  assert.deepEqual(await parityTexts((model, input) => worker.run(model, input)), inNode);
  assert.equal(Object.keys(inNode).length, PARITY_INPUTS.length);
  for (const text of Object.values(inNode)) assert.notEqual(text, "");
});

test("so does the build with relaxed SIMD, which the Worker's variable BUILD asks for", async (t) => {
  const start = (BUILD) => startDevWorker({ configs: ["wrangler.toml"], vars: { BUILD }, quiet: true });
  const ask = ({ url }, model, input) => fetch(`${url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", body: JSON.stringify(input) });
  const [relaxed, threads] = await Promise.all([start("relaxed"), start("threads")]);
  t.after(() => Promise.all([relaxed.stop(), threads.stop()]));
  assert.deepEqual(await parityTexts(async (model, input) => (await (await ask(relaxed, model, input)).json()).result), inNode);
  // A Worker that is set up wrongly says so to whoever develops it.
  const refused = await ask(threads, PARITY_INPUTS[0].model, PARITY_INPUTS[0].input);
  assert.equal(refused.status, 500);
  assert.match(await refused.text(), /The build .{1,10}threads.{1,10} cannot run here: no memory can be shared/);
});
