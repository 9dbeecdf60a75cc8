// The copy of a configuration (pkg/dev/config.js) and the arguments of `dev` (pkg/cli/dev.js), without wrangler.

import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { read, split } from "../../pkg/cli/dev.js";
import { bindingsOf, bound, rebase } from "../../pkg/dev/config.js";

describe("the copy of a configuration", () => {
  const moved = (raw) => rebase(raw, "/project", "/project/.wrangler/workers-ai-local/1-1");

  test("means the same files, of every environment", () => {
    assert.deepEqual(
      moved({
        $schema: "./node_modules/wrangler/config-schema.json",
        name: "worker",
        main: "src/index.ts",
        base_dir: ".",
        tsconfig: "tsconfig.json",
        alias: { one: "./lib/one.js", two: "a-package" },
        assets: { directory: "../public", binding: "ASSETS" },
        build: { command: "make", cwd: "sub" },
        d1_databases: [{ binding: "DB" }, { binding: "OTHER", migrations_dir: "sql", migrations_pattern: "sql/*/up.sql" }],
        containers: [{ image: "./Dockerfile", image_build_context: "." }, { image: "docker.io/library/redis:7" }],
        rules: [{ type: "Text", globs: ["**/*.md"] }],
        vars: { main: "src/index.ts" },
        env: { live: { main: "live.ts", build: { command: "make", watch_dir: ["a", "b"] } } },
      }),
      {
        name: "worker",
        main: "../../../src/index.ts",
        base_dir: "../../..",
        alias: { one: "../../../lib/one.js", two: "a-package" },
        assets: { directory: "../../../../public", binding: "ASSETS" },
        build: { command: "make", cwd: "sub", watch_dir: "../../../src" },
        d1_databases: [
          { binding: "DB", migrations_dir: "../../../migrations" },
          { binding: "OTHER", migrations_dir: "../../../sql", migrations_pattern: "../../../sql/*/up.sql" },
        ],
        containers: [{ image: "../../../Dockerfile", image_build_context: "../../.." }, { image: "docker.io/library/redis:7" }],
        rules: [{ type: "Text", globs: ["**/*.md"] }],
        vars: { main: "src/index.ts" },
        env: { live: { main: "../../../live.ts", build: { command: "make", watch_dir: ["../../../a", "../../../b"] } } },
      },
    );
  });

  test("has the plugin for the binding of one environment, beside other unsafe bindings", () => {
    const raw = { ai: { binding: "AI" }, unsafe: { bindings: [{ name: "X", type: "x" }] }, env: { live: { ai: { binding: "LIVE" } }, bare: {} } };
    const names = (scope) => (scope.unsafe?.bindings ?? []).map(({ name }) => name);
    const [top, live, bare] = [undefined, "live", "bare"].map((environment) => bound(raw, environment, { link: 1 }));
    assert.deepEqual([names(top), names(top.env.live)], [["X", "AI"], []]);
    assert.deepEqual([names(live), names(live.env.live)], [["X"], ["LIVE"]]);
    assert.deepEqual([names(bare), names(bare.env.live)], [["X"], []]);
    assert.deepEqual(["live", "bare", "unknown", undefined].map((environment) => bindingsOf(raw, environment)), [["LIVE"], [], ["AI"], ["AI"]]);
    for (const one of [top, live, bare]) assert.ok(!JSON.stringify(one).includes('"ai"'));
  });
});

describe("the arguments of dev", () => {
  test("are ours and wrangler's, in any order", () => {
    assert.deepEqual(split(["--port", "1", "--gguf", "a.gguf", "-e", "live", "--model=@cf/x/y", "--gguf=b.gguf", "--threads", "2", "--forward=@cf/a/b", "--lora", "mine=a/", "--", "--gguf"]), {
      own: { gguf: ["a.gguf", "b.gguf"], lora: ["mine=a/"], forward: ["@cf/a/b"], model: "@cf/x/y", threads: "2", help: false },
      others: ["--port", "1", "-e", "live", "--", "--gguf"],
    });
    for (const args of [["--gguf"], ["--model="], ["--gguf", "--port"]]) assert.throws(() => split(args), /needs a value/);
  });

  test("are passed on, except what the copy replaces", () => {
    const given = read(["src/index.ts", "-c", "a.toml", "--config=b.toml", "--env=live", "--persist-to", "state", "--env-file", ".env", "--tsconfig", "t.json", "--var", "A:1", "--", "-c"]);
    assert.deepEqual(given.config, ["a.toml", "b.toml"]);
    assert.deepEqual([given.env, given["persist-to"], given["env-file"], given.tsconfig], ["live", "state", [".env"], "t.json"]);
    assert.deepEqual(given.rest, ["src/index.ts", "--env", "live", "--var", "A:1", "--", "-c"]);
    const attached = read(["-estaging", "-c=a.toml", "--remote=false", "--types=false", "--types=true", "--local"]);
    assert.deepEqual([attached.env, attached.config, attached.rest], ["staging", ["a.toml"], ["-e", "staging", "--remote=false", "--local"]]);
    assert.deepEqual([...attached.flags].filter((flag) => ["remote", "types"].includes(flag)), ["types"]);
    assert.deepEqual([read(["pages", "dev", "./public"]).rest, read(["pages", "./public"]).rest, read(["pages", "./public"]).pages], [["./public"], ["./public"], true]);
  });
});
