// `workers-ai-local dev` in Workers projects: the packed package, and wrangler as it is published.

import assert from "node:assert/strict";
import { readdir, readFile, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { Ai } from "workers-ai-local";
import { createServer } from "../../pkg/cli/serve.js";
import { listening } from "../../scripts/lib/ports.mjs";
import { MODEL, SAYS, bin, config, contents, run, startDev, worker, workspace } from "./project.mjs";

let home;
let wrangler;
before(async () => {
  home = await workspace({ link: ["wrangler"] });
  wrangler = await bin(home, "wrangler");
});
after(() => home.remove());

describe("dev", () => {
  let place;
  let server;
  let files;
  let dryRun;
  const deploy = async () => {
    const { code, out, said } = await run(home, place, wrangler, "deploy", "--dry-run", "--outdir", path.join(home.folder, "out"));
    const bundle = await readFile(path.join(home.folder, "out", "index.js"), "utf8");
    await rm(path.join(home.folder, "out"), { recursive: true });
    // Above it is what wrangler says about itself, each on some runs only: that there is a newer one, that it collects telemetry.
    const [, result] = /^(Total Upload: .*)$/ms.exec(out) ?? assert.fail(out);
    return { code, out: result, said, bundle };
  };
  before(async () => {
    place = await home.project("worker", {
      "wrangler.jsonc": `// The project's configuration.\n${JSON.stringify(config({ vars: { COLOUR: "red" } }), null, 2)}\n`,
      "src/index.js": worker(),
      ".dev.vars": "SECRET=from a file\n",
    });
    dryRun = await deploy();
    files = await contents(place);
    server = await startDev(home, place);
  });
  after(() => server?.stop());

  test("says what it does in a few lines", () => {
    const from = server.lines.findIndex((line) => line.startsWith("workers-ai-local: "));
    const said = server.lines.slice(from, server.lines.findIndex((line) => line.includes("⛅️ wrangler"))).filter(Boolean);
    assert.equal(said[0], "workers-ai-local: env.AI of wrangler.jsonc is computed on this machine, without an account.");
    assert.match(said[1], /every model id is answered by model\.gguf \(cpu\)/);
    assert.ok(said.length <= 5, said.join("\n"));
  });

  test("gives the Worker the genuine class", async () => {
    const answer = await server.json("/");
    assert.deepEqual([answer.response, answer.class, answer.finish_reason], [SAYS, "Ai", "stop"]);
  });

  test("streams", async () => {
    const text = await server.text("/stream");
    const events = [...text.matchAll(/^data: (\{.*\})$/gm)].map(([, json]) => JSON.parse(json));
    assert.equal(events.map(({ response }) => response).join(""), SAYS);
    assert.match(text, /data: \[DONE\]\n\n$/);
  });

  test("throws the binding's errors", async () => {
    assert.deepEqual(await server.json("/error"), { name: "AiError", message: "5007: No such model @cf/no/such or task", isError: true });
  });

  test("has the ids of requests, raw responses, models() and fetch()", async () => {
    const raw = await server.json("/raw");
    assert.deepEqual([raw.status, raw.response], [200, SAYS]);
    assert.ok(raw.id.length > 8);
    assert.equal(raw.last, raw.id);
    assert.ok((await server.json("/models")).includes(MODEL));
    assert.equal((await server.json("/fetch")).object, "list");
  });

  test("answers in a Durable Object", async () => {
    assert.equal(await server.text("/room"), SAYS);
  });

  test("reads the project's variables", async () => {
    assert.deepEqual(await server.json("/variables"), { COLOUR: "red", SECRET: "from a file" });
  });

  test("leaves `wrangler deploy` as it was", async () => {
    assert.equal(dryRun.code, 0);
    assert.match(dryRun.out, /env\.AI/);
    assert.deepEqual(await deploy(), dryRun);
  });

  test("follows changes of the configuration and of the Worker", async () => {
    const original = files["wrangler.jsonc"];
    // Longer, shorter, and more than once: wrangler reads the copy while it is written.
    for (const colour of ["blue".repeat(9), "b", "green"]) {
      const updated = server.says(/Local server updated and ready/);
      await writeFile(path.join(place, "wrangler.jsonc"), original.replace("red", colour));
      await updated;
      assert.equal((await server.json("/variables")).COLOUR, colour);
    }
    assert.equal((await server.json("/")).response, SAYS);
    const broken = server.says(/wrangler\.jsonc cannot be read/);
    await writeFile(path.join(place, "wrangler.jsonc"), "{");
    await broken;
    assert.equal((await server.json("/")).response, SAYS);
    await writeFile(path.join(place, "wrangler.jsonc"), original);
  });

  test("ends with all processes, and leaves only wrangler's state", async () => {
    await server.stop("SIGINT");
    assert.deepEqual(await server.left(), []);
    assert.deepEqual(await contents(place), files);
    assert.deepEqual((await readdir(path.join(place, ".wrangler"))).filter((name) => name !== "tmp"), ["state"]);
    assert.deepEqual(await readdir(path.join(home.folder, "cache", "engines")), []);
  });
});

test("dev serves an environment of a wrangler.toml, with the files that it names", async () => {
  const toml = `name = "toml"
main = "code/index.js"
compatibility_date = "2026-04-21"
tsconfig = "config/tsconfig.json"
alias = { "made-up" = "./lib/made-up.js" }
[assets]
directory = "public"
[env.staging]
vars = { COLOUR = "green" }
[env.staging.ai]
binding = "MODELS"
`;
  const place = await home.project("toml", {
    "wrangler.toml": toml,
    "code/index.js": `import { alias } from "made-up"; import { path } from "~/path.js";
export default { async fetch(request, env) { return Response.json({ alias, path, colour: env.COLOUR, secret: env.SECRET, ...(await env.MODELS.run("${MODEL}", { prompt: "Hi" })) }); } };`,
    "config/tsconfig.json": { compilerOptions: { paths: { "~/*": ["../lib/*"] } } },
    "lib/made-up.js": 'export const alias = "an alias";',
    "lib/path.js": 'export const path = "a path";',
    "public/file.txt": "an asset",
    ".dev.vars.staging": "SECRET=staged\n",
  });
  const server = await startDev(home, place, "--env", "staging");
  try {
    const { response, alias, path, colour, secret } = await server.json("/");
    assert.deepEqual([response, alias, path, colour, secret], [SAYS, "an alias", "a path", "green", "staged"]);
    assert.equal(await server.text("/file.txt"), "an asset");
  } finally {
    await server.stop();
  }
});

test("dev forwards the ids of --forward, on the account that the configuration names", async () => {
  const REMOTE = "@cf/meta/llama-3.3-70b-instruct-fp8-fast";
  const asked = [];
  const ai = new Ai({ script: [{ text: "from the service" }] });
  const service = await listening(
    createServer({
      fetch: (request) => {
        asked.push([new URL(request.url).pathname, request.headers.get("authorization")]);
        return ai.fetch(request);
      },
    }),
  );
  const place = await home.project("forward", {
    "wrangler.jsonc": config({ account_id: "mine" }),
    "src/index.js": worker().replace("/models", "/forwarded").replace(/Response\.json\(\(await ai\.models.*?\n/, `Response.json(await ai.run("${REMOTE}", { prompt: "Hi" }));\n`),
  });
  const env = { ...home.env, CLOUDFLARE_API_TOKEN: "secret", CLOUDFLARE_API_BASE_URL: `${service.url}/client/v4` };
  const server = await startDev({ ...home, env }, place, "--forward", REMOTE, "--threads=1");
  try {
    assert.ok(server.lines.some((line) => line.includes(`Workers AI answers ${REMOTE}, on your account.`)), server.lines.join("\n"));
    assert.equal((await server.json("/forwarded")).response, "from the service");
    assert.equal((await server.json("/")).response, SAYS);
    assert.deepEqual(asked.filter(([pathname]) => pathname.includes("/ai/run/")), [[`/client/v4/accounts/mine/ai/run/${REMOTE}`, "Bearer secret"]]);
  } finally {
    await server.stop();
    await service.close();
  }
});

test("dev pages serves a Pages project", async () => {
  const place = await home.project("pages", {
    "wrangler.json": { name: "pages", pages_build_output_dir: "./public", compatibility_date: "2026-04-21", ai: { binding: "AI" } },
    "public/index.html": "a page",
    "functions/ai.js": `export const onRequest = async ({ env }) => Response.json({ ...(await env.AI.run("${MODEL}", { prompt: "Hi" })), class: env.AI.constructor.name });`,
  });
  const files = await contents(place);
  const server = await startDev(home, place, "pages");
  try {
    const answer = await server.json("/ai");
    assert.deepEqual([answer.response, answer.class], [SAYS, "Ai"]);
    assert.equal(await server.text("/"), "a page");
  } finally {
    await server.stop();
  }
  assert.deepEqual(await contents(place), files);
});

describe("dev says what is missing:", { concurrency: true }, () => {
  const fails = async (files, args = []) => {
    const place = await home.project(`missing-${Math.random().toString(36).slice(2)}`, files);
    const { code, said } = await run(home, place, home.command, "dev", ...args);
    return `${code} ${said}`;
  };
  const toml = (more) => `name = "worker"\nmain = "index.js"\n${more}`;

  for (const [what, files, args, message] of [
    ["a configuration", {}, [], /^1 error: there is no wrangler\.jsonc, .* \(--config, .*\)\n$/],
    ["the configuration that is named", {}, ["-c", "other.toml"], /^1 error: there is no configuration other\.toml\n$/],
    ["a binding", { "wrangler.toml": toml("") }, [], /^1 error: wrangler\.toml has no AI binding\. Add ai = \{ binding = "AI" \} above the first \[table\]\n$/],
    ["a binding of the environment", { "wrangler.json": { name: "x", ai: { binding: "AI" }, env: { live: {} } } }, ["-e", "live"], /in the environment "live"\. Add "ai": \{ "binding": "AI" \} inside/],
    ["a value", {}, ["--gguf"], /^2 error: --gguf needs a value/],
    ["a file of weights", { "wrangler.toml": toml('[ai]\nbinding = "AI"') }, ["--gguf", "./none.gguf"], /^1 error: 3042: .*none\.gguf/],
    ["syntax", { "wrangler.toml": "name = " }, [], /^1 error: wrangler\.toml cannot be read: .*line 1/],
  ]) {
    test(what, async () => assert.match(await fails(files, args), message));
  }

  test("wrangler", async () => {
    // The temporary folder's parent has no packages.
    const { code, said } = await run(home, path.dirname(home.folder), home.command, "dev");
    assert.equal(`${code} ${said}`, "1 error: wrangler is not installed in this project: npm install --save-dev wrangler\n");
  });

  test("that nothing is remote", async () => assert.match(await fails({}, ["--remote"]), /^2 error: .*leave out --remote/));
});
