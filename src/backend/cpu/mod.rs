//! The CPU backend: a llama model's forward pass, computed with the crate `kernels`.
//!
//! Activations are row-major `[rows, width]` in scratch buffers that live as long as the backend: a token allocates nothing but its
//! logits. A batch of several sequences reads each matrix once.

mod llama;
mod weights;

pub use llama::CpuBackend;
pub use weights::CpuWeights;
