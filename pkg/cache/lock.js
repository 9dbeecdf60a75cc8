// A lock between processes: a file that says who holds it, and is touched while it is held.

import { randomUUID } from "node:crypto";
import { readFileSync, rmSync } from "node:fs";
import { mkdir, open, readFile, rm, rmdir, stat, utimes } from "node:fs/promises";
import { hasEnded, thisProcess } from "../running.js";

/**
 * @import { ProcessIdentity } from "../running.js"
 *
 * @typedef {{token: string} & Partial<ProcessIdentity>} Holder what the file says
 */

const TOUCH_EVERY_MS = 2_000;
/** Who has not touched the file for so long has ended, or stands still: then it is taken from them. */
const STALE_AFTER_MS = 15_000;
const LOOK_EVERY_MS = 250;
/** Longer than a takeover takes. */
const TAKEOVER_LIMIT_MS = 5_000;

/**
 * Does something while no other process does it. `holds` says whether this process still has the lock, which it loses if it stands still for
 * long (a laptop that sleeps, a stopped process).
 *
 * @template T
 * @param {string} file the lock
 * @param {(holds: () => Promise<boolean>) => Promise<T>} work
 * @param {object} [options]
 * @param {AbortSignal} [options.signal] ends the waiting
 * @param {() => void | Promise<void>} [options.onWait] called again and again while another process holds the lock
 * @returns {Promise<T>}
 */
export async function alone(file, work, { signal, onWait = () => {} } = {}) {
  const token = randomUUID();
  while (!(await taken(file, token))) {
    signal?.throwIfAborted();
    if (await isStale(file)) await takeAway(file);
    else {
      await onWait();
      await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS));
    }
  }
  const touching = setInterval(() => void utimes(file, new Date(), new Date()).catch(() => {}), TOUCH_EVERY_MS);
  touching.unref();
  // A command may end in the middle.
  const leave = () => void (tokenOf(file) === token && rmSync(file, { force: true }));
  process.once("exit", leave);
  const holds = async () => (await holderOf(file))?.token === token;
  try {
    return await work(holds);
  } finally {
    clearInterval(touching);
    process.removeListener("exit", leave);
    if (await holds()) await rm(file, { force: true }).catch(() => {});
  }
}

/**
 * Whether the lock is this process's now.
 *
 * @param {string} file
 * @param {string} token
 */
async function taken(file, token) {
  /** @type {import("node:fs/promises").FileHandle} */
  let handle;
  try {
    handle = await open(file, "wx", 0o600);
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  }
  try {
    await handle.writeFile(JSON.stringify({ token, pid: process.pid, ...thisProcess() })).finally(() => handle.close());
    return true;
  } catch (error) {
    // A full disk takes the name of a file, but not what it says. Others would wait for nobody.
    await rm(file, { force: true });
    throw error;
  }
}

/** @param {string} file @returns {Promise<Holder | undefined>} */
async function holderOf(file) {
  try {
    return JSON.parse(await readFile(file, "utf8"));
  } catch {
    // Gone, or not yet written.
    return undefined;
  }
}

/** The same at the end of a process, which waits for nothing. @param {string} file @returns {string | undefined} */
function tokenOf(file) {
  try {
    return JSON.parse(readFileSync(file, "utf8")).token;
  } catch {
    return undefined;
  }
}

/** Whether the process that holds the lock has ended or stands still. @param {string} file */
async function isStale(file) {
  const touched = await stat(file).catch(() => undefined);
  if (!touched) return false;
  if (Math.abs(Date.now() - touched.mtimeMs) > STALE_AFTER_MS) return true;
  const holder = await holderOf(file);
  return holder !== undefined && hasEnded(holder) === true;
}

/**
 * Removes a stale lock. Only one process at a time looks and removes: otherwise a slow one would remove the lock that a fast one has taken since.
 *
 * @param {string} file
 */
async function takeAway(file) {
  const guard = `${file}.takeover`;
  try {
    await mkdir(guard);
  } catch (error) {
    // Whoever cannot write here would wait for ever.
    if (error.code !== "EEXIST") throw error;
    const { mtimeMs } = await stat(guard).catch(() => ({ mtimeMs: Date.now() }));
    if (Math.abs(Date.now() - mtimeMs) > TAKEOVER_LIMIT_MS) await rmdir(guard).catch(() => {});
    return void (await new Promise((resolve) => setTimeout(resolve, LOOK_EVERY_MS)));
  }
  try {
    if (await isStale(file)) await rm(file, { force: true });
  } finally {
    await rmdir(guard).catch(() => {});
  }
}
