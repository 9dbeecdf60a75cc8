//! The CPU backend: packed weights of every type with their kernels, and operations on plain slices between them.
//!
//! Activations are row-major `[rows, width]` in scratch buffers that live as long as the backend: a token allocates
//! nothing but its logits. A batch of several sequences goes through each matrix once.

mod activations;
mod attention;
mod format;
mod kernels;
mod kv_cache;
mod llama;
mod matrix;
mod ops;
mod packed;
mod threads;
mod weights;

#[cfg(target_arch = "wasm32")]
pub use kernels::{compare_with_twin, measure};
pub use llama::CpuBackend;
#[cfg(feature = "webgpu")]
pub(crate) use packed::Packing;
#[cfg(target_feature = "atomics")]
pub use threads::help;
pub use weights::CpuWeights;
