//! Phi-3, Phi-3.5 and Phi-4-mini: query, key and value in one tensor, gate and up in another one; divisors of RoPE's frequencies for long
//! contexts.

use crate::error::Result;
use crate::model::architecture::{Architecture, GATE_IN_UP, Metadata};

pub fn complete(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    architecture.halves();
    architecture.own_names = &GATE_IN_UP;
    // One choice for all positions, by the positions that the model can hold, as llama.cpp makes it by the size of a context.
    architecture.rope_divisors = match architecture.sizes.positions > metadata.original_positions()? {
        true => "rope_factors_long.weight",
        false => "rope_factors_short.weight",
    };
    Ok(())
}
