// Stamps: small files that record the inputs of a finished step, so that it is repeated only if they change.

import { createHash } from "node:crypto";
import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import path from "node:path";
import { root } from "./project.mjs";

/** Returns the SHA-256 hash of a text, in hex. */
export const hashText = (text) => createHash("sha256").update(text).digest("hex");

/**
 * Returns one SHA-256 hash, in hex, of the names and contents of files and folders. The names are relative to the project; a missing file
 * or folder counts as empty.
 */
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

/** Whether a stamp has this content. */
export async function isStamped(file, content) {
  return (await readFile(file, "utf8").catch(() => null)) === content;
}

/** Writes a stamp. */
export async function stamp(file, content) {
  await mkdir(path.dirname(file), { recursive: true });
  await writeFile(file, content);
}

/** Deletes a stamp, if it exists. */
export const unstamp = (file) => rm(file, { force: true });
