// Node 24 beside the Node 22 of the scripts, for the tests of 64-bit memory: in the user's cache, because two packages with a command of the same
// name cannot both be in node_modules/.bin.

import { mkdir } from "node:fs/promises";
import { capture, run } from "../lib/process.mjs";
import { withProgress } from "../lib/report.mjs";
import { inUserCache } from "../lib/user-cache.mjs";

const VERSION = "24.21.0";

/** Installs Node 24 unless it is there, and returns the path of its program. */
export async function ensureNode24() {
  const folder = inUserCache("tools", `node-${VERSION}`);
  const program = `${folder}/node_modules/node/bin/node`;
  // An installation that was interrupted has a program that does not run.
  if ((await capture(program, ["--version"])) !== null) return program;
  await mkdir(folder, { recursive: true });
  await withProgress(`Installing Node ${VERSION}`, () =>
    run("npm", ["install", "--prefix", folder, "--no-audit", "--no-fund", "--loglevel=error", `node@${VERSION}`], { onLine: () => {} }),
  );
  return program;
}
