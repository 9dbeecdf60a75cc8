//! Granite 3: embeddings, residual connections, attention scores and logits have scales.

use crate::error::Result;
use crate::model::architecture::{Architecture, Metadata};

pub fn complete(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    // A residual stream that is smaller by the residual scale has the same norms, if their epsilon is smaller by its square. So no step
    // needs the scale.
    let residual = metadata.scale("residual_scale")?;
    architecture.embedding_scale = metadata.scale("embedding_scale")? / residual;
    architecture.sizes.rms_epsilon /= residual * residual;
    if metadata.number("attention.scale").is_some() {
        architecture.score_divisor = 1.0 / metadata.scale("attention.scale")?;
    }
    architecture.logit_scale = 1.0 / metadata.scale("logit_scale")?;
    Ok(())
}
