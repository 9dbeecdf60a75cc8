// A cache folder of this test process's own: what it fetches by address or name is not left on the machine. To be imported before the package is used.
// The default models stay where they are: they are named by their paths.

import { rmSync, mkdtempSync } from "node:fs";
import { tmpdir } from "node:os";
import path from "node:path";

/** The folder. */
export const CACHE = mkdtempSync(path.join(tmpdir(), "workers-ai-local-cache-"));

process.env.WORKERS_AI_LOCAL_CACHE = CACHE;
process.once("exit", () => rmSync(CACHE, { recursive: true, force: true, maxRetries: 3 }));
