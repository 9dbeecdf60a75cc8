//! Activations quantised to integers, to be multiplied by quantised weights.

use crate::lanes::{self, Values};
use crate::planes::BLOCK;
use crate::threads::{self, Parts};

/// The largest magnitude. With the sign that is 14 bits, which relaxed SIMD multiplies in two parts of seven.
const LARGEST: i16 = 127 * 64;

/// Rows of activations, quantised in blocks of 32: `x ≈ scale · value`.
#[derive(Default)]
pub struct Activations {
    /// `[rows, columns / 32]`.
    pub values: Vec<Values>,
    /// Per block `[scale, scale · Σ value, the same sum over the first 16 values, over the last 16]`. The offsets of the weights are
    /// multiplied by these sums.
    pub scales: Vec<[f32; 4]>,
    pub columns: usize,
}

impl Activations {
    /// Replaces the contents by the quantised `input`, which is `[rows, columns]` with `columns` a multiple of 32. NaN makes its block's
    /// scale NaN.
    pub fn quantise(&mut self, input: &[f32], columns: usize) {
        self.columns = columns;
        let (blocks, per_row) = (input.len() / BLOCK, columns / BLOCK);
        self.values.resize(blocks, Values::default());
        self.scales.resize(blocks, [0.0; 4]);
        let (values, scales) = (Parts::new(&mut self.values, per_row), Parts::new(&mut self.scales, per_row));
        threads::for_ranges(input.len() / columns.max(1), 1, |rows| {
            for row in rows {
                // SAFETY: each row is in exactly one range, and each range is processed by one thread.
                let (values, scales) = unsafe { (values.take(row), scales.take(row)) };
                quantise_row(&input[row * columns..(row + 1) * columns], values, scales);
            }
        });
    }

    /// Whether both vectors have at least `count` blocks: kernels read them unchecked.
    pub fn has_blocks(&self, count: usize) -> bool {
        self.values.len() >= count && self.scales.len() >= count
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.values.len() * BLOCK / self.columns.max(1)
    }
}

fn quantise_row(input: &[f32], values: &mut [Values], scales: &mut [[f32; 4]]) {
    for ((block, values), scales) in input.as_chunks::<BLOCK>().0.iter().zip(values).zip(scales) {
        let mut numbers = [0i16; BLOCK];
        let fours = block.as_chunks::<4>().0;
        let pairs: [_; BLOCK / 8] = std::array::from_fn(|index| [0, 1].map(|half| lanes::from_slice(&fours[2 * index + half])));
        let scale = lanes::to_fixed_point(&pairs, LARGEST, numbers.as_chunks_mut::<8>().0);
        *values = Values::new(&numbers);
        let sum = |from: usize| numbers[from..from + 16].iter().map(|number| i32::from(*number)).sum::<i32>();
        let (first, second) = (sum(0), sum(16));
        *scales = [scale, scale * (first + second) as f32, scale * first as f32, scale * second as f32];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_within_half_a_step_and_nan_is_preserved() {
        let mut input: Vec<f32> = (0..64).map(|i| (i as f32 * 0.7).sin() * i as f32).collect();
        let mut activations = Activations::default();
        activations.quantise(&input, 64);
        assert_eq!(activations.rows(), 1);
        for (index, value) in input.iter().enumerate() {
            let scale = activations.scales[index / BLOCK][0];
            assert!((f32::from(activations.values[index / BLOCK].numbers()[index % BLOCK]) * scale - value).abs() <= 0.501 * scale);
        }
        for (block, [scale, all, first, second]) in activations.scales.iter().enumerate() {
            let exact: f32 = input[block * BLOCK..][..BLOCK].iter().sum();
            let largest = input[block * BLOCK..][..BLOCK].iter().fold(0f32, |largest, value| largest.max(value.abs()));
            assert!((scale * f32::from(LARGEST) - largest).abs() < 1e-4 * largest);
            assert!((all - exact).abs() < 32.0 * 0.51 * scale && (first + second - all).abs() < 1e-3);
        }
        input[40] = f32::NAN;
        activations.quantise(&input, 64);
        assert!(activations.scales[0][0].is_finite() && activations.scales[1][0].is_nan());
        activations.quantise(&[0.0; 32], 32);
        assert_eq!(activations.scales[0], [0.0; 4]);
    }
}
