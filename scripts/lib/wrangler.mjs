// Runs wrangler with the project's Node 22, without network access and without interactive questions.

import { inProject, npmBin, withNode22 } from "./project.mjs";

/** The folder in which wrangler stores local data such as R2 buckets, relative to the project. */
export const STATE_FOLDER = ".wrangler/state";

/** Returns the command, arguments and environment that run wrangler with `args`. */
export const wranglerCommand = (...args) => ({
  command: npmBin("node"),
  args: [inProject("node_modules", "wrangler", "bin", "wrangler.js"), ...args],
  env: withNode22({
    CI: "true",
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_NO_SKILLS_UPDATE_PROMPTS: "true",
    // Use a placeholder for `request.cf` instead of fetching the real one from Cloudflare at every start.
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    WRANGLER_LOG_PATH: inProject(".wrangler", "logs"),
  }),
});
