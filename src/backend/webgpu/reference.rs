//! Reference implementations of the shaders: the result that each must compute, written for readability.

use super::shaders::{Epilogue, Sizes};
use crate::backend::MAX_CANDIDATES;
use crate::error::Result;
use half::f16;
use kernels::Format;
use kernels::ops::Activation;
use kernels::packing::Packing;

/// Dequantises a matrix `[rows, columns]` from the bytes of a file.
///
/// # Errors
///
/// If there is no memory for the packed matrix.
pub fn dequantise(format: Format, rows: usize, columns: usize, bytes: &[u8]) -> Result<Vec<f32>> {
    let mut packing = Packing::new(format, rows, columns)?;
    packing.write(bytes)?;
    let packed = packing.finish()?;
    let mut numbers = vec![0.0; rows * columns];
    numbers.chunks_exact_mut(columns).enumerate().for_each(|(row, out)| packed.copy_row(row, out));
    Ok(numbers)
}

/// `matvec.wgsl` and `matmul.wgsl`: multiplies every row of `input` `[rows, columns]` by `matrix` `[matrix rows, columns]`, applies the
/// epilogue, and writes to `output` `[rows, matrix rows]`.
pub fn product(matrix: &[f32], columns: usize, input: &[f32], epilogue: Epilogue, output: &mut [f32]) {
    let width = matrix.len() / columns;
    for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(width)) {
        for (weights, output) in matrix.chunks_exact(columns).zip(output) {
            let sum = weights.iter().zip(input).map(|(weight, input)| f64::from(*weight) * f64::from(*input)).sum::<f64>() as f32;
            *output = match epilogue {
                Epilogue::Store => sum,
                Epilogue::Add => *output + sum,
                Epilogue::Gate(Activation::Silu) => *output / (1.0 + (-*output).exp()) * sum,
                Epilogue::Gate(Activation::Gelu) => {
                    let inner = (2.0 / std::f32::consts::PI).sqrt() * (*output + 0.044_715 * output.powi(3));
                    0.5 * *output * (1.0 + inner.tanh()) * sum
                }
            };
        }
    }
}

/// `norm.wgsl` for one row: RMS norm of `input`, times `scales`, both `[width]`.
pub fn norm(input: &[f32], scales: &[f32], epsilon: f32) -> Vec<f32> {
    let mean_square = input.iter().map(|value| value * value).sum::<f32>() / input.len() as f32;
    let scale = 1.0 / (mean_square + epsilon).sqrt();
    input.iter().zip(scales).map(|(value, weight)| value * scale * weight).collect()
}

/// `rope.wgsl`: rotates the pairs of every head of one row `[heads, head_width]` in place. `angles`: cosine and sine per pair.
pub fn rope(row: &mut [f32], sizes: &Sizes, angles: &[f32]) {
    for head in row.chunks_exact_mut(sizes.head_width) {
        for (pair, angle) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles.as_chunks::<2>().0) {
            let ([x, y], [cos, sin]) = (*pair, *angle);
            *pair = [x * cos - y * sin, x * sin + y * cos];
        }
    }
}

/// Rounds numbers to f16, as the KV cache does.
pub fn through_f16(numbers: &[f32]) -> Vec<f32> {
    numbers.iter().map(|number| f16::from_f32(*number).to_f32()).collect()
}

/// `attention.wgsl` and `combine.wgsl`: attention of one row of queries `[heads, head_width]` over `keys` and `values`
/// `[positions, kv_heads, head_width]`.
pub fn attention(query: &[f32], keys: &[f32], values: &[f32], sizes: &Sizes) -> Vec<f32> {
    let Sizes { heads, kv_heads, head_width, score_divisor, score_softcap, .. } = *sizes;
    let scale = 1.0 / score_divisor;
    let capped = |score: f32| score_softcap.map_or(score, |cap| cap * (score / cap).tanh());
    let mut out = vec![0.0; query.len()];
    for (head, (query, out)) in query.chunks_exact(head_width).zip(out.chunks_exact_mut(head_width)).enumerate() {
        let first = head / (heads / kv_heads) * head_width;
        let of_head = |numbers: &[f32], position: usize| numbers[position * kv_heads * head_width + first..][..head_width].to_vec();
        let count = keys.len() / (kv_heads * head_width);
        let scores: Vec<f32> = (0..count)
            .map(|position| query.iter().zip(of_head(keys, position)).map(|(q, k)| q * k).sum::<f32>() * scale)
            .map(capped)
            .collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f32 = weights.iter().sum();
        for (position, weight) in weights.iter().enumerate() {
            out.iter_mut().zip(of_head(values, position)).for_each(|(out, value)| *out += weight / sum * value);
        }
    }
    out
}

/// `arg_max.wgsl` and `top_k.wgsl`: the `count` largest logits with their tokens, largest first, equal logits by ascending token. Logits
/// that are not finite are left out.
pub fn candidates(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(count.min(MAX_CANDIDATES));
    all
}
