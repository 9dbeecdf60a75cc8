// The notices that licences ask for: of everything that cargo compiles into the package's WebAssembly, and of the playground's libraries.

import { execFile } from "node:child_process";
import { readFile, readdir } from "node:fs/promises";
import path from "node:path";
import { promisify } from "node:util";
import { root } from "./project.mjs";
import { UserError } from "./report.mjs";

/** Files of a crate that hold a licence or a notice. */
const LEGAL = /^(licen[cs]e|copying|unlicense|notice|copyright)/i;
const RULE = "-".repeat(80);

/**
 * The text of THIRD-PARTY-NOTICES. Where a crate may be used under Apache-2.0, the package uses it so; the text of that licence is the
 * package's own LICENSE.
 *
 * @param {object} options
 * @param {string} options.cargo
 * @param {string} options.target the target for which the crates are compiled
 * @param {{title: string, text: string}[]} options.libraries the npm packages in `www/vendor/`
 * @throws {UserError} if a crate's licence has no text
 */
export async function thirdPartyNotices({ cargo, target, libraries }) {
  const crates = await compiledCrates(cargo, target);
  const [apache, others] = [crates.filter(mayBeApache), crates.filter((crate) => !mayBeApache(crate))];
  /** Crates by the text that they share. */
  const byText = new Map();
  for (const crate of others) {
    for (const text of await textsOf(crate, crates)) byText.set(text, [...(byText.get(text) ?? []), crate]);
  }
  const notices = [];
  for (const crate of apache) {
    for (const { name, text } of await legalFiles(crate)) if (/^notice/i.test(name)) notices.push(`${title(crate)}\n\n${text}`);
  }
  return `${[
    "The WebAssembly modules of workers-ai-local (pkg/wasm/) contain code of the following Rust crates, and of Rust's standard library with the\ncrates that it contains (The Rust Project contributors, used under Apache-2.0).",
    `Used under Apache-2.0, the licence in the file LICENSE:\n\n${apache.map(credit).join("\n")}`,
    ...notices,
    ...[...byText].map(([text, users]) => `${users.map(title).join("\n")}\n\n${text}`),
    "The playground (www/vendor/) contains code of the following npm packages.",
    ...libraries.map(({ title, text }) => `${title}\n\n${text}`),
  ].join(`\n\n${RULE}\n\n`)}\n`;
}

const title = ({ name, version, license, repository }) => `${name} ${version} (${license})${repository ? `, ${repository}` : ""}`;

/** A line for a crate, with its authors where it names them. */
const credit = (crate) => {
  const authors = crate.authors.map((author) => author.replace(/ *<.*>/, "")).filter(Boolean);
  return `- ${title(crate)}${authors.length > 0 ? `, by ${authors.join(", ")}` : ""}`;
};

const mayBeApache = ({ license }) => !/ AND /.test(license ?? "") && (license ?? "").split(/ OR |\//).includes("Apache-2.0");

/** The crates that become part of the module, by their names: neither our own nor those that only run while it is compiled. */
async function compiledCrates(cargo, target) {
  const { stdout } = await promisify(execFile)(cargo, ["metadata", "--locked", "--format-version", "1", "--filter-platform", target], { cwd: root, maxBuffer: 1 << 28 });
  const { packages, resolve, workspace_members: own } = JSON.parse(stdout);
  const crateOf = new Map(packages.map((crate) => [crate.id, crate]));
  const depsOf = new Map(resolve.nodes.map((node) => [node.id, node.deps]));
  const found = new Set();
  const visit = (id) => {
    if (found.has(id)) return;
    found.add(id);
    for (const { pkg, dep_kinds: kinds } of depsOf.get(id)) {
      const onlyCompiles = crateOf.get(pkg).targets.some(({ kind }) => kind.includes("proc-macro"));
      if (!onlyCompiles && kinds.some(({ kind }) => kind === null)) visit(pkg);
    }
  };
  visit(resolve.root);
  // A module of its own.
  for (const id of own) if (crateOf.get(id).name === "workers-ai-local-embeddings") visit(id);
  return [...found]
    .filter((id) => !own.includes(id))
    .map((id) => crateOf.get(id))
    .sort((one, other) => (one.name < other.name ? -1 : 1));
}

/** A crate's files with a licence or a notice. */
async function legalFiles({ manifest_path: manifest }) {
  const folder = path.dirname(manifest);
  const names = (await readdir(folder)).filter((name) => LEGAL.test(name)).sort();
  return Promise.all(names.map(async (name) => ({ name, text: (await readFile(path.join(folder, name), "utf8")).replaceAll("\r\n", "\n").trim() })));
}

/** The texts of a crate's licences, from its own files, or else from another crate of its repository. */
async function textsOf(crate, crates) {
  const repository = ({ repository }) => repository?.replace(/\.git$|\/$|\/tree\/.*$/g, "");
  for (const other of [crate, ...crates.filter((other) => other !== crate && repository(other) && repository(other) === repository(crate) && other.license === crate.license)]) {
    // Of several licences to choose from, that is all but the one in LICENSE.
    const texts = (await legalFiles(other)).map(({ text }) => text).filter((text) => !/^\s*Apache License\s/.test(text));
    if (texts.length > 0) return texts;
  }
  throw new UserError(`the crate ${crate.name} ${crate.version} (${crate.license}) has no licence text: see scripts/lib/notices.mjs`);
}
