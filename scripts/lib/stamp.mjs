// Stamps: small files that remember what a finished step was done for, so that it is not done twice.

import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { root } from "./project.mjs";

export const hashText = (text) => createHash("sha256").update(text).digest("hex");

/** One hash over names and contents of files and folders given relative to the project; missing ones count as empty. */
export async function hashFiles(...names) {
  const hash = createHash("sha256");
  for (const name of names) {
    for (const file of await filesUnder(path.join(root, name))) {
      hash.update(`${path.relative(root, file)}\0`).update(await readFile(file)).update("\0");
    }
  }
  return hash.digest("hex");
}

async function filesUnder(place) {
  const entries = await readdir(place, { recursive: true, withFileTypes: true }).catch((error) => error.code);
  if (entries === "ENOTDIR") return [place];
  if (entries === "ENOENT") return [];
  if (typeof entries === "string") throw new Error(`cannot read ${place}: ${entries}`);
  return entries
    .filter((entry) => entry.isFile())
    .map((entry) => path.join(entry.parentPath ?? entry.path, entry.name))
    .sort();
}

export async function isStamped(file, content) {
  return (await readFile(file, "utf8").catch(() => null)) === content;
}

export async function stamp(file, content) {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, content);
}

export const unstamp = (file) => rm(file, { force: true });
