// The package's types for every way in which TypeScript finds them: also for one that does not read `exports`. TypeScript 7, with which the
// types are checked otherwise, no longer has that.

import assert from "node:assert/strict";
import { mkdtemp, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, test } from "node:test";
import { pack, project } from "./pack.mjs";

const PAGE = `
  import { Ai, type TextGenerationOutput } from "workers-ai-local";
  import { Ai as ServiceWorkerAi } from "workers-ai-local/service-worker";
  import { eventData } from "workers-ai-local/sse";

  export async function main(): Promise<string> {
    const ai = new Ai({ worker: () => new Worker("/w.js"), wasmUrl: "/wasm" });
    const same: Ai = new ServiceWorkerAi();
    for await (const data of eventData(await same.run("a", { prompt: "Hi", stream: true }))) data.toUpperCase();
    const { response }: TextGenerationOutput = await ai.run("a", { prompt: "Hi" });
    // @ts-expect-error a number is no model
    new Ai({ default: 42 });
    return String(response);
  }
`;
const WORKER = `
  import { Ai, type LocalAiEnv } from "workers-ai-local/worker";
  export { Ai as LocalAi };
  export const env: LocalAiEnv = { STRICT: "true" };
`;

let own;
let folder;
before(async () => {
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-tarball-"));
  own = await project({ "page.ts": PAGE, "worker.ts": WORKER });
  await own.run("npm", "install", "--no-audit", "--no-fund", "--save-exact", await pack(folder), "typescript@5.9.3", "@cloudflare/workers-types@5.20261117.1");
});
after(async () => {
  await own?.remove();
  await rm(folder, { recursive: true, force: true });
});

for (const [resolution, module] of [["node10", "esnext"], ["node16", "node16"], ["bundler", "esnext"]]) {
  const compile = (file, ...options) =>
    own
      .run("node_modules/.bin/tsc", "--noEmit", "--strict", "--target", "es2022", "--module", module, "--moduleResolution", resolution, ...options, file)
      .catch(({ stdout }) => assert.fail(stdout));

  test(`${resolution}: a page's program`, () => compile("page.ts", "--lib", "es2022,dom,dom.iterable,dom.asynciterable"));
  test(`${resolution}: a Worker`, () => compile("worker.ts", "--types", "@cloudflare/workers-types", "--lib", "es2022"));
}
