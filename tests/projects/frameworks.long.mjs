// The imports for development, and `dev`, with the published packages that they are for. Each group has the versions of one workspace.

import assert from "node:assert/strict";
import { cp, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { freePort } from "../../scripts/lib/ports.mjs";
import { examples } from "./examples.mjs";
import { ANSWERS_OF, NAMED, namedModels } from "./named.mjs";
import { MODEL, SAYS, bin, config, contents, run, start, startDev, worker, workspace } from "./project.mjs";

/** A group of tests with a workspace. `space` is set when they run. */
function group(name, install, tests) {
  describe(name, () => {
    const here = {};
    before(async () => Object.assign(here, await workspace({ install })));
    after(() => here.remove?.());
    tests(here);
  });
}

/** What every way of serving the Worker of `worker()` must answer. */
async function answers(server) {
  const answer = await server.json("/");
  assert.deepEqual([answer.response, answer.class], [SAYS, "Ai"]);
  assert.match(await server.text("/stream"), /data: \[DONE\]\n\n$/);
  assert.deepEqual(await server.json("/error"), { name: "AiError", message: "5007: No such model @cf/no/such or task", isError: true });
  assert.equal(await server.text("/room"), SAYS);
  const raw = await server.json("/raw");
  assert.deepEqual([raw.response, raw.last], [SAYS, raw.id]);
}

for (const version of ["4.164.0", "4.124.0", "4.40.0", "4.36.0"]) {
  group(`wrangler ${version}`, [`wrangler@${version}`], (space) => {
    test("dev", async () => {
      const place = await space.project("worker", { "wrangler.jsonc": config({ compatibility_date: "2025-05-01" }), "src/index.js": worker() });
      const server = await startDev(space, place);
      try {
        await answers(server);
      } finally {
        await server.stop();
      }
      assert.deepEqual(await server.left(), []);
    });
  });
}

group("a project with wrangler 4.164.0", ["wrangler@4.164.0", "hono@4.13.19"], (space) => {
  test("the examples of docs/wrangler.md", async () => {
    const place = await space.project("docs", examples("wrangler.md"));
    const server = await startDev(space, place);
    try {
      assert.equal(await server.text("/"), SAYS);
    } finally {
      await server.stop();
    }
  });

  test("Hono, with an answer and a stream", async () => {
    const place = await space.project("hono", {
      "wrangler.jsonc": { name: "hono", main: "src/index.ts", compatibility_date: "2026-04-21", ai: { binding: "AI" } },
      "src/index.ts": `import { Hono } from "hono";
        const app = new Hono<{ Bindings: { AI: Ai } }>();
        app.get("/", async (c) => c.json(await c.env.AI.run("${MODEL}", { prompt: "Hi" })));
        app.get("/stream", async (c) => c.body((await c.env.AI.run("${MODEL}", { prompt: "Hi", stream: true })) as ReadableStream, 200, { "content-type": "text/event-stream" }));
        export default app;`,
    });
    const server = await startDev(space, place);
    try {
      assert.equal((await server.json("/")).response, SAYS);
      assert.match(await server.text("/stream"), /data: \[DONE\]\n\n$/);
    } finally {
      await server.stop();
    }
  });

  test("a queue's consumer, and a Workflow", async () => {
    const place = await space.project("others", {
      "wrangler.jsonc": config({
        durable_objects: undefined,
        migrations: undefined,
        queues: { producers: [{ binding: "QUEUE", queue: "q" }], consumers: [{ queue: "q", max_batch_timeout: 0 }] },
        kv_namespaces: [{ binding: "KV", id: "kv" }],
        workflows: [{ binding: "FLOW", name: "flow", class_name: "Flow" }],
      }),
      "src/index.js": `import { WorkflowEntrypoint } from "cloudflare:workers";
        const ask = async (env) => (await env.AI.run("${MODEL}", { prompt: "Hi" })).response;
        export class Flow extends WorkflowEntrypoint { run(event, step) { return step.do("ask", () => ask(this.env)); } }
        export default {
          async fetch(request, env) {
            const { pathname } = new URL(request.url);
            if (pathname === "/send") { await env.QUEUE.send("Hi"); return new Response("sent"); }
            if (pathname === "/start") return new Response((await env.FLOW.create()).id);
            if (pathname.startsWith("/flow/")) return Response.json(await (await env.FLOW.get(pathname.slice(6))).status());
            return new Response(await env.KV.get("answer"));
          },
          async queue(batch, env) { await env.KV.put("answer", await ask(env)); },
        };`,
    });
    const server = await startDev(space, place);
    const until = async (get, wanted) => {
      for (let attempt = 0; attempt < 100; attempt++) {
        const got = await get();
        if (got === wanted) return;
        await new Promise((resolve) => setTimeout(resolve, 100));
      }
      assert.fail(`never ${wanted}`);
    };
    try {
      await server.get("/send");
      await until(() => server.text("/"), SAYS);
      const id = await server.text("/start");
      await until(async () => (await server.json(`/flow/${id}`)).output, SAYS);
    } finally {
      await server.stop();
    }
  });

  test("two Workers, of which the second has the binding", async () => {
    const place = await space.project("two", {
      "web/wrangler.jsonc": { name: "web", main: "index.js", compatibility_date: "2026-04-21", services: [{ binding: "API", service: "api" }] },
      "web/index.js": "export default { fetch: (request, env) => env.API.fetch(request) };",
      "api/wrangler.jsonc": { name: "api", main: "index.js", compatibility_date: "2026-04-21", ai: { binding: "AI" } },
      "api/index.js": `export default { fetch: async (request, env) => Response.json(await env.AI.run("${MODEL}", { prompt: "Hi" })) };`,
    });
    const server = await startDev(space, place, "-c", "web/wrangler.jsonc", "-c", "api/wrangler.jsonc");
    try {
      assert.equal((await server.json("/")).response, SAYS);
    } finally {
      await server.stop();
    }
  });

  test("wrangler types stays what it was", async () => {
    const place = await space.project("types", { "wrangler.jsonc": config(), "src/index.js": worker() });
    const types = async () => {
      const { code } = await run(space, place, await bin(space, "wrangler"), "types", "--include-runtime=false");
      assert.equal(code, 0);
      return readFile(path.join(place, "worker-configuration.d.ts"), "utf8");
    };
    const was = await types();
    assert.match(was, /AI: Ai;/);
    const server = await startDev(space, place);
    assert.equal(await types(), was);
    await server.stop();
    assert.equal(await types(), was);
  });

  test("dev --types, and a configuration that asks for them, write the project's own", async () => {
    for (const [args, dev] of [[["--types"], {}], [[], { generate_types: true }]]) {
      const place = await space.project("asked-types", { "wrangler.jsonc": config({ dev }), "src/index.js": worker() });
      const server = await startDev(space, place, ...args);
      try {
        const file = path.join(place, "worker-configuration.d.ts");
        for (let attempt = 0; attempt < 100 && !(await readFile(file, "utf8").catch(() => "")); attempt++) await new Promise((resolve) => setTimeout(resolve, 100));
        assert.match(await readFile(file, "utf8"), /AI: Ai;/);
      } finally {
        await server.stop();
      }
      await rm(place, { recursive: true });
    }
  });

  test("getPlatformProxy: the example of docs/frameworks.md, and other bindings", async () => {
    const place = await space.project("proxy", {
      "wrangler.jsonc": config({ kv_namespaces: [{ binding: "KV", id: "kv" }], vars: { COLOUR: "red" }, durable_objects: undefined, migrations: undefined }),
      "src/index.js": "export default {};",
      ".dev.vars": "SECRET=secret\n",
      "server.js": examples("frameworks.md")["server.js"],
      "more.js": `import { getPlatformProxy } from "workers-ai-local/platform-proxy";
        const { env, cf, ctx, caches, dispose } = await getPlatformProxy({ ai: { onWarning() {} } });
        await env.KV.put("a", "b");
        const error = await env.AI.run("@cf/no/such", { prompt: "Hi" }).catch((error) => error);
        console.log(JSON.stringify([await env.KV.get("a"), env.COLOUR, env.SECRET, typeof cf, typeof ctx.waitUntil, typeof caches.open, error.name, error.message]));
        await dispose();`,
    });
    const files = await contents(place);
    assert.equal((await run(space, place, path.join(place, "server.js"))).out.split("\n").at(-2), SAYS);
    const { code, out } = await run(space, place, path.join(place, "more.js"));
    assert.equal(code, 0);
    assert.deepEqual(JSON.parse(out.trim().split("\n").at(-1)), ["b", "red", "secret", "object", "function", "function", "AiError", "5007: No such model @cf/no/such or task"]);
    assert.deepEqual(await contents(place), files);
    assert.deepEqual(await readdir(path.join(place, ".wrangler")), ["state"]);
  });
});

for (const version of ["4.20260730.0", "5.20261117.0-beta"]) {
  group(`Miniflare ${version}`, [`miniflare@${version}`], (space) => {
    const own = version.startsWith("5");
    const example = examples("frameworks.md")["miniflare.js"];

    test("the example of docs/frameworks.md", async () => {
      const converted = example
        .replace("{ Miniflare }", "{ Miniflare, convertV4MiniflareOptions }")
        .replace(/new Miniflare\((.*)\);/, "new Miniflare(convertV4MiniflareOptions($1));");
      const place = await space.project("miniflare", { "miniflare.js": own ? converted : example });
      assert.equal((await run(space, place, path.join(place, "miniflare.js"))).out, `${SAYS}\n`);
    });

    test("two Workers, in the form of this version", async () => {
      const place = await space.project("two", {
        "two.js": `import * as miniflare from "miniflare";
          import { withLocalAi } from "workers-ai-local/miniflare";
          const script = "export default { async fetch(request, env) { return new Response((await env.MODELS.run('${MODEL}', { prompt: 'Hi' })).response); } }";
          const workers = ["one", "two"].map((name) => ({ name, modules: true, script, compatibilityDate: "2025-06-01" }));
          const options = await withLocalAi(${own ? "miniflare.convertV4MiniflareOptions({ workers })" : "{ workers }"}, { binding: "MODELS", onWarning() {} });
          const mf = new miniflare.Miniflare(options);
          for (const name of ["one", "two"]) console.log(await (await (await mf.getWorker(name)).fetch("http://localhost/")).text());
          await mf.dispose();`,
      });
      assert.equal((await run(space, place, path.join(place, "two.js"))).out, `${SAYS}\n${SAYS}\n`);
    });
  });
}

for (const vite of ["8.3.8", "7.3.8", "6.4.6"]) {
  group(`Vite ${vite}`, [`vite@${vite}`, "@cloudflare/vite-plugin@1.64.0", "wrangler@4.164.0"], (space) => {
    let place;
    let program;
    before(async () => {
      program = await bin(space, "vite");
      const example = examples("vite.md")["vite.config.js"];
      place = await space.project("vite", {
        "wrangler.jsonc": config(),
        "src/index.js": worker(),
        "vite.config.js": example,
        "without.config.js": example.replace(", localAi()", ""),
      });
    });
    const serve = async (command, at = place) => start(space, at, [program, command, "--port", String(await freePort()), "--strictPort"], { ready: /Local:\s+(http:\S+)/ });

    test("dev", async () => {
      const server = await serve("dev");
      try {
        await answers(server);
      } finally {
        await server.stop();
      }
    });

    test("dev, with a model and an adapter that the configuration file names", async () => {
      const named = await namedModels();
      const own = await space.project("named", {
        ...named.files,
        "wrangler.jsonc": config({ durable_objects: undefined, migrations: undefined }),
        "src/index.js": `${ANSWERS_OF}\nexport default { fetch: async (request, env) => Response.json(await answersOf(env.AI)) };\n`,
        "vite.config.js": examples("vite.md")["vite.config.js"],
      });
      try {
        const server = await serve("dev", own);
        try {
          assert.deepEqual(await server.json("/"), NAMED);
        } finally {
          await server.stop();
        }
      } finally {
        await named.close();
      }
    });

    test("a build is the same with the plugin and without it; and the preview answers", async () => {
      const built = async (name) => {
        const { code, said } = await run(space, place, program, "build", "--config", name);
        assert.equal(code, 0, said);
        const files = await contents(path.join(place, "dist"));
        return Object.fromEntries(Object.entries(files).map(([file, text]) => [file, text.replaceAll("without.config.js", "vite.config.js")]));
      };
      const without = await built("without.config.js");
      await rm(path.join(place, "dist"), { recursive: true });
      assert.deepEqual(await built("vite.config.js"), without);
      assert.match(JSON.stringify(without), /\\"ai\\":\{\\"binding\\":\\"AI\\"/);
      const server = await serve("preview");
      try {
        await answers(server);
      } finally {
        await server.stop();
      }
    });
  });
}

for (const [plugin, version, vitest] of [
  ["@cloudflare/vitest-plugin", "1.5.0", "5.1.2"],
  ["@cloudflare/vitest-pool-workers", "0.23.0", "4.1.12"],
]) {
  group(`${plugin} ${version}`, [`${plugin}@${version}`, `vitest@${vitest}`], (space) => {
    const files = Object.fromEntries(Object.entries(examples("vitest.md")).map(([name, text]) => [name, text.replaceAll("@cloudflare/vitest-plugin", plugin)]));
    const passes = async (place, count) => {
      const { code, out, said } = await run(space, place, await bin(space, "vitest"), "run");
      assert.equal(code, 0, out + said);
      assert.match(out, new RegExp(`Tests\\s+${count} passed \\(${count}\\)`));
      assert.doesNotMatch(out + said, /unhandled/i);
    };

    test("the examples of docs/vitest.md", async () => {
      const place = await space.project("docs", { ...files, "wrangler.jsonc": config(), "src/index.js": worker() });
      const was = await contents(place);
      await passes(place, 3);
      assert.deepEqual(await contents(place), was);
    });

    test("a model and an adapter that the configuration file names", async () => {
      const named = await namedModels();
      const place = await space.project("named", {
        ...named.files,
        "wrangler.jsonc": config(),
        "src/index.js": worker(),
        "vitest.config.js": files["vitest.config.js"],
        "test/names.test.js": `import { env } from "cloudflare:workers";
          import { expect, test } from "vitest";
          ${ANSWERS_OF}
          test("both", async () => expect(await answersOf(env.AI)).toEqual(${JSON.stringify(NAMED)}));`,
      });
      try {
        await passes(place, 1);
      } finally {
        await named.close();
      }
    });

    test("the Worker and its Durable Object; no configuration, and another binding", async () => {
      const options = `{ main: "./src/index.js", miniflare: { compatibilityDate: "2026-04-21", durableObjects: { ROOM: "Room" } } }, { binding: "MODELS", onWarning() {} }`;
      const place = await space.project("options", {
        "vitest.config.js": files["vitest.config.js"].replace('{ wrangler: { configPath: "./wrangler.jsonc" } }', `() => (${options.split(", { binding")[0]}), { binding${options.split(", { binding")[1]}`),
        "src/index.js": worker("MODELS"),
        "test/worker.test.js": `import { SELF } from "cloudflare:test";
          import { expect, test } from "vitest";
          test("Worker", async () => expect((await (await SELF.fetch("http://localhost/")).json()).response).toBe("${SAYS}"));
          test("object", async () => expect(await (await SELF.fetch("http://localhost/room")).text()).toBe("${SAYS}"));`,
      });
      await passes(place, 2);
    });
  });
}

describe("create-cloudflare 2.74.0", () => {
  let space;
  before(async () => (space = await workspace()));
  after(() => space?.remove());

  test("its own template, with an ai binding", async () => {
    const flags = ["--type", "hello-world", "--lang", "js", "--no-deploy", "--no-git", "--no-open", "--no-agents", "--accept-defaults"];
    const made = await run(space, space.folder, "npx", "--yes", "create-cloudflare@2.74.0", "made", ...flags);
    assert.equal(made.code, 0, made.out + made.said);
    const place = path.join(space.folder, "made");
    const file = path.join(place, "wrangler.jsonc");
    await writeFile(file, (await readFile(file, "utf8")).replace('"observability"', '"ai": { "binding": "AI" },\n\t"observability"'));
    await writeFile(path.join(place, "src", "index.js"), worker().replace(/export class Room.*?\n}\n\n/s, ""));
    await cp(path.join(space.folder, "node_modules", "workers-ai-local"), path.join(place, "node_modules", "workers-ai-local"), { recursive: true });
    const server = await startDev(space, place);
    try {
      assert.equal((await server.json("/")).response, SAYS);
    } finally {
      await server.stop();
    }
  });
});
