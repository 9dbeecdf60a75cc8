//! Ministral 3: numbers of YaRN, and a temperature of the queries that grows with the position.

use crate::error::Result;
use crate::model::architecture::{Architecture, Metadata, Temperature};
use crate::model::{Rope, YarnNumbers};

pub fn mistral3(metadata: &Metadata<'_>, architecture: &mut Architecture) -> Result<()> {
    let usual = YarnNumbers::default();
    let numbers = YarnNumbers {
        fast: metadata.positive_or("rope.scaling.yarn_beta_fast", usual.fast)?,
        slow: metadata.positive_or("rope.scaling.yarn_beta_slow", usual.slow)?,
        log_multiplier: metadata.number("rope.scaling.yarn_log_multiplier").unwrap_or(usual.log_multiplier),
    };
    architecture.ropes = vec![Rope::from_metadata(metadata, numbers)?];
    let scale = metadata.number("attention.temperature_scale").unwrap_or(0.0) as f32;
    if scale != 0.0 {
        architecture.temperature = Some(Temperature { length: metadata.original_positions()?, scale });
    }
    Ok(())
}
