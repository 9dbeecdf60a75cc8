// The tarball that npm makes, installed in empty projects.

import { execFile } from "node:child_process";
import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import path from "node:path";
import { promisify } from "node:util";
import { fileURLToPath } from "node:url";
import { builds } from "../../pkg/wasm/builds.js";

export const ROOT = fileURLToPath(new URL("../../", import.meta.url));

const execute = promisify(execFile);

/** Packs the package with the builds that exist, also where those are not all. Resolves to the tarball's path. */
export async function pack(folder) {
  const env = { ...process.env, WORKERS_AI_LOCAL_BUILDS: Object.keys(builds).join(",") };
  const { stdout } = await execute("npm", ["pack", "--json", "--pack-destination", folder], { cwd: ROOT, env });
  const [{ filename }] = JSON.parse(stdout.slice(stdout.indexOf("[")));
  return path.join(folder, filename);
}

/**
 * Makes a project in a folder that knows nothing of this one.
 *
 * @param {Record<string, string | Uint8Array>} files
 * @returns {Promise<{folder: string, run(command: string, ...args: string[]): Promise<{stdout: string, stderr: string}>, remove(): Promise<void>}>}
 */
export async function project(files = {}) {
  const folder = await mkdtemp(path.join(tmpdir(), "workers-ai-local-project-"));
  const all = { "package.json": JSON.stringify({ name: "project", private: true, type: "module" }), ...files };
  for (const [name, content] of Object.entries(all)) await writeFile(path.join(folder, name), content);
  const env = { ...process.env, npm_config_loglevel: "error", npm_config_update_notifier: "false" };
  return {
    folder,
    run: (command, ...args) => execute(command, args, { cwd: folder, env, maxBuffer: 1 << 26 }),
    remove: () => rm(folder, { recursive: true, force: true }),
  };
}
