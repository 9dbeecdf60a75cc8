//! OLMo 2 and 3: norms behind attention and the feed-forward network instead of before, norms of all heads of query and of key together,
//! sliding windows (OLMo 3).

use crate::error::Result;
use crate::model::architecture::{Architecture, LayerNorms, Metadata, QueryKeyNorms};

pub fn olmo2(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.halves();
    architecture.layer_norms = LayerNorms { before: false, after: true };
    architecture.query_key_norms = QueryKeyNorms::Whole;
    if let Some(window) = metadata.window()? {
        architecture.set_windows(metadata, window, 4);
        architecture.set_rope_of_windows(architecture.ropes[0].unscaled());
    }
    Ok(())
}
