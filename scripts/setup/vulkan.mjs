// A Vulkan that computes on the CPU, for the tests of the GPU backend, natively and in Node. The product does not need one.

import { existsSync, readdirSync } from "node:fs";
import { aptInstall } from "../lib/apt.mjs";
import { say } from "../lib/report.mjs";

const DRIVERS = ["/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d"];
/** Where Chromium's own one lies: slower, but it comes with the browser of the tests. */
const SWIFTSHADER = ["/usr/lib/chromium", "/usr/lib/chromium-browser", "/opt/google/chrome"];

/** The environment in which native programs find an adapter. Where there is none, tests that need it say so. */
export async function ensureVulkan() {
  if (hasMesa() || process.env.VK_DRIVER_FILES) return {};
  if ((await aptInstall("a Vulkan that computes on the CPU", ["mesa-vulkan-drivers", "libvulkan1"])) && hasMesa()) return {};
  const own = swiftShader();
  if (own) return own;
  say("No Vulkan driver is here (Debian: `apt-get install mesa-vulkan-drivers`): the native tests of the GPU backend will fail, unless the machine has a GPU that they find.");
  return {};
}

/**
 * The environment in which Dawn, the WebGPU of Node, finds one. It refuses Mesas as old as Debian 12's, so SwiftShader comes first, which
 * the browser of the tests brings.
 */
export const vulkanForDawn = () => (process.env.VK_DRIVER_FILES ? {} : (swiftShader() ?? {}));

/** The environment that chooses Chromium's own, where it is. */
function swiftShader() {
  const folder = SWIFTSHADER.find((folder) => existsSync(`${folder}/vk_swiftshader_icd.json`));
  if (!folder) return undefined;
  const libraries = [folder, process.env.LD_LIBRARY_PATH].filter(Boolean).join(":");
  return { VK_DRIVER_FILES: `${folder}/vk_swiftshader_icd.json`, LD_LIBRARY_PATH: libraries };
}

/** llvmpipe, Mesa's driver for the CPU. */
const hasMesa = () => DRIVERS.some((folder) => existsSync(folder) && readdirSync(folder).some((name) => name.startsWith("lvp_icd")));
