//! Rotary position embedding (RoPE, Su et al. 2021): its frequencies, and their scalings.

use super::architecture::Metadata;
use crate::error::{AiError, Result};
use std::f64::consts::TAU;

/// What a layer rotates queries and keys by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rope {
    Nothing,
    Angles {
        /// Of the frequencies; positive.
        base: f64,
        scaling: RopeScaling,
        /// Multiplies cosine and sine.
        magnitude: f64,
    },
}

impl Default for Rope {
    fn default() -> Self {
        Self::Angles { base: 10_000.0, scaling: RopeScaling::None, magnitude: 1.0 }
    }
}

impl Rope {
    /// Reads base and scaling from the metadata. Llama 3's frequency-dependent scaling is not stored there, but as divisors in a tensor.
    /// `numbers` are YaRN's, if the file scales by it.
    ///
    /// # Errors
    ///
    /// 5004 if the type of scaling is not supported, or if a number is out of range.
    pub fn from_metadata(metadata: &Metadata<'_>, numbers: YarnNumbers) -> Result<Self> {
        let scaling = RopeScaling::from_metadata(metadata, numbers)?;
        let mut magnitude = metadata.positive_or("rope.scaling.attn_factor", 1.0)?;
        if let RopeScaling::Yarn(Yarn { factor, .. }) = scaling {
            let of = |multiplier: f64| if factor > 1.0 { 0.1 * multiplier * factor.ln() + 1.0 } else { 1.0 };
            magnitude *= of(1.0) / of(numbers.log_multiplier);
        }
        Ok(Self::Angles { base: metadata.positive_or("rope.freq_base", 10_000.0)?, scaling, magnitude })
    }

    /// The same rotation with another base.
    pub fn with_base(self, base: f64) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Angles { scaling, magnitude, .. } => Self::Angles { base, scaling, magnitude },
        }
    }

    /// The same rotation without scaling.
    pub fn unscaled(self) -> Self {
        match self {
            Self::Nothing => Self::Nothing,
            Self::Angles { base, .. } => Self::Angles { base, scaling: RopeScaling::None, magnitude: 1.0 },
        }
    }
}

/// How positions beyond the original training length are scaled.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum RopeScaling {
    None,
    /// Every position is divided by the factor.
    Linear(f64),
    Yarn(Yarn),
}

/// YaRN (Peng et al. 2023): slow frequencies are divided by the factor, fast ones stay as they are, and there is a ramp between them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Yarn {
    pub factor: f64,
    /// Positions that the model was trained for before it was scaled.
    pub original_positions: f64,
    pub numbers: YarnNumbers,
}

/// What a family may choose of YaRN. Files of most families have these numbers without meaning them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct YarnNumbers {
    /// Rotations within the original positions from which on a frequency is fast, and up to which it is slow.
    pub fast: f64,
    pub slow: f64,
    /// Lowers the magnitude: 0 does not, 1 makes it 1.
    pub log_multiplier: f64,
}

impl Default for YarnNumbers {
    fn default() -> Self {
        Self { fast: 32.0, slow: 1.0, log_multiplier: 0.0 }
    }
}

impl RopeScaling {
    fn from_metadata(metadata: &Metadata<'_>, numbers: YarnNumbers) -> Result<Self> {
        // Older files contain only the factor, and mean linear scaling.
        let kind = metadata.text("rope.scaling.type").unwrap_or("linear");
        let factor = match metadata.number("rope.scaling.factor").or_else(|| metadata.number("rope.scale_linear")) {
            None | Some(0.0) => 1.0,
            Some(factor) if factor > 0.0 && factor.is_finite() => factor,
            Some(_) => return Err(metadata.unusable("the factor of its RoPE scaling is not positive")),
        };
        match kind {
            "none" => Ok(Self::None),
            // What is special about "longrope" is in a tensor of divisors.
            "linear" | "longrope" if factor == 1.0 => Ok(Self::None),
            "linear" | "longrope" => Ok(Self::Linear(factor)),
            "yarn" => Ok(Self::Yarn(Yarn { factor, original_positions: metadata.original_positions()? as f64, numbers })),
            _ => Err(AiError::invalid_data(format!(
                "{} scales RoPE by '{kind}', which is not supported. Use a model without it.",
                metadata.name
            ))),
        }
    }

    /// The frequency of pair `pair`, scaled. `width`: dimensions of a head that are rotated.
    fn scale(&self, frequency: f64, pair: usize, width: usize, base: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear(factor) => frequency / factor,
            Self::Yarn(Yarn { factor, original_positions, numbers: YarnNumbers { fast, slow, .. } }) => {
                // The pair that rotates so many times within the original positions.
                let pair_of = |rotations: f64| width as f64 * (original_positions / (rotations * TAU)).ln() / (2.0 * base.ln());
                let (low, high) = (pair_of(fast).floor().max(0.0), pair_of(slow).ceil().min(width as f64 - 1.0));
                let slowness = ((pair as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                frequency / factor * slowness + frequency * (1.0 - slowness)
            }
        }
    }
}

/// The angle per position (radians) of each rotated pair of dimensions.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeFrequencies {
    per_position: Vec<f64>,
    magnitude: f64,
}

impl RopeFrequencies {
    /// `width`: dimensions of a head that are rotated. `divisors`: one per pair, if the file has a tensor of divisors.
    pub fn new(rope: &Rope, width: usize, divisors: Option<&[f32]>) -> Self {
        let Rope::Angles { base, scaling, magnitude } = *rope else {
            return Self { per_position: vec![0.0; width / 2], magnitude: 1.0 };
        };
        let per_position = (0..width / 2)
            .map(|pair| {
                let frequency = base.powf(-((2 * pair) as f64) / width as f64);
                let divisor = divisors.and_then(|divisors| divisors.get(pair)).map_or(1.0, |divisor| f64::from(*divisor));
                scaling.scale(frequency / divisor, pair, width, base)
            })
            .collect();
        Self { per_position, magnitude }
    }

    /// Appends cosine and sine of every pair at one position to `out`, as `cos, sin, cos, sin, …`.
    pub fn push_angles(&self, position: usize, out: &mut Vec<f32>) {
        for frequency in &self.per_position {
            // f64, so that large positions keep their precision.
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            out.extend([(cos * self.magnitude) as f32, (sin * self.magnitude) as f32]);
        }
    }
}
