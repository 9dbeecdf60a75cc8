//! Activations in 8 bits: what quantised weights are multiplied with.

use super::format::BLOCK;
use crate::lanes::{self, Activation, ROUND};

/// Rows of activations, quantised by blocks of 32: `x ≈ scale · value`, values −127 to 127.
#[derive(Default)]
pub struct Activations {
    /// In the width that unsigned weights are multiplied in.
    pub narrow: Vec<Activation>,
    /// In the width that signed weights are multiplied in.
    pub wide: Vec<i16>,
    /// Per block `[scale, scale · Σ value, the same of the first 16, of the last 16]`: sums are what a weight's offset is
    /// multiplied with.
    pub scales: Vec<[f32; 4]>,
    pub columns: usize,
}

impl Activations {
    /// Quantises `input` (`[rows, columns]`, `columns` a multiple of 32) in place of what was here.
    pub fn quantise(&mut self, input: &[f32], columns: usize) {
        self.columns = columns;
        self.narrow.clear();
        self.wide.clear();
        self.scales.clear();
        for block in input.as_chunks::<BLOCK>().0 {
            let quarters = block.as_chunks::<4>().0;
            // Magnitudes are ordered as their bits are; unlike `max` of numbers this keeps NaN, which must reach the logits.
            let largest = quarters
                .iter()
                .fold(lanes::splat_int(0), |largest, four| lanes::max_int(largest, lanes::magnitude_bits(lanes::from_slice(four))));
            let scale = f32::from_bits(lanes::horizontal_max_int(largest) as u32) / 127.0;
            let inverse = lanes::splat(if scale > 0.0 { 1.0 / scale } else { 0.0 });
            // To the nearest integer, ties to even.
            let rounded = |four: &[f32; 4]| lanes::add(lanes::mul(lanes::from_slice(four), inverse), lanes::splat(ROUND));
            let mut sums = [0i32; 2];
            for (index, eight) in block.as_chunks::<8>().0.iter().enumerate() {
                let [low, high] = eight.as_chunks::<4>().0 else { continue };
                let values = lanes::rounded_to_i16(rounded(low), rounded(high));
                sums[index / 2] += values.iter().map(|value| i32::from(*value)).sum::<i32>();
                self.wide.extend_from_slice(&values);
                self.narrow.extend(values.map(|value| value as Activation));
            }
            let [first, second] = sums.map(|sum| scale * sum as f32);
            self.scales.push([scale, scale * (sums[0] + sums[1]) as f32, first, second]);
        }
    }

    pub fn rows(&self) -> usize {
        self.wide.len() / self.columns.max(1)
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
            let scale = activations.scales[index / BLOCK][0];
            assert!((f32::from(activations.wide[index]) * scale - value).abs() <= 0.501 * scale);
            assert_eq!(i16::from(activations.narrow[index]), activations.wide[index]);
        }
        for (block, [_, all, first, second]) in activations.scales.iter().enumerate() {
            let exact: f32 = input[block * BLOCK..][..BLOCK].iter().sum();
            assert!((all - exact).abs() < 32.0 * 0.51 * activations.scales[block][0] && (first + second - all).abs() < 1e-3);
        }
        input[40] = f32::NAN;
        activations.quantise(&input, 64);
        assert!(activations.scales[0][0].is_finite() && activations.scales[1][0].is_nan());
        activations.quantise(&[0.0; 32], 32);
        assert_eq!(activations.scales[0], [0.0; 4]);
    }
}
