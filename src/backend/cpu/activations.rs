//! Activations in 8 bits: what packed weights are multiplied with.

/// Columns that share one scale, as in the weights' blocks.
pub const BLOCK: usize = 32;

/// Rows of activations, quantised by blocks of 32: `x ≈ scale · value`, values −127 to 127.
#[derive(Default)]
pub struct Activations {
    /// Kept in 16 bits, the width in which they are multiplied.
    pub values: Vec<i16>,
    pub scales: Vec<f32>,
    /// `scale · Σ value` of each block: what a weight's offset is multiplied with.
    pub sums: Vec<f32>,
    pub columns: usize,
}

impl Activations {
    /// Quantises `input` (`[rows, columns]`, `columns` a multiple of 32) in place of what was here.
    pub fn quantise(&mut self, input: &[f32], columns: usize) {
        self.columns = columns;
        self.values.clear();
        self.scales.clear();
        self.sums.clear();
        for block in input.chunks_exact(BLOCK) {
            // Magnitudes are ordered as their bits are; unlike `max` of numbers this keeps NaN, which must reach the logits.
            let largest = block.iter().fold(0, |largest, value| largest.max(value.to_bits() & 0x7fff_ffff));
            let largest = f32::from_bits(largest);
            let scale = largest / 127.0;
            let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
            let start = self.values.len();
            // Half away from zero, as the block formats define it.
            self.values.extend(block.iter().map(|value| (value * inverse + 0.5f32.copysign(*value)) as i16));
            let sum: i32 = self.values[start..].iter().map(|value| i32::from(*value)).sum();
            self.scales.push(scale);
            self.sums.push(scale * sum as f32);
        }
    }

    pub fn rows(&self) -> usize {
        self.values.len() / self.columns.max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_within_half_a_step_and_nan_is_kept() {
        let mut input: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin() * i as f32).collect();
        let mut activations = Activations::default();
        activations.quantise(&input, 64);
        assert_eq!(activations.rows(), 1);
        for (index, value) in input.iter().enumerate() {
            let scale = activations.scales[index / BLOCK];
            assert!((f32::from(activations.values[index]) * scale - value).abs() <= 0.501 * scale);
        }
        input[40] = f32::NAN;
        activations.quantise(&input, 64);
        assert!(activations.scales[0].is_finite() && activations.scales[1].is_nan());
        activations.quantise(&[0.0; 32], 32);
        assert_eq!((activations.scales[0], activations.sums[0]), (0.0, 0.0));
    }
}
