//! The WebGPU backend: the model on the GPU through `wgpu`, in the browser and natively.
//!
//! `context` asks for an adapter and knows what it has; `layout` and `weights` bring tensors into GPU buffers; `shaders` puts the
//! WGSL of `shaders/` together and compiles it; `kv_cache` keeps keys and values; `forward` records a pass; `llama` is the backend
//! over all of that. `plain` has each kernel's plain twin and `check` holds the kernels to it, on the adapter that is there.
//!
//! A token is one encoder and one submission. Buffers, bind groups and pipelines are made when the model is loaded or a
//! cache grows, never per token.

mod check;
mod context;
mod forward;
mod kv_cache;
mod layout;
mod llama;
mod measure;
mod plain;
mod shaders;
mod weights;

pub use context::{Choice, Context, Variant};
pub use llama::{Options, WebGpuBackend};
pub use measure::copy_bandwidth;
pub use weights::WebGpuWeights;
