// WebGPU in Node: Dawn, from the optional npm package `webgpu`.

/** A constant, not a literal in `import()`, so that bundlers do not try to resolve an optional package. */
const PACKAGE = "webgpu";

/** @type {GPU | undefined} */
let gpu;

/**
 * Returns Dawn's `GPU`, one for all models of a thread. It lives as long as the thread and does not keep the process running.
 *
 * @returns {Promise<GPU>}
 * @throws {Error} if the package `webgpu` is missing or cannot be loaded
 */
export async function dawn() {
  return (gpu ??= (await load()).create([]));
}

/** @returns {Promise<{create(options: string[]): GPU}>} */
async function load() {
  try {
    return await import(PACKAGE);
  } catch (error) {
    const isMissing = error?.code === "ERR_MODULE_NOT_FOUND" && error.message.includes(`'${PACKAGE}'`);
    throw new Error(
      isMissing
        ? `Node has no WebGPU without the package "${PACKAGE}". Install it: npm install ${PACKAGE}.`
        : `The package "${PACKAGE}" cannot be loaded: ${String(error?.message ?? error).split("\n")[0]}.`,
    );
  }
}
