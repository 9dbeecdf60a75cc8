//! Qwen 2 and 2.5 (biases of query, key and value), Qwen 3 (norms of each head of query and key).

use crate::error::Result;
use crate::model::architecture::{Architecture, Metadata, Pairing};

pub fn qwen2(_: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.pairing = Pairing::Halves;
    architecture.biases = true;
    Ok(())
}

pub fn qwen3(_: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.pairing = Pairing::Halves;
    architecture.head_norms = true;
    Ok(())
}
