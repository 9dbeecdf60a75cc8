// The entry `workers-ai-local/platform-proxy`: wrangler's `getPlatformProxy` with a local `AI`, for frameworks whose dev server runs in Node.

import path from "node:path";
import { deriveConfig } from "./config.js";
import { speaking } from "./engine.js";
import { importPackage } from "./project.js";
import { sharedAi } from "./shared-ai.js";

/** @import { GetPlatformProxyOptions } from "../platform-proxy.d.ts" */

/**
 * See platform-proxy.d.ts.
 *
 * @param {GetPlatformProxyOptions} [options]
 * @returns {Promise<any>}
 */
export async function getPlatformProxy({ ai: config = {}, ...options } = {}) {
  const wrangler = await importPackage("wrangler");
  const environment = options.environment ?? process.env.CLOUDFLARE_ENV;
  // The copy has no `ai` binding, for which wrangler would ask for an account. Other remote bindings stay as they are.
  const derived = await deriveConfig({ wrangler, config: options.configPath, environment });
  const { persist = true } = options;
  // Where it would be without the copy.
  const state = persist === true ? ".wrangler/state/v3" : persist && persist.path;
  const own = {
    configPath: derived.configPath,
    persist: state ? { path: path.resolve(derived.root, state) } : false,
    ...(options.envFiles && { envFiles: options.envFiles.map((file) => path.resolve(path.dirname(derived.original), file)) }),
  };
  const getProxy = wrangler.getPlatformProxy ?? wrangler.default.getPlatformProxy;
  const ai = await sharedAi(speaking(config, "getPlatformProxy({ ai: ")).catch((error) => {
    derived.remove();
    throw error;
  });
  try {
    const proxy = await getProxy({ ...options, ...own });
    const dispose = async () => {
      derived.remove();
      await Promise.all([proxy.dispose(), ai.close()]);
    };
    return { ...proxy, env: { ...proxy.env, ...Object.fromEntries(derived.bindings.map((name) => [name, ai])) }, dispose };
  } catch (error) {
    derived.remove();
    await ai.close();
    throw error;
  }
}
