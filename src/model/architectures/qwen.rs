//! Qwen 2 and 2.5 (biases of query, key and value, if the file has them), Qwen 3 (norms of each head of query and key).

use crate::error::Result;
use crate::model::architecture::{Architecture, Metadata, QueryKeyNorms};

pub fn qwen2(_: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.halves();
    Ok(())
}

pub fn qwen3(_: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.halves();
    architecture.query_key_norms = QueryKeyNorms::OfHeads;
    Ok(())
}
