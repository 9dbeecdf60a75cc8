// Installs Debian and Ubuntu packages, where this is possible without a password.

import { CommandFailed, capture, run, which } from "./process.mjs";
import { say, withProgress } from "./report.mjs";

let listsAreFresh = false;

/**
 * Installs packages. Returns false if that is impossible or fails; a failure of apt-get is reported in one line.
 *
 * @param {string} what the name of the software, for the progress line
 * @param {string[]} packages names of Debian packages
 */
export async function aptInstall(what, packages) {
  const asRoot = await rootPrefix();
  if (!asRoot) return false;
  const apt = (note, ...args) =>
    run(asRoot[0], [...asRoot.slice(1), ...args], { env: { DEBIAN_FRONTEND: "noninteractive" }, onLine: note });
  try {
    await withProgress(`Installing ${what} with apt-get (${packages.join(" ")})`, async (note) => {
      const step = (line) => note(line.slice(0, 60));
      if (!listsAreFresh) await apt(step, "update");
      listsAreFresh = true;
      // --no-remove: never remove a package that is already installed.
      await apt(step, "install", "-y", "--no-install-recommends", "--no-remove", ...packages);
    });
    return true;
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    say(`  ${error.message}`);
    return false;
  }
}

async function rootPrefix() {
  if (!which("apt-get")) return null;
  if (process.getuid?.() === 0) return ["apt-get"];
  if ((await capture("sudo", ["-n", "true"])) === null) return null;
  return ["sudo", "-n", "DEBIAN_FRONTEND=noninteractive", "apt-get"];
}
