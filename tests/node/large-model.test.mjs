// A model of Llama 3 8B's shape, 4.5 GB, on the CPU in Node 24: its first token is that of the reference implementation, and a small model
// answers beside it.

import assert from "node:assert/strict";
import { test } from "node:test";
import { largeModel } from "../large-model.mjs";
import { checkLargeModel } from "./large-model-run.mjs";

test("a model of 4.5 GB answers, and leaves 32 bits to a small model", async (t) => {
  const model = await largeModel();
  assert.ok(model.size > 4.5e9);
  // One thread, which is the build that `npm test` makes.
  await checkLargeModel(t, model, { prompt: ["Ġsky", "Ġblue"], config: { threads: 1 } });
});
