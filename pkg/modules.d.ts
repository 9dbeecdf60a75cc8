// Modules that are not JavaScript, or that exist only after `npm run build`.

declare module "*.wasm" {
  /** In workerd, an imported module is compiled. */
  const module: WebAssembly.Module;
  export default module;
}

declare module "*/wasm/builds.js" {
  export const builds: import("./internal.d.ts").Builds<URL>;
}

declare module "*/wasm/single-builds.js" {
  export const builds: import("./internal.d.ts").Builds<URL>;
}

declare module "*/wasm/thread-builds.js" {
  export const builds: import("./internal.d.ts").Builds<URL>;
}

declare module "*/wasm/wide-builds.js" {
  export const builds: import("./internal.d.ts").Builds<URL>;
}

declare module "*/wasm/workerd-builds.js" {
  export const builds: import("./internal.d.ts").Builds<() => Promise<{ default: WebAssembly.Module }>>;
}
