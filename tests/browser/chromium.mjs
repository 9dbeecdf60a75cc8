// A real Chromium for the browser tests.

import { chromium } from "playwright-core";
import { ensureBrowser } from "../../scripts/setup/browser.mjs";

const ARGS = [
  // Test machines run as root, where Chromium's sandbox does not start.
  "--no-sandbox",
  // Nothing goes out to the network from a test.
  "--disable-quic",
  "--no-first-run",
  "--disable-background-networking",
  "--disable-component-update",
  "--disable-sync",
];

/** WebGPU on the CPU, by SwiftShader. Without these a machine that has no GPU has no adapter. */
export const SOFTWARE_GPU = ["--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader", "--enable-features=Vulkan"];

/**
 * Starts Chromium without a window: the one that `npm test` chose, otherwise an installed one.
 *
 * @param {object} [options]
 * @param {string[]} [options.args] further flags
 */
export async function launch({ args = [] } = {}) {
  const executablePath = process.env.CHROMIUM_PATH || (await ensureBrowser());
  return chromium.launch({ executablePath, args: [...ARGS, ...args] });
}

/**
 * An empty page, and the list of what went wrong in it, which grows as it happens: exceptions nobody caught, and
 * errors on the console, among them files that were not found.
 *
 * @param {import("playwright-core").Browser} browser
 * @param {import("playwright-core").BrowserContextOptions} [options]
 */
export async function openPage(browser, options) {
  const page = await browser.newPage(options);
  const problems = [];
  page.on("pageerror", (error) => problems.push(String(error)));
  page.on("console", (message) => {
    // Chromium asks every server for an icon, unasked.
    const unasked = message.location().url.endsWith("/favicon.ico");
    if (message.type() === "error" && !unasked) problems.push(`${message.text()} (${message.location().url})`);
  });
  return { page, problems };
}
