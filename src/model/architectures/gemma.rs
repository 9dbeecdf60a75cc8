//! Gemma 2 (softcaps) and Gemma 3 (norms of each head of query and key, a second RoPE): scaled embeddings, norms before and behind attention
//! and the feed-forward network, GELU, sliding windows. EmbeddingGemma: Gemma 3 with attention in both directions.

use crate::error::Result;
use crate::model::architecture::{Architecture, LayerNorms, Metadata, QueryKeyNorms};
use kernels::ops::Activation;

pub fn gemma2(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    complete(architecture, 46);
    architecture.score_softcap = Some(metadata.positive_or("attn_logit_softcapping", 50.0)? as f32);
    architecture.logit_softcap = Some(metadata.positive_or("final_logit_softcapping", 30.0)? as f32);
    architecture.set_windows(metadata, metadata.window()?.unwrap_or(4096), 2);
    if metadata.number("rope.freq_base_swa").is_some() {
        let rope = architecture.ropes[0].with_base(metadata.positive_or("rope.freq_base_swa", 10_000.0)?);
        architecture.set_rope_of_windows(rope);
    }
    Ok(())
}

pub fn gemma3(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    complete(architecture, 62);
    architecture.query_key_norms = QueryKeyNorms::OfHeads;
    if metadata.number("final_logit_softcapping").is_some_and(|cap| cap != 0.0) {
        architecture.logit_softcap = Some(metadata.positive_or("final_logit_softcapping", 30.0)? as f32);
    }
    if let Some(window) = metadata.window()? {
        architecture.set_windows(metadata, window, 6);
        let base = metadata.positive_or("rope.freq_base_swa", 10_000.0)?;
        architecture.set_rope_of_windows(architecture.ropes[0].unscaled().with_base(base));
    }
    Ok(())
}

pub fn embedding(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    gemma3(metadata, architecture)?;
    architecture.symmetric = true;
    Ok(())
}

/// What both have. `largest`: the number of layers of the family's largest model, whose queries are scaled by another width than a head's.
fn complete(architecture: &mut Architecture, largest: usize) {
    let sizes = &architecture.sizes;
    if sizes.layers == largest {
        architecture.score_divisor = ((sizes.width / sizes.heads) as f32).sqrt();
    }
    architecture.embedding_scale = (sizes.width as f32).sqrt();
    architecture.activation = Activation::Gelu;
    architecture.layer_norms = LayerNorms { before: true, after: true };
    architecture.halves();
}
