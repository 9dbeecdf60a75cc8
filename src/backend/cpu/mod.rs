//! The CPU backend: packed weights with our own kernels (Q4_0, Q4_1, Q8_0) or candle's blocks and matrix products (every
//! other type), and operations on plain slices between them.
//!
//! Activations are row-major `[rows, width]` in scratch buffers that live as long as the backend: a token allocates
//! nothing but its logits. A batch of several sequences goes through each matrix once.

mod activations;
mod attention;
mod kernels;
mod kv_cache;
mod llama;
mod matrix;
mod ops;
mod packed;
mod weights;

#[cfg(target_arch = "wasm32")]
pub use kernels::compare_with_twin;
pub use llama::CpuBackend;
pub use weights::CpuWeights;
