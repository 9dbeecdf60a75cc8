//! The CPU kernels: the code that runs per token. It is a separate crate because it is compiled for speed, while the code around it,
//! which runs per request, is compiled for size.
//!
//! Everything works on slices, row-major `[rows, width]`, independently of models, files and requests. [`products`] multiplies [`packed`]
//! weights of every [`format`] by [`activations`]; an [`operand`] shares one input among several products. [`attention`] reads a
//! [`kv_cache`], which is stored in [`tiles`]. [`ops`] holds the operations between products and attention, [`logits`] those over a
//! whole vocabulary. All of it is written in terms of [`lanes`] (SIMD vectors) and parallelised by [`threads`].

// The operations are those of 32-bit memory; only their module is not stable yet.
#![cfg_attr(target_arch = "wasm64", feature(simd_wasm64))]

pub mod activations;
pub mod attention;
pub mod clock;
mod error;
pub mod format;
pub mod kv_cache;
pub mod lanes;
pub mod logits;
pub mod low_rank;
pub mod memory;
pub mod operand;
pub mod ops;
pub mod packed;
pub mod packing;
pub mod planes;
pub mod products;
pub mod threads;
pub mod tiles;

pub use error::{Error, Result};
pub use format::Format;
