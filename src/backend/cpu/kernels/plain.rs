//! The plain twin: what the SIMD kernels must give, to the last bit.

use super::super::activations::{Activations, BLOCK};
use super::super::packed::{Format, Packed, ROWS, scale_and_offset};

/// `out[r, o] = Σ_i input[r, i] · weights[o, i]`. `out` is `[input.rows(), weights.rows]`.
pub fn multiply(weights: &Packed, input: &Activations, out: &mut [f32]) {
    let blocks = weights.blocks();
    for group in 0..weights.groups() {
        for row in 0..input.rows() {
            let mut sums = [0f32; ROWS];
            for block in 0..blocks {
                let bytes = weights.group_block(group, block);
                let at = row * blocks + block;
                let values = &input.values[at * BLOCK..(at + 1) * BLOCK];
                let (scale, sum) = (input.scales[at], input.sums[at]);
                for (lane, total) in sums.iter_mut().enumerate() {
                    let product = dot(weights.format, bytes, lane, values);
                    let (weight_scale, offset) = scale_and_offset(weights.format, bytes, lane);
                    *total += product as f32 * (weight_scale * scale);
                    if weights.format != Format::Q8_0 {
                        *total += offset * sum;
                    }
                }
            }
            for (lane, total) in sums.iter().enumerate().take(weights.rows - group * ROWS) {
                out[row * weights.rows + group * ROWS + lane] = *total;
            }
        }
    }
}

/// `Σ q · x` of one row's block.
fn dot(format: Format, bytes: &[u8], lane: usize, values: &[i16]) -> i32 {
    let words = &bytes[format.group_head()..];
    let mut sum = 0;
    for word in 0..format.words() {
        for column in 0..4 {
            let byte = words[word * 16 + lane * 4 + column];
            let at = word * 4 + column;
            sum += match format {
                Format::Q8_0 => i32::from(byte as i8) * i32::from(values[at]),
                Format::Q4_0 | Format::Q4_1 => {
                    i32::from(byte & 15) * i32::from(values[at]) + i32::from(byte >> 4) * i32::from(values[at + 16])
                }
            };
        }
    }
    sum
}
