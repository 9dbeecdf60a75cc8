//! The reference implementation: computes one number at a time, from the definitions. The kernels must produce the same bits.

use crate::activations::{Activations, Block};
use crate::packed::Packed;
use crate::planes::BLOCK;

/// `out[r, o] = Σ_i input[r, i] · weights[o, i]`. `input` is `[rows, columns]`; `quantised` is its quantised form, which is used if the
/// weights are quantised. `out` is `[rows, weights.rows]`.
pub fn multiply(weights: &Packed, input: &[f32], quantised: &Activations, out: &mut [f32]) {
    for (row, out) in out.chunks_exact_mut(weights.rows).enumerate() {
        for (output, out) in out.iter_mut().enumerate() {
            *out = if weights.format.is_quantised() {
                dot_quantised(weights, output, quantised, row)
            } else {
                dot_floats(weights, output, &input[row * weights.columns..][..weights.columns])
            };
        }
    }
}

/// The dot product of a row of codes, one block of 32 columns after the other.
fn dot_quantised(weights: &Packed, output: usize, input: &Activations, row: usize) -> f32 {
    let blocks = weights.columns / BLOCK;
    let mut total = 0f32;
    for index in 0..blocks {
        let block = weights.row_block(output, index);
        let Block { values, scales: [scale, sum, sums @ ..] } = input.block(row, index);
        let product = |from: usize, to: usize| -> i32 {
            block.codes[from..to].iter().zip(&values[from..to]).map(|(code, value)| code * i32::from(*value)).sum()
        };
        if weights.format.has_scale_per_16() {
            for half in 0..2 {
                let (weight, offset) = block.scales[half];
                total += product(half * 16, half * 16 + 16) as f32 * (weight * scale);
                total += offset * sums[half];
            }
        } else {
            let (weight, offset) = block.scales[0];
            total += product(0, BLOCK) as f32 * (weight * scale);
            if weights.format.has_offset() {
                total += offset * sum;
            }
        }
    }
    total
}

/// The dot product of a row of floats, in four partial sums: sum `k` takes the columns with `column % 4 == k`.
fn dot_floats(weights: &Packed, output: usize, input: &[f32]) -> f32 {
    let mut sums = [0f32; 4];
    for (column, value) in input.iter().enumerate() {
        sums[column % 4] += weights.float(output, column) * value;
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
