//! The CPU backend: the steps of a forward pass, computed with the crate `kernels`.
//!
//! Activations are row-major `[rows, width]` in scratch buffers that live as long as the backend: a token allocates little more than its
//! logits. A batch of several sequences reads each matrix once.

mod backend;
mod weights;

pub use backend::CpuBackend;
pub use weights::CpuWeights;
