// A job without network and account: every Node process of it may connect to this machine only.

import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { pathToFileURL } from "node:url";
import { examples } from "./examples.mjs";
import { SAYS, bin, config, run, startDev, worker, workspace } from "./project.mjs";

/** Refuses connections to other machines, and notes them. */
const NO_NETWORK = `import { appendFileSync } from "node:fs";
import net from "node:net";
const { connect } = net.Socket.prototype;
net.Socket.prototype.connect = function (...args) {
  const [options] = Array.isArray(args[0]) ? args[0] : args;
  const host = (typeof options === "object" ? options.host : args[1]) ?? "localhost";
  if (options?.path || ["localhost", "127.0.0.1", "::1"].includes(host)) return connect.apply(this, args);
  appendFileSync(process.env.REFUSED_CONNECTIONS, host + "\\n");
  process.nextTick(() => this.destroy(Object.assign(new Error("no network"), { code: "ENETUNREACH" })));
  return this;
};
`;

let space;
before(async () => {
  space = await workspace({ install: ["wrangler@4.164.0", "@cloudflare/vitest-plugin@1.5.0", "vitest@5.1.2"] });
  const file = path.join(space.folder, "no-network.mjs");
  await writeFile(file, NO_NETWORK);
  Object.assign(space.env, { NODE_OPTIONS: `--import ${pathToFileURL(file)}`, REFUSED_CONNECTIONS: path.join(space.folder, "refused.txt") });
});
after(() => space?.remove());

describe("without network and account", () => {
  test("connections to other machines are refused", async () => {
    const { out } = await run(space, space.folder, process.execPath, "--eval", 'fetch("http://192.0.2.1/").catch(({ cause }) => console.log(cause.message))');
    assert.equal(out, "no network\n");
    assert.equal(await readFile(space.env.REFUSED_CONNECTIONS, "utf8"), "192.0.2.1\n");
  });

  test("dev answers", async () => {
    const place = await space.project("dev", { "wrangler.jsonc": config(), "src/index.js": worker() });
    const server = await startDev(space, place);
    try {
      assert.equal((await server.json("/")).response, SAYS);
    } finally {
      await server.stop();
    }
  });

  test("vitest passes, with a model and with a script", async () => {
    const passes = async (name, more) => {
      const place = await space.project(name, { ...examples("vitest.md"), "wrangler.jsonc": config(), "src/index.js": worker(), ...more });
      const { code, out, said } = await run(space, place, await bin(space, "vitest"), "run");
      assert.equal(code, 0, out + said);
    };
    await passes("vitest", {});
    await passes("scripted", {
      "vitest.config.js": examples("vitest.md")["vitest.config.js"].replace('jsonc" } })', 'jsonc" } }, { script: [{ input: "Hi", text: "Scripted." }] })'),
      "test/ai.test.js": `import { env } from "cloudflare:workers";
        import { expect, test } from "vitest";
        const MODEL = "@cf/meta/llama-3.1-8b-instruct";
        test("the script answers", async () => expect((await env.AI.run(MODEL, { prompt: "Hi" })).response).toBe("Scripted."));
        test("and nothing else", async () => expect(env.AI.run(MODEL, { prompt: "Ho" })).rejects.toThrow("5004: No entry of the script matches"));`,
    });
  });
});
