// Starts a real Chromium for the browser tests.

import { chromium } from "playwright-core";
import { ensureBrowser } from "../../scripts/setup/browser.mjs";

/** Flags of every Chromium of the tests. */
export const ARGS = [
  // Test machines run as root, where Chromium's sandbox does not start.
  "--no-sandbox",
  // Tests make no requests to the network.
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** Flags that enable WebGPU with a software adapter (SwiftShader). Without them a machine without a GPU has no adapter. */
export const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];

/**
 * Starts Chromium without a window: the one that `npm test` chose (`CHROMIUM_PATH`), otherwise an installed one.
 *
 * @param {object} [options]
 * @param {string[]} [options.args] additional flags
 */
export async function launch({ args = [] } = {}) {
  const executablePath = process.env.CHROMIUM_PATH || (await ensureBrowser());
  return chromium.launch({ executablePath, args: [...ARGS, ...args] });
}

/**
 * Opens an empty page. Returns it with a list of its problems, which grows as they occur: uncaught exceptions, and errors on the
 * console, including files that were not found.
 *
 * @param {import("playwright-core").Browser} browser
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function openPage(browser, options) {
  const page = await browser.newPage(options);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    // Chromium requests an icon from every server, even if the page names none.
    const unasked = message.location().url.endsWith("/favicon.ico");
    if (message.type() === "error" && !unasked) problems.push(`${message.text()} (${message.location().url})`);
  });
  return { page, problems };
}
