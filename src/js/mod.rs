//! The JavaScript edge: the wasm classes that the package's thin entries drive.
//!
//! Everything asynchronous is a [`Task`] that JavaScript polls. Two reasons: a trap (a wasm bug, memory that ran out)
//! then surfaces as an exception in the request that caused it, not as a promise that never settles; and in workerd each
//! request's futures run inside that request, where its timers and connections are allowed.

mod ai;
mod answer;
mod convert;
#[cfg(feature = "webgpu")]
pub mod gpu;
mod source;
mod task;

#[cfg(feature = "webgpu")]
pub use task::settled;
pub use task::sleep;
