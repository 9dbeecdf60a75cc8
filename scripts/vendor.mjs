// Bundles the libraries of the playground: scripts/vendor/ → www/vendor/. The page loads nothing from another origin.

import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { fileURLToPath } from "node:url";
import { inProject } from "./lib/project.mjs";
import { UserError, main } from "./lib/report.mjs";

const ENTRIES = ["markdown", "json-schema"];
export const VENDOR_FILES = ENTRIES.map((name) => `www/vendor/${name}.js`);

/** The terms of the MIT licence, for a package that names the licence but does not carry its text. */
const MIT = `Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to
deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or
sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN
THE SOFTWARE.`;

/** Takes less than a second, so it is never up to date but always done. @returns {Promise<string[]>} the packages that the bundles contain */
export async function vendor({ write = true } = {}) {
  // An npm package, which `npm run build` may only just have installed.
  const { build } = await import("esbuild");
  const { metafile } = await build({
    absWorkingDir: inProject(),
    entryPoints: ENTRIES.map((name) => `scripts/vendor/${name}.js`),
    outdir: "www/vendor",
    bundle: true,
    format: "esm",
    target: "es2022",
    minify: true,
    // THIRD-PARTY-NOTICES has the licences.
    legalComments: "none",
    metafile: true,
    write,
  });
  const packages = Object.keys(metafile.inputs).flatMap((file) => /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(file)?.[1] ?? []);
  return [...new Set(packages)].sort();
}

/**
 * The bundled packages with the texts of their licences, for THIRD-PARTY-NOTICES.
 *
 * @returns {Promise<{title: string, text: string}[]>}
 * @throws {UserError} if a package has no text of its licence
 */
export async function vendorNotices() {
  return Promise.all((await vendor({ write: false })).map(noticeOf));
}

/** @param {string} name */
async function noticeOf(name) {
  const folder = inProject("node_modules", ...name.split("/"));
  const { version, license, author } = JSON.parse(await readFile(path.join(folder, "package.json"), "utf8"));
  const file = (await readdir(folder)).find((entry) => /^licen[cs]e/i.test(entry));
  const title = `${name} ${version} (${license}), https://www.npmjs.com/package/${name}`;
  // @cfworker/json-schema has the file in its repository only.
  if (!file && license === "MIT" && author) return { title, text: `Copyright (c) ${(author.name ?? author).replace(/ *<.*>/, "")}\n\n${MIT}` };
  if (!file) throw new UserError(`the npm package ${name} ${version} (${license}) has no licence text: see scripts/vendor.mjs`);
  const text = (await readFile(path.join(folder, file), "utf8")).replaceAll("\r\n", "\n").trim();
  return { title, text };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main(vendor);
