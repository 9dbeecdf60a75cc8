//! The arithmetic on the CPU: what runs per token. It is a crate of its own because it is compiled for speed, and everything
//! around it, which runs per request, for size.
//!
//! Everything works on plain slices, row-major `[rows, width]`, and knows nothing of models, files or requests. [`packed`] weights
//! of every [`format`] are multiplied by [`products`] with [`activations`] that an [`operand`] shares among them; [`attention`]
//! reads a [`kv_cache`] in [`groups`]; [`ops`] is what stands between them; [`logits`] is what is done over a whole vocabulary.
//! All of it is written in terms of [`lanes`] and shared by [`threads`].

pub mod activations;
pub mod attention;
pub mod clock;
pub mod format;
pub mod groups;
pub mod kv_cache;
pub mod lanes;
pub mod logits;
pub mod memory;
pub mod operand;
pub mod ops;
pub mod packed;
pub mod planes;
pub mod products;
mod refusal;
pub mod threads;

pub use format::Format;
pub use refusal::{Refusal, Result};
