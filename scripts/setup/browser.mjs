// Chromium for the browser tests. Using the package does not require it.

import { existsSync } from "node:fs";
import { aptInstall } from "../lib/apt.mjs";
import { npmBin, withNode22 } from "../lib/project.mjs";
import { CommandFailed, capture, run, which } from "../lib/process.mjs";
import { UserError, say, withProgress } from "../lib/report.mjs";

const NAMES = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/**
 * Returns the path of a working Chromium and installs one if necessary. Requires the npm packages.
 *
 * @throws {UserError} if there is none and none can be installed
 */
export async function ensureBrowser() {
  const chosen = process.env.CHROMIUM_PATH;
  if (chosen) {
    if (await starts(chosen)) return chosen;
    throw new UserError(`CHROMIUM_PATH=${chosen} does not start: set it to a Chromium's path, or unset it`);
  }
  const browser =
    (await installed()) ??
    ((await aptInstall("Chromium", ["chromium"])) ? await installed() : null) ??
    ((await installWithPlaywright()) ? await installed() : null);
  if (browser) return browser;
  throw new UserError("no Chromium: install it (Debian: `apt-get install chromium`) or set CHROMIUM_PATH to one");
}

async function installed() {
  for (const file of [...NAMES.map(which), await playwrightsOwn()]) {
    if (file && (await starts(file))) return file;
  }
  return null;
}

/**
 * Whether a browser starts. Existence is not enough: Ubuntu's /usr/bin/chromium-browser may be a script that only explains how to install
 * one.
 */
const starts = async (file) => existsSync(file) && (await capture(file, ["--version"])) !== null;

/** The path of Playwright's own Chromium, which may not exist. */
async function playwrightsOwn() {
  const { chromium } = await import("playwright-core");
  try {
    return chromium.executablePath();
  } catch {
    return null;
  }
}

async function installWithPlaywright() {
  try {
    await withProgress("Installing Chromium with Playwright", (note) =>
      run(npmBin("playwright-core"), ["install", "chromium"], {
        env: withNode22(),
        onLine: (line) => note(line.slice(0, 60)),
      }),
    );
    return true;
  } catch (error) {
    if (!(error instanceof CommandFailed)) throw error;
    say(`  ${error.message}`);
    return false;
  }
}
