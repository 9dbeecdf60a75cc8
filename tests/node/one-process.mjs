// Runs tests of `Ai` in a separate process: a thread has only one engine, and the first `Ai` decides its build.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";

/** If a process does not exit within this time, something keeps its event loop alive. */
const LIMIT_MS = 60_000;
const PACKAGE = new URL("../../pkg/node.js", import.meta.url).href;

/**
 * Runs `work(Ai, argument)` in a new process, waits until that process exits, and returns the result (as JSON carries it).
 *
 * @param {(Ai: typeof import("../../pkg/index.d.ts").Ai, argument: any) => Promise<any>} work is passed as source text: no closure
 * @param {object} [options]
 * @param {any} [options.argument] must be serialisable as JSON
 * @param {() => void} [options.before] changes the JavaScript environment before the package is imported; passed as source text too
 * @param {string} [options.address] the URL of the package's entry, if not this repository's
 * @param {Record<string, string>} [options.env] additional environment variables
 * @param {string} [options.node] the program of Node, if not the one that runs the tests
 * @param {number} [options.limit] timeout in milliseconds
 * @throws if the process fails or does not exit within `limit`
 */
export async function inOneProcess(work, { argument, before = () => {}, address = PACKAGE, env = {}, node = process.execPath, limit = LIMIT_MS } = {}) {
  const script = `
    (${before})();
    const { Ai } = await import(${JSON.stringify(address)});
    const result = await (${work})(Ai, ${JSON.stringify(argument)});
    process.stdout.write(JSON.stringify(result ?? null));`;
  const { stdout } = await promisify(execFile)(node, ["--input-type=module", "-e", script], {
    cwd: fileURLToPath(new URL("../..", import.meta.url)),
    env: { ...process.env, ...env },
    timeout: limit,
    maxBuffer: 1 << 24,
  });
  return JSON.parse(stdout);
}
