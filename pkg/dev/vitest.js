// The entry `workers-ai-local/vitest`: options of Cloudflare's vitest plugins with a local `env.AI`.

import { deriveConfig } from "./config.js";
import { localEngine, speaking } from "./engine.js";
import { withLocalAi } from "./miniflare.js";

/** @import { LocalAiOptions } from "../dev.d.ts" */

/**
 * See vitest.d.ts.
 *
 * @param {Record<string, any> | ((context: any) => any)} [options]
 * @param {LocalAiOptions} [ai]
 * @returns {(context?: any) => Promise<any>}
 */
export function localAi(options = {}, ai = {}) {
  return async (context) => {
    const given = typeof options === "function" ? await options(context) : options;
    const { configPath, environment = process.env.CLOUDFLARE_ENV } = given.wrangler ?? {};
    const { binding, ...config } = ai;
    const engine = speaking(config, "localAi(options, ");
    const withBinding = async () => ({ ...given, miniflare: await withLocalAi(given.miniflare ?? {}, { ...engine, binding }) });
    if (configPath === undefined) return withBinding();
    const { link } = await localEngine(engine);
    const derived = await deriveConfig({ link, config: configPath, environment });
    // A Worker whose configuration has no such binding may still be tested with one.
    const bound = derived.bindings.length > 0 || binding === undefined ? given : await withBinding();
    return { ...bound, wrangler: { ...given.wrangler, configPath: derived.configPath } };
  };
}
