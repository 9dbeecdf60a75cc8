// Names of models and the configuration file through the entries for development that need no other package than wrangler and its Miniflare. Those of
// Vite and vitest are in frameworks.long.mjs.

import assert from "node:assert/strict";
import path from "node:path";
import { after, before, test } from "node:test";
import { ANSWERS_OF, NAMED, namedModels } from "./named.mjs";
import { config, run, startDev, workspace } from "./project.mjs";

const WORKER = `${ANSWERS_OF}\nexport default { fetch: async (request, env) => Response.json(await answersOf(env.AI)) };\n`;
const CONFIG = config({ durable_objects: undefined, migrations: undefined });

let home;
let named;
before(async () => {
  home = await workspace({ link: ["wrangler", "miniflare"] });
  named = await namedModels();
});
after(async () => {
  await named?.close();
  await home?.remove();
});

/** What a program of a project prints. */
async function prints(name, program) {
  const place = await home.project(name, { ...named.files, "wrangler.jsonc": CONFIG, "src/index.js": WORKER, "program.js": `${ANSWERS_OF}\n${program}` });
  const { code, out, said } = await run(home, place, path.join(place, "program.js"));
  assert.equal(code, 0, said);
  return JSON.parse(out.trim().split("\n").at(-1));
}

test("dev", async () => {
  const server = await startDev(home, await home.project("dev", { ...named.files, "wrangler.jsonc": CONFIG, "src/index.js": WORKER }));
  try {
    assert.deepEqual(await server.json("/"), NAMED);
  } finally {
    await server.stop();
  }
});

test("getPlatformProxy", async () => {
  const program = `import { getPlatformProxy } from "workers-ai-local/platform-proxy";
    const { env, dispose } = await getPlatformProxy();
    console.log(JSON.stringify(await answersOf(env.AI)));
    await dispose();`;
  assert.deepEqual(await prints("proxy", program), NAMED);
});

test("Miniflare", async () => {
  const program = `import * as miniflare from "miniflare";
    import { readFileSync } from "node:fs";
    import { withLocalAi } from "workers-ai-local/miniflare";
    const { Miniflare, convertV4MiniflareOptions = (options) => options } = miniflare;
    const options = { modules: true, script: readFileSync("src/index.js", "utf8"), compatibilityDate: "2025-06-01" };
    const mf = new Miniflare(await withLocalAi(convertV4MiniflareOptions(options)));
    console.log(await (await mf.dispatchFetch("http://localhost/")).text());
    await mf.dispose();`;
  assert.deepEqual(await prints("miniflare", program), NAMED);
});
