// WebGPU in Node: Dawn, by the npm package `webgpu`, where a project has installed it.

/** Not written in the call, so that bundlers leave an optional package alone. */
const PACKAGE = "webgpu";

let gpu;

/** One for all models of a thread; it lives as long as the thread, and keeps no process from ending. */
export async function dawn() {
  return (gpu ??= (await load()).create([]));
}

async function load() {
  try {
    return await import(PACKAGE);
  } catch (error) {
    const isMissing = error?.code === "ERR_MODULE_NOT_FOUND" && error.message.includes(`'${PACKAGE}'`);
    throw new Error(
      isMissing
        ? `There is no WebGPU in Node without the package "${PACKAGE}": npm install ${PACKAGE}.`
        : `The package "${PACKAGE}" cannot be loaded: ${String(error?.message ?? error).split("\n")[0]}.`,
    );
  }
}
