//! Llama 2, 3, 3.1 and 3.2, Mistral, CodeLlama, SmolLM2, TinyLlama (Touvron et al. 2023).

use crate::error::Result;
use crate::model::architecture::{Architecture, Metadata};

pub fn complete(_: &Metadata<'_>, _: &mut Architecture) -> Result<()> {
    Ok(())
}
