//! The CPU backend: candle's quantised blocks and matrix products, our own operations on plain slices between them.
//!
//! Activations are row-major `[rows, width]` in scratch buffers that live as long as the backend: a token allocates
//! nothing but its logits. A batch of several sequences goes through each matrix once.

mod attention;
mod kv_cache;
mod llama;
mod matrix;
mod ops;
mod weights;

pub use llama::CpuBackend;
pub use weights::CpuWeights;
