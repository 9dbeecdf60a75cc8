// Paths of this project.

import path from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("../../", import.meta.url));

/** Returns an absolute path inside the project. */
export const inProject = (...parts) => path.join(root, ...parts);

/** Returns the path of a command that one of the project's npm packages installs. */
export const npmBin = (name) => inProject("node_modules", ".bin", name);

/** Returns an environment whose PATH has the project's Node 22, which wrangler needs, before the system's Node. */
export const withNode22 = (env = {}) => ({
  ...env,
  PATH: [inProject("node_modules", ".bin"), process.env.PATH].join(path.delimiter),
});
