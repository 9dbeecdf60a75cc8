// `Ai`s in a process of their own: a thread has one engine, whose build the first `Ai` decides.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** A process that does not end by itself within this time has something that keeps it. */
const LIMIT_MS = 60_000;
const PACKAGE = new URL("../../pkg/node.js", import.meta.url).href;

/**
 * Runs `work(Ai, argument)` in a process of its own, to that process's end, and gives what it returns.
 *
 * @param {(Ai: typeof import("../../pkg/index.d.ts").Ai, argument: any) => Promise<any>} work closes over nothing
 * @param {object} [options]
 * @param {any} [options.argument]
 * @param {() => void} [options.before] changes the engine before the package is loaded
 * @param {string} [options.address] of the package, where it is not this one
 * @param {Record<string, string>} [options.env] further environment variables
 * @param {number} [options.limit] milliseconds
 */
export async function inOneProcess(work, { argument, before = () => {}, address = PACKAGE, env = {}, limit = LIMIT_MS } = {}) {
  const script = `
    (${before})();
    const { Ai } = await import(${JSON.stringify(address)});
    const result = await (${work})(Ai, ${JSON.stringify(argument)});
    process.stdout.write(JSON.stringify(result ?? null));`;
  const { stdout } = await promisify(execFile)(process.execPath, ["--input-type=module", "-e", script], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    env: { ...process.env, ...env },
    timeout: limit,
    maxBuffer: 1 << 24,
  });
  return JSON.parse(stdout);
}
