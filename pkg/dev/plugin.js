// The plugin that Miniflare loads for a binding of the type `workers-ai-local`: gives a Worker the genuine class of `env.AI`, which is a part of
// workerd, with the local engine behind it. Miniflare is a part of wrangler, of Cloudflare's Vite plugin and of its vitest plugins.
//
// Miniflare imports this file by its path, in the process that runs it.

import { fileURLToPath } from "node:url";
import { KEY_HEADER } from "./engine.js";

/**
 * @import { Link } from "./engine.js"
 * @typedef {{link: Link}} Options the server to use
 * @typedef {{name: string, plugin?: {name: string}, options: Options}} Binding
 */

const NAME = "workers-ai-local";

/** The binding's plugin in a wrangler configuration: `unsafe.bindings[].dev.plugin`. */
export const PLUGIN = { package: fileURLToPath(import.meta.url), name: NAME };

/** The name of the service in workerd through which a server is reached. @param {Link} link */
export const serviceName = ({ address }) => `${NAME}:${address}`;

/**
 * The service in workerd.
 *
 * @param {Link} link
 */
export const serviceOf = (link) => ({
  name: serviceName(link),
  external: { address: link.address, http: { injectRequestHeaders: [{ name: KEY_HEADER, value: link.key }] } },
});

/**
 * The bindings of this plugin. Miniflare 5 passes all options of the Worker, Miniflare 4 those of the bindings that name the plugin.
 *
 * @param {any} options
 * @returns {Binding[]}
 */
function bindingsOf(options) {
  if (Array.isArray(options)) return options;
  const entries = /** @type {[string, any][]} */ (Object.entries(options?.config?.env ?? {}));
  return entries.filter(([, { dev }]) => dev?.plugin?.name === NAME).map(([name, { dev }]) => ({ name, options: dev.options }));
}

/** Accepts every value: Miniflare 4 checks the options of a plugin. */
const ANY = { parse: (/** @type {unknown} */ value) => value };

export const plugins = {
  [NAME]: {
    options: ANY,
    bindingTypeDescription: "AI",
    /** @param {unknown} options */
    async getBindings(options) {
      return bindingsOf(options).map(({ name, options }) => ({
        name,
        wrapped: {
          moduleName: "cloudflare-internal:ai-api",
          innerBindings: [{ name: "fetcher", service: { name: serviceName(options.link) } }],
        },
      }));
    },
    /**
     * Nothing for `getPlatformProxy` and `Miniflare.getBindings`, which cannot show a class of workerd.
     *
     * @returns {Record<string, unknown>}
     */
    getNodeBindings: () => ({}),
    /** @param {{options: unknown}} context */
    async getServices({ options }) {
      return bindingsOf(options).map(({ options }) => serviceOf(options.link));
    },
  },
};
