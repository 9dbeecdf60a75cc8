// Calling wrangler: under our Node 22, and without anything that reaches out of this machine or waits for an answer.

import { inProject, npmBin, withNode22 } from "./project.mjs";

/** Where wrangler keeps local R2 buckets and the like, relative to the project. */
export const STATE_FOLDER = ".wrangler/state";

export const wranglerCommand = (...args) => ({
  command: npmBin("node"),
  args: [inProject("node_modules", "wrangler", "bin", "wrangler.js"), ...args],
  env: withNode22({
    CI: "true",
    WRANGLER_SEND_METRICS: "false",
    WRANGLER_SEND_ERROR_REPORTS: "false",
    WRANGLER_HIDE_BANNER: "true",
    WRANGLER_NO_SKILLS_UPDATE_PROMPTS: "true",
    // Made-up `request.cf`: the real one would be fetched from Cloudflare at every start.
    CLOUDFLARE_CF_FETCH_ENABLED: "false",
    WRANGLER_LOG_PATH: inProject(".wrangler", "logs"),
  }),
});
