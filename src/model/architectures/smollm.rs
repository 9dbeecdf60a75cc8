//! SmolLM3: every fourth layer has no RoPE.

use crate::error::Result;
use crate::model::Rope;
use crate::model::architecture::{Architecture, Metadata};

/// Of so many layers, the last one has no RoPE.
const PERIOD: usize = 4;

pub fn complete(_: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.ropes.push(Rope::Nothing);
    for layer in architecture.layers.iter_mut().skip(PERIOD - 1).step_by(PERIOD) {
        layer.rope = 1;
    }
    Ok(())
}
