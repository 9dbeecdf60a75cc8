// Shared memory with 64-bit addresses, which the glue of the build "wasm64-threads" imports.

/**
 * @param {number} initial pages
 * @param {number} maximum pages
 */
export function wideMemory(initial, maximum) {
  try {
    return memory({ initial: BigInt(initial), maximum: BigInt(maximum), address: "i64" });
  } catch (error) {
    // Node 22 has an older form, with numbers.
    if (error instanceof TypeError) return memory({ initial, maximum, index: "i64" });
    throw error;
  }
}

/** @param {object} descriptor which the types of WebAssembly do not know yet */
const memory = (descriptor) => new WebAssembly.Memory(/** @type {WebAssembly.MemoryDescriptor} */ ({ ...descriptor, shared: true }));
