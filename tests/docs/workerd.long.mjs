// The Workers of docs/workerd.md, each in a project of its own under `wrangler dev`.

import assert from "node:assert/strict";
import { mkdir, mkdtemp, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { test } from "node:test";
import { startDevWorker } from "../../scripts/dev-worker.mjs";
import { STATE_FOLDER } from "../../scripts/lib/wrangler.mjs";
import { ROOT, pages } from "./blocks.mjs";

const { blocks } = (await pages()).find(({ name }) => name === "docs/workerd.md");
const of = (wanted) => blocks.filter(({ kind }) => kind === wanted).map(({ text }) => text);
const [twoWorkers, oneWorker, ...otherConfigurations] = of("toml");
const [bound, exported, created, ...otherWorkers] = of("js worker");
assert.deepEqual([otherConfigurations, otherWorkers], [[], []], "a block that no test runs");

for (const [what, configuration, program, others, answers] of [
  ["a Worker beside the local Worker", twoWorkers, bound, ["wrangler.toml"], /data: \[DONE\]/],
  ["a Worker that exports the entrypoint", oneWorker, exported, [], /^\{"response":".+"/],
  // Without the binding to an entrypoint that it does not export.
  ["a Worker that creates an Ai", oneWorker.replace(/\[\[services\]\]\n(.+\n)+/, ""), created, [], /^\{"response":".+"/],
]) {
  test(what, async (t) => {
    const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-docs-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    await mkdir(path.join(folder, "node_modules"));
    await symlink(ROOT, path.join(folder, "node_modules", "workers-ai-local"));
    await writeFile(path.join(folder, "wrangler.toml"), configuration);
    await writeFile(path.join(folder, "index.js"), program);
    const worker = await startDevWorker({ configs: [path.join(folder, "wrangler.toml"), ...others], quiet: true, persistTo: path.join(ROOT, STATE_FOLDER) });
    t.after(worker.stop);
    const response = await fetch(worker.url);
    assert.match(await response.text(), answers);
  });
}
