// The npm packages of package-lock.json, including Node 22.

import { readFile } from "node:fs/promises";
import { inProject, npmBin } from "../lib/project.mjs";
import { isProgram, run } from "../lib/process.mjs";
import { UserError, withProgress } from "../lib/report.mjs";

/**
 * Installs the npm packages unless they are up to date.
 *
 * @throws {UserError} if package-lock.json is missing or broken, or if the installation fails
 */
export async function ensurePackages() {
  if (await upToDate()) return;
  await withProgress("Installing npm packages", () =>
    run("npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"], { onLine: () => {} }),
  );
  if (!isProgram(npmBin("node"))) {
    throw new UserError("npm did not run the packages' install scripts: run `npm ci --ignore-scripts=false`, then try again");
  }
}

/** Compares our lock file with the one that npm writes for the installed packages, so that a manual `npm ci` is recognised too. */
async function upToDate() {
  if (!isProgram(npmBin("node"))) return false;
  const [wanted, installed] = await Promise.all([
    readPackages("package-lock.json"),
    readPackages("node_modules/.package-lock.json"),
  ]);
  if (!wanted) throw new UserError("package-lock.json is missing or broken: restore it with `git checkout package-lock.json`");
  if (!installed) return false;
  return Object.entries(wanted).every(([place, { version, optional }]) => {
    // The lock file also lists optional packages for other systems, which are never installed.
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
