//! Rotary position embedding (RoPE, Su et al. 2021): its frequencies, and their scalings.

use super::architecture::{Metadata, Rope};
use crate::error::{AiError, Result};

/// How positions beyond the original training length are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    None,
    /// Every position is divided by the factor.
    Linear(f64),
}

impl RopeScaling {
    /// Reads the scaling from the metadata. Llama 3's frequency-dependent scaling is not stored there, but as divisors in the
    /// tensor `rope_freqs.weight`.
    ///
    /// # Errors
    ///
    /// 5004 if the type of scaling is not supported.
    pub fn from_metadata(metadata: &Metadata<'_>) -> Result<Self> {
        let kind = metadata.text("rope.scaling.type").unwrap_or("none");
        // Older files contain only the factor, and mean linear scaling.
        let factor = metadata.number("rope.scaling.factor").or_else(|| metadata.number("rope.scale_linear"));
        match (kind, factor) {
            ("none", None) | ("linear", None) => Ok(Self::None),
            ("linear" | "none", Some(factor)) if factor > 0.0 => Ok(Self::Linear(factor)),
            _ => Err(AiError::invalid_data(format!(
                "{} scales RoPE by '{kind}', which is not supported. Use a model without it.",
                metadata.name
            ))),
        }
    }
}

/// The angle per position (radians) of each rotated pair of dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeFrequencies {
    per_position: Vec<f64>,
}

impl RopeFrequencies {
    /// `width`: dimensions of a head that are rotated. `divisors`: the contents of `rope_freqs.weight`, one per pair, if the file has that
    /// tensor.
    pub fn new(rope: &Rope, width: usize, divisors: Option<&[f32]>) -> Self {
        let Rope::Base { base, scaling } = *rope else { return Self { per_position: vec![0.0; width / 2] } };
        let linear = match scaling {
            RopeScaling::None => 1.0,
            RopeScaling::Linear(factor) => factor,
        };
        let per_position = (0..width / 2)
            .map(|pair| {
                let frequency = base.powf(-((2 * pair) as f64) / width as f64);
                let divisor = divisors.and_then(|divisors| divisors.get(pair)).map_or(1.0, |divisor| f64::from(*divisor));
                frequency / divisor / linear
            })
            .collect();
        Self { per_position }
    }

    /// Appends cosine and sine of every pair at one position to `out`, as `cos, sin, cos, sin, …`.
    pub fn push_angles(&self, position: usize, out: &mut Vec<f32>) {
        for frequency in &self.per_position {
            // f64, so that large positions keep their precision.
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            out.extend([cos as f32, sin as f32]);
        }
    }
}
