//! Activations quantised to integers, to be multiplied by quantised weights.

use crate::lanes::{self, QuadValues, Values};
use crate::planes::BLOCK;
use crate::threads::{self, Parts};

/// The largest magnitude. With the sign that is 14 bits, which relaxed SIMD multiplies in two parts of seven.
const LARGEST: i16 = 127 * 64;

/// Up to so many rows are stored and multiplied one by one, more of them four at a time.
const MAX_SINGLE_ROWS: usize = 2;

/// Rows of activations, quantised in blocks of 32: `x ≈ scale · value`.
#[derive(Default)]
pub struct Activations {
    pub columns: usize,
    rows: usize,
    /// If there are few rows: `[rows, columns / 32]`.
    singles: Vec<Block<Values>>,
    /// If there are more: `[rows / 4, columns / 32]`. Rows after the last one have any values.
    quads: Vec<Quad>,
}

/// A block of 32 activations.
#[derive(Clone, Copy, Default)]
pub struct Block<V> {
    pub values: V,
    /// `[scale, scale · Σ value, the same sum over the first 16 values, over the last 16]`. The offsets of the weights are multiplied by
    /// these sums.
    pub scales: [f32; 4],
}

/// The same block of four rows.
#[derive(Clone, Copy, Default)]
pub struct Quad {
    pub values: QuadValues,
    /// Those of a [`Block`], by row.
    pub scales: [[f32; 4]; 4],
}

/// The blocks in the form in which the rows are multiplied.
pub enum Rows<'a> {
    /// `[rows, blocks]`.
    Singles(&'a [Block<Values>]),
    /// `[rows / 4, blocks]`.
    Quads(&'a [Quad]),
}

impl Activations {
    /// Replaces the contents by the quantised `input`, which is `[rows, columns]` with `columns` a multiple of 32. NaN makes its block's
    /// scale NaN.
    pub fn quantise(&mut self, input: &[f32], columns: usize) {
        self.columns = columns;
        self.rows = input.len() / columns.max(1);
        let blocks = columns / BLOCK;
        if self.rows <= MAX_SINGLE_ROWS {
            self.singles.clear();
            self.singles.extend(input.as_chunks().0.iter().map(|block| {
                let Block { values, scales } = quantise_block(block);
                Block { values: Values::new(&values), scales }
            }));
            return;
        }
        let count = self.rows.div_ceil(4);
        self.quads.resize(count * blocks, Quad::default());
        let quads = Parts::new(&mut self.quads, blocks);
        threads::for_ranges(count, 1, |range| {
            for index in range {
                // SAFETY: each index is in exactly one range, and each range is processed by one thread.
                let quads = unsafe { quads.take(index) };
                for (row, input) in input.chunks_exact(columns).skip(4 * index).take(4).enumerate() {
                    for (block, quad) in input.as_chunks().0.iter().zip(&mut *quads) {
                        let Block { values, scales } = quantise_block(block);
                        quad.values.set(row, &values);
                        quad.scales[row] = scales;
                    }
                }
            }
        });
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// All blocks: `rows` times `columns / 32`, where [`Rows::Quads`] have a multiple of four rows.
    pub fn blocks(&self) -> Rows<'_> {
        if self.rows <= MAX_SINGLE_ROWS { Rows::Singles(&self.singles) } else { Rows::Quads(&self.quads) }
    }

    /// Block `index` of row `row`.
    pub fn block(&self, row: usize, index: usize) -> Block<[i16; BLOCK]> {
        let blocks = self.columns / BLOCK;
        match self.blocks() {
            Rows::Singles(singles) => {
                let Block { values, scales } = &singles[row * blocks + index];
                Block { values: values.numbers(), scales: *scales }
            }
            Rows::Quads(quads) => {
                let Quad { values, scales } = &quads[row / 4 * blocks + index];
                Block { values: values.numbers(row % 4), scales: scales[row % 4] }
            }
        }
    }
}

fn quantise_block(block: &[f32; BLOCK]) -> Block<[i16; BLOCK]> {
    let mut values = [0i16; BLOCK];
    let fours = block.as_chunks::<4>().0;
    let pairs: [_; BLOCK / 8] = std::array::from_fn(|index| [0, 1].map(|half| lanes::from_slice(&fours[2 * index + half])));
    let scale = lanes::to_fixed_point(&pairs, LARGEST, values.as_chunks_mut::<8>().0);
    let sum = |from: usize| values[from..from + 16].iter().map(|number| i32::from(*number)).sum::<i32>();
    let (first, second) = (sum(0), sum(16));
    Block { values, scales: [scale, scale * (first + second) as f32, scale * first as f32, scale * second as f32] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_within_half_a_step_and_nan_is_preserved() {
        for rows in [1, 2, 3, 6] {
            let mut input: Vec<f32> = (0..64 * rows).map(|i| (i as f32 * 0.7).sin() * i as f32).collect();
            let mut activations = Activations::default();
            activations.quantise(&input, 64);
            assert_eq!(activations.rows(), rows);
            for (index, exact) in input.as_chunks::<BLOCK>().0.iter().enumerate() {
                let Block { values, scales: [scale, all, first, second] } = activations.block(index / 2, index % 2);
                for (value, exact) in values.iter().zip(exact) {
                    assert!((f32::from(*value) * scale - exact).abs() <= 0.501 * scale);
                }
                let sum: f32 = exact.iter().sum();
                let largest = exact.iter().fold(0f32, |largest, value| largest.max(value.abs()));
                assert!((scale * f32::from(LARGEST) - largest).abs() < 1e-4 * largest);
                assert!((all - sum).abs() < 32.0 * 0.51 * scale && (first + second - all).abs() < 1e-3 * largest.max(1.0));
            }
            input[40] = f32::NAN;
            activations.quantise(&input, 64);
            assert!(activations.block(0, 0).scales[0].is_finite() && activations.block(0, 1).scales[0].is_nan());
            activations.quantise(&vec![0.0; 32 * rows], 32);
            assert_eq!(activations.block(rows - 1, 0).scales, [0.0; 4]);
        }
    }
}
