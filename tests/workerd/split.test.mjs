// The local AI Worker with a model that is split: its files are in R2 or on a server, found by a name or listed in variables.

import assert from "node:assert/strict";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { listening } from "../../scripts/lib/ports.mjs";
import { run } from "../../scripts/lib/process.mjs";
import { wranglerCommand } from "../../scripts/lib/wrangler.mjs";
import { partName, splitFile } from "../gguf-fixtures.mjs";
import { scriptedModel } from "../scripted-model.mjs";

const SAYS = "All of it.";
const PARTS = splitFile(scriptedModel({ script: [SAYS] }).bytes, [0, 5]);
const name = (part) => partName("model", part, PARTS.length);

let folder;
let server;
let worker;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-split-"));
  const persistTo = path.join(folder, "state");
  for (const [part, bytes] of PARTS.entries()) {
    const file = path.join(folder, name(part));
    await writeFile(file, bytes);
    for (const key of part === 1 ? [name(part), "b.gguf"] : [name(part)]) {
      const { command, args, env } = wranglerCommand("r2", "object", "put", `models/${key}`, "--file", file, "--local", "--persist-to", persistTo);
      await run(command, args, { env, onLine: () => {} });
    }
  }
  server = await listening(createServer((request, response) => response.end(PARTS[Number(/-0000(\d)-of-00003\.gguf\?signature=1$/.exec(request.url)?.[1]) - 1])));
  worker = await startDevWorker({
    quiet: true,
    configs: ["wrangler.toml"],
    persistTo,
    vars: {
      DEFAULT_MODEL: JSON.stringify([name(2), "b.gguf", name(0)]),
      AI_MODELS: JSON.stringify({
        "@cf/own/named": name(1),
        "@cf/own/listed": ["b.gguf", name(0), name(2)],
        "@cf/own/url": `${server.url}/${name(0)}?signature=1`,
        "@cf/own/alone": "b.gguf",
        "@cf/own/missing": partName("model", 0, 4),
      }),
    },
  });
});
after(async () => {
  await worker?.stop();
  await server?.close();
  await rm(folder, { recursive: true, force: true });
});

async function ask(model) {
  const body = JSON.stringify({ messages: [{ role: "user", content: "Hi" }] });
  const { result, errors } = await (await fetch(`${worker.url}/client/v4/accounts/local/ai/run/${model}`, { method: "POST", body })).json();
  return result.response ?? errors[0].message;
}

test("the variables name one file or list all", async () => {
  for (const model of ["@cf/meta/llama-3.1-8b-instruct", "@cf/own/named", "@cf/own/listed", "@cf/own/url"]) assert.equal(await ask(model), SAYS, model);
});

test("an error says what is missing", async () => {
  assert.match(await ask("@cf/own/alone"), /^AiError: R2 object b\.gguf is part 2 of 3 of a split model\. Give all 3 files as a list/);
  assert.match(await ask("@cf/own/missing"), /^AiError: The model file R2 object model-00001-of-00004\.gguf was not found/);
});
