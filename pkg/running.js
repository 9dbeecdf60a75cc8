// Processes: whether one runs, and what tells one from all others.

import { readFileSync, readlinkSync } from "node:fs";

/**
 * What tells a process from all others where the system says it, which Linux does. A container has its own process ids, so an id alone may be that of
 * another process.
 *
 * @typedef {object} ProcessIdentity
 * @property {number} pid
 * @property {string} place in which `pid` is unique: a PID namespace since a boot
 * @property {string} started when it started, in clock ticks since the boot: process ids are used again
 */

/** @param {number} pid */
export function isRunning(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    // It runs, and belongs to another user.
    return error.code === "EPERM";
  }
}

/** This process; `undefined` where the system does not say enough. @returns {ProcessIdentity | undefined} */
export function thisProcess() {
  try {
    const place = `${readFileSync("/proc/sys/kernel/random/boot_id", "utf8").trim()} ${readlinkSync("/proc/self/ns/pid")}`;
    const { pid, started } = statusOf("self");
    // Otherwise this /proc is that of another PID namespace.
    return pid === process.pid ? { pid, place, started } : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Whether a process has ended; `undefined` if that cannot be known from here.
 *
 * @param {Partial<ProcessIdentity>} identity as `thisProcess` gave it there
 */
export function hasEnded({ pid, place, started }) {
  if (pid === undefined || place === undefined || place !== thisProcess()?.place) return undefined;
  if (!isRunning(pid)) return true;
  try {
    return statusOf(pid).started !== started;
  } catch {
    // The processes of other users may be hidden.
    return false;
  }
}

/** @param {number | "self"} pid */
function statusOf(pid) {
  const text = readFileSync(`/proc/${pid}/stat`, "utf8");
  // The second field is the name of the program, which may contain spaces and parentheses. The time is the 22nd.
  return { pid: parseInt(text, 10), started: text.slice(text.lastIndexOf(")") + 2).split(" ")[19] };
}
