//! The CPU backend: the steps of a forward pass, computed with the crate `kernels`.

mod backend;
mod encoder;
mod model;
mod pass;
mod weights;

pub use backend::CpuBackend;
pub use encoder::Encoding;
pub use model::CpuModel;
pub use weights::CpuWeights;
