// What all clones of a user share: the compiled dependencies of cargo and tools made for this machine.

import { link, mkdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import os from "node:os";
import path from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { modelFolder } from "../../pkg/default-model.js";
import { isRunning } from "../../pkg/running.js";
import { root } from "./project.mjs";
import { run } from "./process.mjs";
import { say } from "./report.mjs";

/** An absolute path in the user's cache folder, the one that holds the default model too. */
export const inUserCache = (...parts) => path.join(modelFolder(process.env, os.homedir()), ...parts);

const LOOK_AGAIN_MS = 500;

/** The packages of this workspace whose outputs cargo tells apart by the clone's path, or does not tell apart at all. */
const OWN_PACKAGES = ["workers-ai-local", "workers-ai-local-kernels", "workers-ai-local-embeddings", "instant", "bindgen"];

/**
 * Lends cargo's target folder `name` to one clone at a time. Dependencies stay compiled for every clone. The workspace's own packages are
 * those of one clone: another clone removes them first, because cargo would take that clone's library for its own, and because every
 * deleted clone would leave its test programs behind.
 *
 * @template T
 * @param {string} name one for each configuration of the compiler
 * @param {object} options
 * @param {string} options.cargo
 * @param {Record<string, string>} [options.env] cargo's environment
 * @param {string[]} [options.clean] further arguments of `cargo clean`: the profile and the target that the folder is for
 * @param {(folder: string) => Promise<T>} work
 * @returns {Promise<T>}
 */
export async function withCargoTarget(name, { cargo, env = {}, clean = [] }, work) {
  const folder = inUserCache("cargo", name);
  return withLock(folder, async () => {
    const owner = path.join(folder, "owner");
    const before = await readFile(owner, "utf8").catch(() => null);
    if (before !== null && before !== root) {
      const own = OWN_PACKAGES.flatMap((name) => ["--package", name]);
      await run(cargo, ["clean", ...own, ...clean], { env: { ...env, CARGO_TARGET_DIR: folder }, onLine: () => {} });
    }
    await writeFile(owner, root);
    return work(folder);
  });
}

/** Runs `work` while no other process of this user works in `folder`. The lock is a file with the process's id; that of a dead process is removed. */
async function withLock(folder, work) {
  await mkdir(folder, { recursive: true });
  const lock = path.join(folder, "lock");
  for (let told = false; !(await take(lock)); told = true) {
    const holder = Number(await readFile(lock, "utf8").catch(() => 0));
    if (holder && !isRunning(holder)) await removeLockOf(holder, lock);
    else if (!told && holder) say(`Waiting for process ${holder}, which compiles in ${folder} …`);
    await sleep(LOOK_AGAIN_MS);
  }
  try {
    return await work();
  } finally {
    await rm(lock, { force: true });
  }
}

/** A hard link fails where the lock exists, and the file it links to is complete: nobody ever reads half an id. */
async function take(lock) {
  const own = `${lock}.${process.pid}`;
  await writeFile(own, String(process.pid));
  try {
    await link(own, lock);
    return true;
  } catch (error) {
    if (error.code === "EEXIST") return false;
    throw error;
  } finally {
    await rm(own, { force: true });
  }
}

/** Renames before it removes, and puts back what is not the dead process's: another process may have taken the lock meanwhile. */
async function removeLockOf(holder, lock) {
  const stale = `${lock}.stale-${process.pid}`;
  try {
    await rename(lock, stale);
    if (Number(await readFile(stale, "utf8")) !== holder) await rename(stale, lock);
  } catch (error) {
    // Somebody else removed it first.
    if (error.code !== "ENOENT") throw error;
  }
  await rm(stale, { force: true });
}
