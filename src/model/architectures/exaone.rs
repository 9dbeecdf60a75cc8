//! EXAONE 4: norms behind attention and the feed-forward network instead of before, norms of each head of query and key. Its large model has
//! sliding windows, and no RoPE in the layers without one.

use crate::error::Result;
use crate::model::Rope;
use crate::model::architecture::{Architecture, LayerNorms, Metadata, QueryKeyNorms};

/// The number of layers of the model with windows.
const LAYERS_WITH_WINDOWS: usize = 64;

pub fn exaone4(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.halves();
    architecture.layer_norms = LayerNorms { before: false, after: true };
    architecture.query_key_norms = QueryKeyNorms::OfHeads;
    if architecture.sizes.layers == LAYERS_WITH_WINDOWS {
        architecture.set_windows(metadata, metadata.window()?.unwrap_or(4096), 4);
        architecture.set_rope_of_windows(architecture.ropes[0]);
        architecture.ropes[0] = Rope::Nothing;
    }
    Ok(())
}
