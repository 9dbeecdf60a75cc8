// WebGPU as the crate needs it of its host.

/**
 * wgpu knows validation errors and those of memory, and panics at the third kind, which a driver's compiler gives. In a worker of our
 * own it may count as one of the first.
 */
export function knowErrors() {
  const { GPUInternalError, GPUValidationError } = globalThis;
  if (!GPUInternalError || !GPUValidationError || GPUInternalError.prototype instanceof GPUValidationError) return;
  Object.setPrototypeOf(GPUInternalError.prototype, GPUValidationError.prototype);
}
