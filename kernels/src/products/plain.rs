//! The plain twin: what the kernels must give, to the last bit. One number at a time, from the definitions.

use crate::activations::Activations;
use crate::packed::Packed;
use crate::planes::BLOCK;

/// `out[r, o] = Σ_i input[r, i] · weights[o, i]`; `input` is `[rows, columns]` and `quantised` the same as integers, which are
/// taken where weights are quantised. `out` is `[rows, weights.rows]`.
pub fn multiply(weights: &Packed, input: &[f32], quantised: &Activations, out: &mut [f32]) {
    for (row, out) in out.chunks_exact_mut(weights.rows).enumerate() {
        for (output, out) in out.iter_mut().enumerate() {
            *out = if weights.format.is_quantised() {
                of_codes(weights, output, quantised, row)
            } else {
                of_floats(weights, output, &input[row * weights.columns..][..weights.columns])
            };
        }
    }
}

fn of_codes(weights: &Packed, output: usize, input: &Activations, row: usize) -> f32 {
    let blocks = weights.columns / BLOCK;
    let mut total = 0f32;
    for index in 0..blocks {
        let block = weights.row_block(output, index);
        let at = row * blocks + index;
        let [scale, sum, sums @ ..] = input.scales[at];
        let values = input.values[at].numbers();
        let product = |from: usize, to: usize| -> i32 {
            block.codes[from..to].iter().zip(&values[from..to]).map(|(code, value)| code * i32::from(*value)).sum()
        };
        if weights.format.has_halves() {
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

/// In four sums, one for every fourth column.
fn of_floats(weights: &Packed, output: usize, input: &[f32]) -> f32 {
    let mut sums = [0f32; 4];
    for (column, value) in input.iter().enumerate() {
        sums[column % 4] += weights.float(output, column) * value;
    }
    (sums[0] + sums[2]) + (sums[1] + sums[3])
}
