// The npm packages of package-lock.json, Node 22 among them.

import { readFile } from "node:fs/promises";
import { inProject, npmBin } from "../lib/project.mjs";
import { isProgram, run } from "../lib/process.mjs";
import { UserError, withProgress } from "../lib/report.mjs";

export async function ensurePackages() {
  if (await upToDate()) return;
  await withProgress("Installing npm packages", () =>
    run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { onLine: () => {} }),
  );
  if (!isProgram(npmBin("node"))) {
    throw new UserError("npm did not run the packages' install scripts: run `npm ci --ignore-scripts=false`, then try again");
  }
}

/** npm keeps a lock file of what it really installed; it is compared with ours, so an `npm ci` by hand counts too. */
async function upToDate() {
  if (!isProgram(npmBin("node"))) return false;
  const [wanted, installed] = await Promise.all([
    readPackages("package-lock.json"),
    readPackages("node_modules/.package-lock.json"),
  ]);
  if (!wanted) throw new UserError("package-lock.json is missing or broken: restore it with `git checkout package-lock.json`");
  if (!installed) return false;
  return Object.entries(wanted).every(([place, { version, optional }]) => {
    // Optional packages for other systems are in our lock file and never installed.
    if (place === "" || (optional && !installed[place])) return true;
    return installed[place]?.version === version;
  });
}

async function readPackages(name) {
  try {
    return JSON.parse(await readFile(inProject(name), "utf8")).packages;
  } catch {
    return null;
  }
}
