// The host's WebGPU. The compiled crate and wasm-bindgen's glue import this module.

/** @type {(() => Promise<GPU>) | undefined} */
let provider;

/** Whether wgpu detects a page or a Web Worker here. */
const isWeb = () => "Window" in globalThis || "WorkerGlobalScope" in globalThis;

/**
 * Registers a provider of WebGPU for a runtime without `navigator.gpu`.
 *
 * @param {() => Promise<GPU>} find the text of its error is shown to the user
 */
export function provideGpu(find) {
  provider = find;
}

/**
 * Returns the `GPU` of this thread: `navigator.gpu`, or the one from the provider.
 *
 * @returns {Promise<GPU>}
 * @throws {Error} if there is no WebGPU
 */
export async function findGpu() {
  const gpu = globalThis.navigator?.gpu ?? (await provider?.());
  if (!gpu) throw new Error("There is no WebGPU here.");
  return gpu;
}

/**
 * Runs `work` with `gpu` as `navigator.gpu`, and restores the globals afterwards. wgpu looks for `navigator.gpu`, and only in a page or a
 * Web Worker. `work` is synchronous, so no other code sees the change.
 *
 * @param {GPU} gpu
 * @param {() => void} work
 */
export function whileShown(gpu, work) {
  if (isWeb() && globalThis.navigator?.gpu === gpu) return work();
  const restores = [];
  try {
    restores.push(replaceGlobal("navigator", { gpu }));
    if (!isWeb()) restores.push(replaceGlobal("WorkerGlobalScope", Object));
    work();
  } finally {
    for (const restore of restores) restore();
  }
}

/**
 * Replaces a global; returns a function that restores it.
 *
 * @param {string} name
 * @param {unknown} value
 */
function replaceGlobal(name, value) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true });
  return () => {
    if (before) Object.defineProperty(globalThis, name, before);
    else Reflect.deleteProperty(globalThis, name);
  };
}

/**
 * Calls `queue.writeBuffer`. In Node 20, passing shared memory to a native module ends the process, so Node passes a copy of shared memory.
 *
 * @param {GPUQueue} queue
 * @param {GPUBuffer} buffer
 * @param {number} offset
 * @param {Uint8Array} bytes
 */
export function writeBuffer(queue, buffer, offset, bytes) {
  const isShared = !(bytes.buffer instanceof ArrayBuffer);
  queue.writeBuffer(buffer, offset, isShared && !isWeb() ? bytes.slice() : bytes);
}

/**
 * Starts to compile the pipeline that `create` requests from wgpu, and returns its promise. wgpu 30 only calls `createComputePipeline`,
 * which compiles pipelines one after the other and blocks all other use of the GPU (in Node, the whole event loop). So while `create`
 * runs, the device's `createComputePipeline` is replaced by one that calls `createComputePipelineAsync`.
 *
 * @param {GPUDevice} device
 * @param {() => void} create makes wgpu create exactly one pipeline
 * @returns {Promise<GPUComputePipeline>}
 */
export function beginPipeline(device, create) {
  /** @type {Promise<GPUComputePipeline> | undefined} */
  let pipeline;
  /** @param {GPUComputePipelineDescriptor} descriptor */
  const begin = async (descriptor) => device.createComputePipelineAsync(descriptor);
  withCreateComputePipeline(device, (descriptor) => (pipeline = begin(descriptor)), create);
  if (!pipeline) throw new Error("wgpu made no pipeline");
  // The caller that awaits the promise receives the error. If none does, this avoids an unhandled rejection.
  pipeline.catch(() => {});
  return pipeline;
}

/**
 * Runs `create`, in which wgpu receives the compiled `pipeline` of an earlier `beginPipeline`.
 *
 * @param {GPUDevice} device
 * @param {GPUComputePipeline} pipeline
 * @param {() => void} create
 */
export function takePipeline(device, pipeline, create) {
  withCreateComputePipeline(device, () => pipeline, create);
}

/**
 * Runs `work` while the device's `createComputePipeline` is replaced.
 *
 * @param {GPUDevice} device
 * @param {(descriptor: GPUComputePipelineDescriptor) => unknown} createComputePipeline
 * @param {() => void} work
 */
function withCreateComputePipeline(device, createComputePipeline, work) {
  Object.defineProperty(device, "createComputePipeline", { value: createComputePipeline, configurable: true });
  try {
    work();
  } finally {
    Reflect.deleteProperty(device, "createComputePipeline");
  }
}

// The error classes that the glue uses in `instanceof` (the build makes it import them). wgpu handles out-of-memory and validation errors
// and panics at any other, such as an error of a driver's compiler. The classes of a provided GPU are not globals, so the class name
// decides. Every error that is not out of memory counts as a validation error.

export const GPUOutOfMemoryError = {
  /** @param {unknown} error */
  [Symbol.hasInstance]: (error) => error?.constructor?.name === "GPUOutOfMemoryError",
};

export const GPUValidationError = {
  /** @param {unknown} error */
  [Symbol.hasInstance]: (error) => !(error instanceof GPUOutOfMemoryError),
};
