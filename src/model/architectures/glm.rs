//! GLM-4 (0414): norms before and behind attention and the feed-forward network, gate and up in one tensor.

use crate::error::Result;
use crate::model::architecture::{Architecture, GATE_IN_UP, LayerNorms, Metadata, Pairing};

pub fn glm4(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    let sections = metadata.header.array("glm4.rope.dimension_sections").unwrap_or_default();
    if sections.iter().take(2).filter(|section| section.to_u32().is_ok_and(|section| section > 0)).count() == 2 {
        return Err(metadata.unusable("its positions have several dimensions (rope.dimension_sections), as images have them"));
    }
    architecture.layer_norms = LayerNorms { before: true, after: true };
    architecture.own_names = &GATE_IN_UP;
    architecture.checkpoint_pairing = Pairing::Neighbours;
    Ok(())
}
