// The package in other runtimes than Node and workerd: installed from its tarball, the same text for the same seed, and scripted answers.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { MODEL_PATH } from "../real-model.mjs";
import { pack, project } from "./pack.mjs";

const RUNTIMES = { bun: ["bun@1.4.5", "bun"], deno: ["deno@2.9.6", "deno", "run", "--allow-all"] };

const PROGRAM = `
import { Ai } from "workers-ai-local";
const MODEL = "@cf/meta/llama-3.1-8b-instruct";
const ask = { prompt: "Name a colour.", seed: 7, temperature: 1, max_tokens: 20 };
const ai = new Ai({ default: ${JSON.stringify(MODEL_PATH)}, onWarning() {} });
const { response } = await ai.run(MODEL, ask);
const streamed = await new Response(await ai.run(MODEL, { ...ask, stream: true })).text();
const scripted = await new Ai({ script: [{ input: /colour/, text: "Blue." }] }).run(MODEL, ask);
console.log(JSON.stringify({ response, streamed: streamed.replaceAll(/"cached_tokens":\\d+/g, ""), scripted: scripted.response }));
`;

let space;
before(async () => {
  space = await project({ "program.mjs": PROGRAM });
  await space.run("npm", "install", "--no-audit", "--no-fund", await pack(space.folder), ...Object.values(RUNTIMES).map(([spec]) => spec));
});
after(() => space?.remove());

describe("the same text as in Node, and the script's, in", () => {
  const saidBy = async (command, ...args) => JSON.parse((await space.run(command, ...args, "program.mjs")).stdout);
  let expected;
  before(async () => void (expected = await saidBy(process.execPath)));

  for (const [name, [, command, ...args]] of Object.entries(RUNTIMES)) {
    test(name, async () => {
      assert.equal(expected.scripted, "Blue.");
      assert.deepEqual(await saidBy(path.join(space.folder, "node_modules", ".bin", command), ...args), expected);
    });
  }
});
