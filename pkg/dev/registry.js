// The file by which processes find an engine: who writes it, and whether what it names still runs.

import { createHmac, randomBytes } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { mkdir, readFile, rename, rm, rmdir, stat, writeFile } from "node:fs/promises";
import path from "node:path";
import { isSame } from "../secret.js";

/**
 * @typedef {object} Entry what the file says of a running engine
 * @property {string} address host and port
 * @property {string} key the key that its requests must have
 * @property {number} pid its process
 * @property {string} version the package's
 */

/** The path, without its challenge, that proves that an engine runs. */
export const HEALTH = "/workers-ai-local/health?";
const HEALTH_LIMIT_MS = 1_000;
/** Longer than what is done under a lock takes. */
const LOCK_LIMIT_MS = 5_000;
const LOCK_WAIT_MS = 20;

/**
 * The running engine that a file names. If there is none, the file names `entry` from now on.
 *
 * @param {string} file
 * @param {Entry} entry
 * @returns {Promise<Entry | undefined>} `undefined` also if the folder cannot be written: then nobody finds the engine of `entry`
 */
export async function findOrRegister(file, entry) {
  const known = await otherThan(entry, file);
  if (known) return known;
  const part = `${file}.${process.pid}.part`;
  try {
    await mkdir(path.dirname(file), { recursive: true, mode: 0o700 });
    return await alone(`${file}.lock`, async () => {
      // Another process may have been faster.
      const found = await otherThan(entry, file);
      if (found) return found;
      await writeFile(part, JSON.stringify(entry), { mode: 0o600 });
      await rename(part, file);
      return undefined;
    });
  } catch {
    await rm(part, { force: true }).catch(() => {});
    return undefined;
  }
}

/**
 * Does something that no other process does at the same time.
 *
 * @template T
 * @param {string} lock a folder that exists meanwhile
 * @param {() => Promise<T>} work
 * @returns {Promise<T>}
 */
async function alone(lock, work) {
  for (;;) {
    try {
      await mkdir(lock);
      break;
    } catch (error) {
      if (error.code !== "EEXIST") throw error;
    }
    const { mtimeMs } = await stat(lock).catch(() => ({ mtimeMs: Date.now() }));
    // Its process was ended in the middle, or a clock has changed.
    if (Math.abs(Date.now() - mtimeMs) > LOCK_LIMIT_MS) await removed(lock);
    else await new Promise((resolve) => setTimeout(resolve, LOCK_WAIT_MS));
  }
  try {
    return await work();
  } finally {
    await rmdir(lock).catch(() => {});
  }
}

/** @param {string} lock */
async function removed(lock) {
  await rmdir(lock).catch((error) => {
    // Another process was faster.
    if (error.code !== "ENOENT") throw error;
  });
}

/**
 * The running engine that a file names, unless it is the one of `entry`.
 *
 * @param {Entry} entry
 * @param {string} file
 */
async function otherThan(entry, file) {
  const found = await readEntry(file);
  return found && found.key !== entry.key && (await isAlive(found)) ? found : undefined;
}

/** What a damaged file says: an engine that does not answer. */
const NO_ENGINE = { address: "127.0.0.1:0", key: "", pid: 0, version: "" };

/**
 * The entry in a file; `undefined` if there is none that this user wrote.
 *
 * @param {string} file
 * @returns {Promise<Entry | undefined>}
 */
async function readEntry(file) {
  let text;
  try {
    const { uid } = await stat(file);
    if (process.getuid && uid !== process.getuid()) return undefined;
    text = await readFile(file, "utf8");
  } catch {
    return undefined;
  }
  try {
    const entry = JSON.parse(text);
    return /^127\.0\.0\.1:\d+$/.test(entry.address) && typeof entry.key === "string" ? entry : NO_ENGINE;
  } catch {
    return NO_ENGINE;
  }
}

/**
 * Whether the engine of an entry answers, and knows its key: another program may have its port by now.
 *
 * @param {Entry} entry
 * @returns {Promise<boolean>}
 */
async function isAlive({ address, key }) {
  const challenge = randomBytes(16).toString("hex");
  try {
    const answer = await fetch(`http://${address}${HEALTH}${challenge}`, { signal: AbortSignal.timeout(HEALTH_LIMIT_MS) });
    return isSame(await answer.text(), proof(key, challenge));
  } catch {
    return false;
  }
}

/**
 * Shows the knowledge of a key without telling it.
 *
 * @param {string} key
 * @param {string} challenge
 */
export const proof = (key, challenge) => createHmac("sha256", key).update(challenge).digest("hex");

/**
 * Removes the entry of an engine, unless the file is already another's.
 *
 * @param {string} file
 * @param {string} key the engine's
 */
export function withdraw(file, key) {
  try {
    if (JSON.parse(readFileSync(file, "utf8")).key === key) rmSync(file);
  } catch {
    // Already gone, or never written.
  }
}
