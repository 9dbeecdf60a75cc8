// The local R2 bucket from which the Worker reads the default model under `wrangler dev`.

import { stat } from "node:fs/promises";
import { DEFAULT_MODEL } from "../../pkg/default-model.js";
import { STATE_FOLDER, wranglerCommand } from "../lib/wrangler.mjs";
import { inProject } from "../lib/project.mjs";
import { run } from "../lib/process.mjs";
import { withProgress } from "../lib/report.mjs";
import { isStamped, stamp } from "../lib/stamp.mjs";

const BUCKET = "models";
// In the state folder, so that deleting the state also deletes the stamp.
const STAMP = inProject(STATE_FOLDER, "model.stamp");

/**
 * Puts a model file into the bucket, unless it is there already. Requires the npm packages.
 *
 * @param {string} modelPath any GGUF file; the object gets the default model's file name, which the Worker requests
 */
export async function ensureLocalBucket(modelPath) {
  const { size, mtimeMs } = await stat(modelPath);
  const content = `${BUCKET}/${DEFAULT_MODEL.file} ${modelPath} ${size} ${mtimeMs}`;
  if (await isStamped(STAMP, content)) return;
  const { command, args, env } = wranglerCommand(
    ...["r2", "object", "put", `${BUCKET}/${DEFAULT_MODEL.file}`, "--file", modelPath],
    ...["--local", "--persist-to", STATE_FOLDER],
  );
  await withProgress("Putting the model into the local R2 bucket", () =>
    run(command, args, { env, onLine: () => {} }),
  );
  await stamp(STAMP, content);
}
