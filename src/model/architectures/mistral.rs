//! Ministral 3 and Mistral Small 3.2 and later: YaRN, and a temperature of the queries that grows with the position.

use crate::error::Result;
use crate::model::architecture::{Architecture, Metadata, Temperature};

pub fn mistral3(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    let scale = metadata.number("attention.temperature_scale").unwrap_or(0.0) as f32;
    if scale != 0.0 {
        architecture.temperature = Some(Temperature { length: metadata.original_positions()?, scale });
    }
    Ok(())
}
