//! The WebGPU backend: the model on the GPU through `wgpu`, in the browser and natively.
//!
//! `context` requests the adapter and its device; `layout` and `weights` upload tensors into GPU buffers; `shaders` assembles the
//! WGSL of `shaders/` and compiles it; `kv_cache` stores keys and values, `scratch` activations, `adapters` LoRA adapters; `forward` records a forward pass; `backend` is what the engine uses.
//! `reference` implements each shader on the CPU, and `check` compares the shaders with it on the adapter in use.
//!
//! A token takes one command encoder and one submission. Buffers, bind groups and pipelines are created when the model is loaded or when
//! a KV cache grows, never per token.

mod adapters;
mod backend;
mod check;
mod context;
mod forward;
mod kv_cache;
mod layout;
mod measure;
mod profile;
mod reference;
mod scratch;
mod shaders;
mod weights;
mod wgsl;

pub use backend::{Options, WebGpuBackend};
pub use context::{Choice, Context, Variant};
pub use measure::copy_bandwidth;
pub use profile::Dispatch;
pub use weights::WebGpuWeights;
