// WebGPU as the crate needs it of its host. The compiled crate imports from here, and so does wasm-bindgen's glue.

let provider;

/** Whether wgpu takes this for a page or a Web Worker. */
const isWeb = () => "Window" in globalThis || "WorkerGlobalScope" in globalThis;

/**
 * Says where a runtime without WebGPU of its own gets it from.
 *
 * @param {() => Promise<object>} find gives a `GPU` as `navigator.gpu` is one; its error's text is what a user reads
 */
export function provideGpu(find) {
  provider = find;
}

/** The `GPU` of this thread: the runtime's own, or one that is provided. */
export async function findGpu() {
  const gpu = globalThis.navigator?.gpu ?? (await provider?.());
  if (!gpu) throw new Error("There is no WebGPU here.");
  return gpu;
}

/**
 * Does `work`, in which wgpu looks for `navigator.gpu` in a page or a Web Worker, and for that long lets it find `gpu` there. `work` gives
 * way to nothing, so nobody else sees it.
 */
export function whileShown(gpu, work) {
  if (isWeb() && globalThis.navigator?.gpu === gpu) return work();
  const takeBack = [];
  try {
    takeBack.push(shadow("navigator", { gpu }));
    if (!isWeb()) takeBack.push(shadow("WorkerGlobalScope", Object));
    work();
  } finally {
    for (const restore of takeBack) restore();
  }
}

function shadow(name, value) {
  const before = Object.getOwnPropertyDescriptor(globalThis, name);
  Object.defineProperty(globalThis, name, { value, configurable: true });
  return () => {
    if (before) Object.defineProperty(globalThis, name, before);
    else delete globalThis[name];
  };
}

/** `queue.writeBuffer`. In Node 20 a native module that is given memory which threads share ends the process, so there it is a copy. */
export function writeBuffer(queue, buffer, offset, bytes) {
  const isShared = !(bytes.buffer instanceof ArrayBuffer);
  queue.writeBuffer(buffer, offset, isShared && !isWeb() ? bytes.slice() : bytes);
}

/**
 * Begins the pipeline that `create` has wgpu make, and gives its promise. wgpu 30 knows only `createComputePipeline`, which compiles one
 * pipeline after the other and lets whatever else wants the GPU wait (in Node, everything); so while `create` runs, the device has the other
 * way in its place.
 */
export function beginPipeline(device, create) {
  let pipeline;
  const begin = async (descriptor) => device.createComputePipelineAsync(descriptor);
  inPlace(device, (descriptor) => (pipeline = begin(descriptor)), create);
  if (!pipeline) throw new Error("wgpu made no pipeline");
  // Whoever waits for it is told how it failed; perhaps nobody does any more.
  pipeline.catch(() => {});
  return pipeline;
}

/** Lets wgpu have a pipeline that was begun, for the one that `create` makes. */
export function takePipeline(device, pipeline, create) {
  inPlace(device, () => pipeline, create);
}

function inPlace(device, createComputePipeline, work) {
  Object.defineProperty(device, "createComputePipeline", { value: createComputePipeline, configurable: true });
  try {
    work();
  } finally {
    delete device.createComputePipeline;
  }
}

// The classes of errors that the glue compares with (the build lets it import them): wgpu knows out of memory and validation, and panics
// at anything else, such as what a driver's compiler gives. A provided GPU's classes are not among the globals, so names decide.

export const GPUOutOfMemoryError = { [Symbol.hasInstance]: (error) => error?.constructor?.name === "GPUOutOfMemoryError" };

export const GPUValidationError = { [Symbol.hasInstance]: (error) => !(error instanceof GPUOutOfMemoryError) };
