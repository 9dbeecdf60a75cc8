// Where things are in this project.

import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));

/** An absolute path inside the project. */
export const inProject = (...parts) => path.join(root, ...parts);

/** A command that an npm package of ours installed. */
export const npmBin = (name) => inProject("node_modules", ".bin", name);

/** The environment in which our Node 22 (wrangler needs it) comes before the system's Node. */
export const withNode22 = (env = {}) => ({
  ...env,
  PATH: [inProject("node_modules", ".bin"), process.env.PATH].join(path.delimiter),
});
