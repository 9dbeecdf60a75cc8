// Recipes for bundlers: each in an empty folder, with the packed tarball and a bundler of an exact version. The page that it makes runs in
// Chromium: isolated, so that it has threads. docs/browser.md shows the same recipes.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdir, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { createServer } from "node:http";
import { tmpdir } from "node:os";
import path from "node:path";
import { after, before, describe, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { freePort, listening } from "../../scripts/lib/ports.mjs";
import { launch, openPage } from "../browser/chromium.mjs";
import { scriptedModel } from "../scripted-model.mjs";
import { pack, project } from "./pack.mjs";

/** For its whole context 32-bit memory is too small. */
const MODEL = scriptedModel({ context: 1 << 24, headWidth: 128 }).bytes;
const ISOLATED = { "cross-origin-opener-policy": "same-origin", "cross-origin-embedder-policy": "require-corp" };
const TYPES = { ".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".css": "text/css" };
const PAGE = "<!doctype html><link rel=icon href='data:,'><title></title><script type=module src=/app.js></script>";

/** The program: the page's title becomes the answer, the number of threads, and the build with 64-bit memory, which takes a second request; or the error. */
const app = (options = "", from = "workers-ai-local") => `
  import { Ai } from "${from}";
  async function main() {
    const ai = new Ai({ default: "/model.gguf", threads: 2, onWarning() {}, ${options} });
    const { response } = await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi" });
    const wanted = globalThis.crossOriginIsolated ? 2 : 1;
    for (let tries = 0; tries < 500 && (await ai.stats()).threads < wanted; tries += 1) await new Promise((resolve) => setTimeout(resolve, 20));
    const { threads } = await ai.stats();
    await ai.run("@cf/meta/llama-3.1-8b-instruct", { prompt: "Hi", max_tokens: 10_000_000 });
    return response + " " + threads + " " + (await ai.stats()).wide.build;
  }
  main().then((text) => (document.title = text), (error) => (document.title = error.name + ": " + error.message));
`;

/** A configuration for webpack and Rspack. */
const likeWebpack = (bundler) => `
  import { ${bundler.endsWith("core") ? "rspack as bundle" : "default as bundle"} } from "${bundler}";
  const compiler = bundle({ mode: "production", context: process.cwd(), entry: "./app.js", output: { path: process.cwd() + "/dist", filename: "app.js", publicPath: "/" } });
  compiler.run((error, stats) => {
    if (error || stats.hasErrors()) throw error ?? new Error(stats.toString());
    compiler.close(() => {});
  });
`;

const vite = (version) => ({
  packages: [`vite@${version}`],
  files: { "index.html": PAGE, "app.js": app() },
  build: [["node_modules/.bin/vite", "build", "--logLevel", "warn"]],
  dev: (port) => ["node_modules/.bin/vite", "--port", String(port), "--strictPort", "--host", "127.0.0.1"],
});

const RECIPES = {
  "Vite 5": vite("5.4.9"),
  "Vite 6": vite("6.4.6"),
  "Vite 7": vite("7.3.8"),
  "Vite 8": vite("8.3.8"),
  "webpack 5": {
    packages: ["webpack@5.113.0"],
    files: { "app.js": app(), "build.js": likeWebpack("webpack") },
    build: [[process.execPath, "build.js"]],
    served: { "/": PAGE },
  },
  "Rspack 2": {
    packages: ["@rspack/core@2.3.3"],
    files: { "app.js": app(), "build.js": likeWebpack("@rspack/core") },
    build: [[process.execPath, "build.js"]],
    served: { "/": PAGE },
  },
  "esbuild, which does not find the Web Worker": {
    packages: ["esbuild@0.28.2"],
    files: {
      "app.js": app('worker: "/browser-worker.js", wideWorker: "/browser-wide-worker.js", wasmUrl: "/wasm"'),
      "build.js": `
        import { cp } from "node:fs/promises";
        import { build } from "esbuild";
        const engine = ["browser-worker", "browser-thread", "browser-wide-worker", "browser-wide-thread", "browser-embeddings"].map((name) => "workers-ai-local/" + name);
        await build({ entryPoints: ["app.js", ...engine], bundle: true, format: "esm", outdir: "dist", entryNames: "[name]" });
        await cp("node_modules/workers-ai-local/pkg/wasm", "dist/wasm", { recursive: true, filter: (file) => !/\\.(js|ts)$/.test(file) });
      `,
    },
    build: [[process.execPath, "build.js"]],
    served: { "/": PAGE },
  },
  "Next 16": {
    packages: ["next@16.4.6", "react@19.3.1", "react-dom@19.3.1"],
    files: {
      "next.config.mjs": 'export default { output: "export" };',
      "app/layout.jsx": "export default ({ children }) => <html><head><link rel='icon' href='data:,' /></head><body>{children}</body></html>;",
      "app/page.jsx": '"use client";\nimport { useEffect } from "react";\nexport default function Page() {\n  useEffect(() => void import("./answer.js"), []);\n  return <p>A page</p>;\n}',
      "app/answer.js": app(),
    },
    env: { NEXT_TELEMETRY_DISABLED: "1" },
    build: [["node_modules/.bin/next", "build"]],
    out: "out",
  },
};

let browser;
let folder;
let tarball;
before(async () => {
  browser = await launch();
  folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-tarball-"));
  tarball = await pack(folder);
});
after(async () => {
  await browser?.close();
  await rm(folder, { recursive: true, force: true });
});

/** The title that the page of a server gets. */
async function titleOf(url) {
  const { page } = await openPage(browser);
  try {
    await page.goto(url);
    await page.waitForFunction(() => / \d \w|Error/.test(document.title), undefined, { timeout: 60_000 });
    return await page.title();
  } finally {
    await page.close();
  }
}

/** Serves what a bundler has made, and the model. */
function serve(dist, served) {
  const server = createServer(async (request, response) => {
    const { pathname } = new URL(request.url, "http://localhost");
    const file = pathname === "/" ? "index.html" : pathname;
    const body = pathname === "/model.gguf" ? MODEL : (served[pathname] ?? (await readFile(path.join(dist, decodeURIComponent(file))).catch(() => undefined)));
    const type = TYPES[path.extname(file)] ?? "application/octet-stream";
    response.writeHead(body === undefined ? 404 : 200, { "content-type": type, ...ISOLATED }).end(body);
  });
  return listening(server);
}

for (const [name, { packages, files, env = {}, build, dev, out = "dist", served = {} }] of Object.entries(RECIPES)) {
  describe(name, () => {
    let own;
    before(async () => {
      own = await project();
      for (const [file, text] of Object.entries({ ...files, "public/model.gguf": MODEL })) {
        await mkdir(path.dirname(path.join(own.folder, file)), { recursive: true });
        await writeFile(path.join(own.folder, file), text);
      }
      await own.run("npm", "install", "--no-audit", "--no-fund", "--save-exact", tarball, ...packages);
      Object.assign(process.env, env);
    });
    after(() => own?.remove());

    test("the built page answers, with threads", async (t) => {
      for (const [command, ...args] of build) await own.run(command, ...args);
      const server = await serve(path.join(own.folder, out), served);
      t.after(server.close);
      assert.equal(await titleOf(server.url), "Hello there! 2 wasm64-threads");
    });

    if (dev) {
      test("the page of the dev server answers, without settings", async (t) => {
        const port = await freePort();
        const [command, ...args] = dev(port);
        const child = spawn(path.join(own.folder, command), args, { cwd: own.folder, stdio: "ignore" });
        t.after(() => child.kill());
        const url = `http://127.0.0.1:${port}/`;
        for (let tries = 0; tries < 300 && !(await fetch(url).then(({ ok }) => ok, () => false)); tries += 1) await sleep(100);
        assert.equal(await titleOf(url), "Hello there! 1 wasm64");
      });
    }
  });
}
