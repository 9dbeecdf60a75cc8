//! Activations in 8 bits: what quantised weights are multiplied with.

use super::format::BLOCK;
use super::threads::{self, Parts};
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
        self.narrow.resize(input.len(), 0);
        self.wide.resize(input.len(), 0);
        self.scales.resize(input.len() / BLOCK, [0.0; 4]);
        let (narrow, wide) = (Parts::new(&mut self.narrow, columns), Parts::new(&mut self.wide, columns));
        let scales = Parts::new(&mut self.scales, columns / BLOCK);
        threads::for_ranges(input.len() / columns.max(1), 1, |rows| {
            for row in rows {
                // SAFETY: every row is in one range, and every range is computed by one thread.
                let (narrow, wide, scales) = unsafe { (narrow.take(row), wide.take(row), scales.take(row)) };
                quantise_row(&input[row * columns..(row + 1) * columns], narrow, wide, scales);
            }
        });
    }

    pub fn rows(&self) -> usize {
        self.wide.len() / self.columns.max(1)
    }
}

fn quantise_row(input: &[f32], narrow: &mut [Activation], wide: &mut [i16], scales: &mut [[f32; 4]]) {
    let (narrow, wide) = (narrow.as_chunks_mut::<BLOCK>().0, wide.as_chunks_mut::<BLOCK>().0);
    for (((block, narrow), wide), scales) in input.as_chunks::<BLOCK>().0.iter().zip(narrow).zip(wide).zip(scales) {
        let fours = block.as_chunks::<4>().0;
        // Magnitudes are ordered as their bits are; unlike `max` of numbers this keeps NaN, which must reach the logits.
        let largest =
            fours.iter().fold(lanes::splat_int(0), |largest, four| lanes::max_int(largest, lanes::magnitude_bits(lanes::from_slice(four))));
        let scale = f32::from_bits(lanes::horizontal_max_int(largest) as u32) / 127.0;
        let inverse = lanes::splat(if scale > 0.0 { 1.0 / scale } else { 0.0 });
        // To the nearest integer, ties to even.
        let rounded = |four: &[f32; 4]| lanes::add(lanes::mul(lanes::from_slice(four), inverse), lanes::splat(ROUND));
        for (pair, out) in fours.as_chunks::<2>().0.iter().zip(wide.as_chunks_mut::<8>().0) {
            *out = lanes::rounded_to_i16(rounded(&pair[0]), rounded(&pair[1]));
        }
        for (narrow, wide) in narrow.iter_mut().zip(&*wide) {
            *narrow = *wide as Activation;
        }
        let sum = |from: usize| wide[from..from + 16].iter().map(|value| i32::from(*value)).sum::<i32>();
        let (first, second) = (sum(0), sum(16));
        *scales = [scale, scale * (first + second) as f32, scale * first as f32, scale * second as f32];
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
