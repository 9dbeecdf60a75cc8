//! The JavaScript boundary: the wasm classes that the package's entries use.
//!
//! Every asynchronous operation is a [`Task`] that JavaScript polls. There are two reasons. A trap (a bug, or memory that
//! ran out) then is an exception in the request that caused it, not a promise that never settles. And in workerd each
//! request's futures run inside that request, where its timers and connections are allowed.

mod ai;
mod answer;
mod convert;
mod embeddings;
#[cfg(target_arch = "wasm64")]
mod entropy;
#[cfg(feature = "webgpu")]
pub mod gpu;
mod source;
mod substitute;
mod task;

pub use task::{settled, sleep};
