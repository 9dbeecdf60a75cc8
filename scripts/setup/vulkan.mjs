// A software Vulkan driver for the tests of the GPU backend, native and in Node. Using the package does not require it.

import { existsSync, readdirSync } from "node:fs";
import { aptInstall } from "../lib/apt.mjs";
import { say } from "../lib/report.mjs";

const DRIVERS = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
/** Folders that may contain Chromium's SwiftShader: slower than Mesa's driver, but installed with the browser of the tests. */
const SWIFTSHADER = ["/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome"];

/**
 * Returns environment variables with which native programs find an adapter. If there is none, prints a warning; tests that
 * need an adapter then report that it is missing.
 */
export async function ensureVulkan() {
  if (hasMesa() || process.env.VK_DRIVER_FILES) return {};
  if ((await aptInstall("a software Vulkan driver", ["mesa-vulkan-drivers", "libvulkan1"])) && hasMesa()) return {};
  const own = swiftShader();
  if (own) return own;
  say("No Vulkan driver is installed (Debian: `apt-get install mesa-vulkan-drivers`): the native tests of the GPU backend will fail, unless they find a GPU on this machine.");
  return {};
}

/**
 * Returns environment variables with which Dawn, the WebGPU implementation of Node, finds an adapter. Dawn rejects Mesa versions as old
 * as Debian 12's, so SwiftShader, which is installed with the browser of the tests, is preferred.
 */
export const vulkanForDawn = () => (process.env.VK_DRIVER_FILES ? {} : (swiftShader() ?? {}));

/** Environment variables that select Chromium's SwiftShader, or undefined if it is not installed. */
function swiftShader() {
  const folder = SWIFTSHADER.find((folder) => existsSync(`${folder}/vk_swiftshader_icd.json`));
  if (!folder) return undefined;
  const libraries = [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
  return { VK_DRIVER_FILES: `${folder}/vk_swiftshader_icd.json`, LD_LIBRARY_PATH: libraries };
}

/** Whether llvmpipe, Mesa's software driver, is installed. */
const hasMesa = () => DRIVERS.some((folder) => existsSync(folder) && readdirSync(folder).some((name) => name.startsWith("lvp_icd")));
