// Types of the entry `workers-ai-local/platform-proxy`. They are wrangler's, written out: its own need packages that it does not install.

import type { AiConfig } from "./index.d.ts";

/** The options of wrangler's `getPlatformProxy`, and those of `new Ai()`. */
export interface GetPlatformProxyOptions {
  /** The environment of the configuration. */
  environment?: string;
  /** Default: the configuration that wrangler finds. */
  configPath?: string;
  /** Files with variables, relative to the configuration. Default: `.env` and the others that wrangler reads. */
  envFiles?: string[];
  /** Where data of the bindings is kept. Default: where `wrangler dev` keeps it. */
  persist?: boolean | { path: string };
  /** Whether bindings with `remote: true`, other than `ai`, are remote. Default: `true`. */
  remoteBindings?: boolean;
  /** How `ai` bindings are computed. */
  ai?: AiConfig;
}

/** What wrangler's `getPlatformProxy` resolves to. */
export interface PlatformProxy<Env = Record<string, unknown>, CfProperties extends Record<string, unknown> = Record<string, unknown>> {
  /** The bindings; an `ai` binding is an `Ai` of this package. */
  env: Env;
  /** A mock of `request.cf`. */
  cf: CfProperties;
  /** A mock of a Worker's context. */
  ctx: {
    waitUntil(promise: Promise<any>): void;
    passThroughOnException(): void;
    props: any;
  };
  /** A mock of the Workers' `caches`, which stores nothing. */
  caches: any;
  /** Ends everything that was started for this proxy. */
  dispose(): Promise<void>;
}

/**
 * wrangler's `getPlatformProxy`, with the `Ai` of this package in place of the `ai` binding. wrangler must be installed in the project.
 *
 * ```js
 * const { env, dispose } = await getPlatformProxy();
 * ```
 */
export function getPlatformProxy<Env = Record<string, unknown>, CfProperties extends Record<string, unknown> = Record<string, unknown>>(
  options?: GetPlatformProxyOptions,
): Promise<PlatformProxy<Env, CfProperties>>;
