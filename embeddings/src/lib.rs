//! Embedding models: texts → vectors of unit length.
//!
//! The bytes of a model file are pushed into a [`Reader`] as they arrive; `finish` makes an [`Embedder`] of them, with its tokenizer. The model
//! is candle's BERT, over safetensors or GGUF. A separate crate, so that the module for text generation has nothing of it; only `js` knows
//! JavaScript.

mod config;
mod embedder;
mod error;
mod gguf;
mod header;
#[cfg(target_family = "wasm")]
mod js;
mod reader;
mod safetensors;
mod tokenizer;

pub use embedder::{Embedder, Embeddings, Job, Pooling};
pub use error::{Error, Result};
pub use reader::Reader;
