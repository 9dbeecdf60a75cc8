// The package as npm delivers it: packed, installed in an empty project, and run there.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { cp, mkdtemp, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { promisify } from "node:util";
import { pathToFileURL } from "node:url";
import { ALL_BUILDS } from "../../scripts/build.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { ROOT, pack, project } from "./pack.mjs";

const SAYS = "Hello there!";

let own;
/** The folder of the installed package, and its files. */
let installed;
let files;
const node = async (file, text) => {
  await writeFile(path.join(own.folder, file), text);
  return (await own.run(process.execPath, file)).stdout;
};
const textOf = (file) => readFile(path.join(installed, file), "utf8");

before(async () => {
  own = await project({ "model.gguf": scriptedModel().bytes });
  const tarball = await pack(own.folder);
  await own.run("npm", "install", "--no-audit", "--no-fund", "--offline", tarball);
  installed = path.join(own.folder, "node_modules", "workers-ai-local");
  files = await readdir(installed, { recursive: true });
});
after(() => own?.remove());

describe("the packed package", () => {
  test("holds what its entries import, and no sources, tests or models", async () => {
    const { exports, bin, main, types, typesVersions } = JSON.parse(await textOf("package.json"));
    const named = (value) => (typeof value === "string" ? [value] : Object.values(value).flatMap(named));
    const entries = [exports, bin, main, types, typesVersions].flatMap(named).filter((file) => !file.includes("*"));
    for (const file of [...entries, "wrangler.toml", "README.md", "LICENSE", "THIRD-PARTY-NOTICES", "www/index.html", "www/vendor/markdown.js", "www/vendor/json-schema.js"]) {
      assert.ok(files.includes(path.normalize(file)), `${file} is missing`);
    }
    for (const list of ["builds.js", "single-builds.js", "thread-builds.js", "wide-builds.js", "workerd-builds.js"]) {
      const builds = await textOf(`pkg/wasm/${list}`);
      for (const [, file] of builds.matchAll(/(?:import\(|URL\(|from )"\.\/([^"]+)"/g)) assert.ok(files.includes(path.join("pkg", "wasm", file)), `${file} is missing`);
    }
    const others = files.filter((file) => /\.(rs|gguf|test\.mjs)$|^(src|tests|scripts|target|node_modules)\//.test(file));
    assert.deepEqual(others, []);
  });

  test("says where it comes from, and under which licences", async () => {
    const { license, repository, homepage, bugs, keywords } = JSON.parse(await textOf("package.json"));
    assert.equal(license, "Apache-2.0");
    assert.ok(repository.url && homepage && bugs && keywords.includes("workers-ai"));
    assert.match(await textOf("LICENSE"), /^\s*Apache License\s+Version 2\.0.*END OF TERMS AND CONDITIONS/s);
    const notices = await textOf("THIRD-PARTY-NOTICES");
    // A crate under each kind of licence, and one whose text is that of another crate of its repository.
    for (const crate of ["candle-core", "wgpu", "llguidance", "foldhash", "yoke", "pulp-wasm-simd-flag"]) assert.match(notices, new RegExp(`^(- )?${crate} \\d`, "m"));
    // What the playground contains.
    for (const name of ["marked", "dompurify", "highlight.js", "@cfworker/json-schema"]) assert.match(notices, new RegExp(`^${name} \\d`, "m"));
    assert.match(notices, /Permission is hereby granted, free of charge/);
    assert.match(notices, /UNICODE LICENSE V3/);
    assert.doesNotMatch(notices, /workers-ai-local-kernels|^- syn /m, "neither our own crates nor those that only run while it is compiled");
  });

  test("has only links that lead somewhere", async () => {
    const pages = files.filter((file) => file.endsWith(".md"));
    assert.ok(pages.includes("README.md") && pages.length > 3);
    // The sections of a page, as GitHub names them.
    const anchors = async (page) =>
      [...(await textOf(page)).matchAll(/^#+ (.+)$/gm)].map(([, title]) => title.toLowerCase().replaceAll(/[^\p{L}\p{N} _-]/gu, "").replaceAll(" ", "-"));
    for (const page of pages) {
      const text = (await textOf(page)).replaceAll(/```[\s\S]*?```/g, "");
      for (const [, link] of text.matchAll(/\]\(([^)\s]+)\)/g)) {
        if (link === undefined || /^[a-z]+:/.test(link)) continue;
        const [file, anchor] = link.split("#");
        const target = file ? path.join(path.dirname(page), file) : page;
        assert.ok(files.includes(path.normalize(target)), `${page} links to ${link}, which is not packed`);
        if (anchor) assert.ok((await anchors(target)).includes(anchor), `${page} links to ${link}, and there is no such section`);
      }
    }
  });

  test("answers from a module", async () => {
    const out = await node(
      "module.mjs",
      `import { Ai } from "workers-ai-local";
       const ai = new Ai({ default: "./model.gguf", onWarning() {} });
       console.log((await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi" })).response);`,
    );
    assert.equal(out, `${SAYS}\n`);
  });

  test("reads streams with its entry for server-sent events", async () => {
    const out = await node(
      "events.mjs",
      `import { Ai } from "workers-ai-local";
       import { eventData } from "workers-ai-local/sse";
       const ai = new Ai({ default: "./model.gguf", onWarning() {} });
       const stream = await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi", stream: true });
       for await (const data of eventData(stream)) if (data !== "[DONE]") process.stdout.write(JSON.parse(data).response);`,
    );
    assert.equal(out, SAYS);
  });

  test("answers from CommonJS, as a stream", async () => {
    const out = await node(
      "common.cjs",
      `const ours = process.version.startsWith("v20") ? import("workers-ai-local") : Promise.resolve(require("workers-ai-local"));
       ours.then(async ({ Ai }) => {
         const ai = new Ai({ default: "./model.gguf", onWarning() {} });
         const stream = await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi", stream: true });
         process.stdout.write(await new Response(stream).text());
       });`,
    );
    const pieces = [...out.matchAll(/^data: (\{.*\})$/gm)].map(([, json]) => JSON.parse(json).response);
    assert.equal(pieces.join(""), SAYS);
    assert.match(out, /data: \[DONE\]\n\n$/);
  });

  for (const [what, conditions, entry] of [
    ["Node", [], "node.js"],
    ["wrangler, for workerd", ["workerd", "worker", "browser"], "workerd.js"],
    ["a bundler, for a page", ["browser"], "browser.js"],
    ["webpack, for a web worker", ["worker", "browser"], "browser.js"],
  ]) {
    test(`has the entry ${entry} for ${what}`, async () => {
      const flags = conditions.flatMap((condition) => ["--conditions", condition]);
      const ask = 'console.log(import.meta.resolve("workers-ai-local"))';
      const { stdout } = await own.run(process.execPath, ...flags, "--input-type=module", "--eval", ask);
      assert.equal(stdout.trim(), pathToFileURL(path.join(installed, "pkg", entry)).href);
    });
  }

  test("has its command", async () => {
    const command = path.join(own.folder, "node_modules", ".bin", "workers-ai-local");
    const { stdout } = await own.run(command, "run", "--gguf", "model.gguf", "Hi");
    assert.equal(stdout, `${SAYS}\n`);
    const { version } = JSON.parse(await readFile(path.join(ROOT, "package.json"), "utf8"));
    assert.equal((await own.run(command, "--version")).stdout, `${version}\n`);
  });
});

describe("what cannot be packed", () => {
  /** Runs the check in a copy of what it looks at, from which something is taken. */
  async function refusal(t, spoil) {
    const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-unpackable-"));
    t.after(() => rm(folder, { recursive: true, force: true }));
    const there = (name) => path.join(folder, name);
    // The sources of cargo's workspace, which it reads to list the crates.
    for (const name of ["package.json", "README.md", "LICENSE", "wrangler.toml", "docs", "pkg", "www", "scripts", "src", "clock", "embeddings", "kernels", "examples", "tests", "Cargo.toml", "Cargo.lock"]) {
      await cp(path.join(ROOT, name), there(name), { recursive: true, filter: (source) => !/node_modules|target$/.test(path.relative(ROOT, source)) });
    }
    await spoil(there);
    const env = { ...process.env };
    delete env.WORKERS_AI_LOCAL_BUILDS;
    const failure = await promisify(execFile)(process.execPath, ["scripts/prepack.mjs"], { cwd: folder, env }).catch((error) => error);
    return { said: failure.stderr, code: failure.code };
  }
  /** All builds but one. */
  const OTHERS = ALL_BUILDS.filter((build) => build !== "simd128");
  const list = (there) => there("pkg/wasm/builds.js");

  test("an unbuilt package", async (t) => {
    const { said, code } = await refusal(t, (there) => rm(there("pkg/wasm"), { recursive: true }));
    assert.deepEqual([code, said], [1, "error: the package is not built, pkg/wasm/builds.js is missing: run npm run build\n"]);
  });

  test("one in which a build is missing, or older than its sources", async (t) => {
    const { said } = await refusal(t, (there) => rm(there("pkg/wasm/relaxed"), { recursive: true, force: true }));
    assert.equal(said, "error: the package is not built, pkg/wasm/relaxed/workers_ai_local.js is missing: run npm run build\n");
    const older = await refusal(t, async (there) => {
      // Each build is there, and not all are listed.
      for (const build of OTHERS) await cp(there("pkg/wasm/simd128"), there(`pkg/wasm/${build}`), { recursive: true });
      const listed = await readFile(list(there), "utf8");
      await writeFile(list(there), listed.replace(/^ {2}"relaxed": .*\n/m, ""));
    });
    assert.equal(older.said, 'error: the build "relaxed" is older than its sources: run npm run build\n');
  });

  test("one without a file that belongs to it", async (t) => {
    const { said, code } = await refusal(t, async (there) => {
      for (const build of OTHERS) await cp(there("pkg/wasm/simd128"), there(`pkg/wasm/${build}`), { recursive: true });
      const entry = (build) => `  "${build}": { glue: () => import("./simd128/workers_ai_local.js"), wasm: new URL("./", import.meta.url) },\n`;
      await writeFile(list(there), `export const builds = {\n${["simd128", ...OTHERS].map(entry).join("")}};\n`);
      await rename(there("pkg/sse.js"), there("pkg/sse.mjs"));
      await rm(there("LICENSE"));
    });
    assert.deepEqual([code, said], [1, "error: ./pkg/sse.js, LICENSE are missing: restore them with git, or take them out of package.json\n"]);
    assert.ok((await stat(path.join(ROOT, "THIRD-PARTY-NOTICES"))).size > 10_000);
  });
});
