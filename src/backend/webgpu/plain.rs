//! The kernels' plain twins: what each of them must give, written so that it can be read.

use super::shaders::{Ending, Sizes};
use crate::backend::MAX_CANDIDATES;
use crate::error::Result;
use half::f16;
use kernels::Format;
use kernels::packed::Packing;

/// A matrix `[rows, columns]` out of a file's bytes.
pub fn dequantise(format: Format, rows: usize, columns: usize, bytes: &[u8]) -> Result<Vec<f32>> {
    let mut packing = Packing::new(format, rows, columns)?;
    packing.write(bytes)?;
    let packed = packing.finish();
    let mut numbers = vec![0.0; rows * columns];
    numbers.chunks_exact_mut(columns).enumerate().for_each(|(row, out)| packed.copy_row(row, out));
    Ok(numbers)
}

/// `matvec.wgsl` and `matmul.wgsl`: every row of `input` `[rows, columns]` times the matrix, into `output` `[rows, matrix rows]`.
pub fn product(matrix: &[f32], columns: usize, input: &[f32], ending: Ending, output: &mut [f32]) {
    let width = matrix.len() / columns;
    for (input, output) in input.chunks_exact(columns).zip(output.chunks_exact_mut(width)) {
        for (weights, output) in matrix.chunks_exact(columns).zip(output) {
            let sum = weights.iter().zip(input).map(|(weight, input)| f64::from(*weight) * f64::from(*input)).sum::<f64>() as f32;
            *output = match ending {
                Ending::Store => sum,
                Ending::Add => *output + sum,
                Ending::Gate => *output / (1.0 + (-*output).exp()) * sum,
            };
        }
    }
}

/// `norm.wgsl`, for one row.
pub fn norm(input: &[f32], scales: &[f32], epsilon: f32) -> Vec<f32> {
    let mean_square = input.iter().map(|value| value * value).sum::<f32>() / input.len() as f32;
    let scale = 1.0 / (mean_square + epsilon).sqrt();
    input.iter().zip(scales).map(|(value, weight)| value * scale * weight).collect()
}

/// `rope.wgsl`: turns the pairs of every head of one row.
pub fn rope(row: &mut [f32], sizes: &Sizes, angles: &[f32]) {
    for head in row.chunks_exact_mut(sizes.head_width) {
        for (pair, angle) in head.as_chunks_mut::<2>().0.iter_mut().zip(angles.as_chunks::<2>().0) {
            let ([x, y], [cos, sin]) = (*pair, *angle);
            *pair = [x * cos - y * sin, x * sin + y * cos];
        }
    }
}

/// What is left of numbers in the cache.
pub fn through_f16(numbers: &[f32]) -> Vec<f32> {
    numbers.iter().map(|number| f16::from_f32(*number).to_f32()).collect()
}

/// `attention.wgsl` and `combine.wgsl`: one row of queries over `keys` and `values`, `[positions, kv_heads, head_width]`.
pub fn attention(query: &[f32], keys: &[f32], values: &[f32], sizes: &Sizes) -> Vec<f32> {
    let Sizes { heads, kv_heads, head_width, .. } = *sizes;
    let scale = 1.0 / (head_width as f32).sqrt();
    let mut out = vec![0.0; query.len()];
    for (head, (query, out)) in query.chunks_exact(head_width).zip(out.chunks_exact_mut(head_width)).enumerate() {
        let first = head / (heads / kv_heads) * head_width;
        let of_head = |numbers: &[f32], position: usize| numbers[position * kv_heads * head_width + first..][..head_width].to_vec();
        let count = keys.len() / (kv_heads * head_width);
        let scores: Vec<f32> =
            (0..count).map(|position| query.iter().zip(of_head(keys, position)).map(|(q, k)| q * k).sum::<f32>() * scale).collect();
        let largest = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let weights: Vec<f32> = scores.iter().map(|score| (score - largest).exp()).collect();
        let sum: f32 = weights.iter().sum();
        for (position, weight) in weights.iter().enumerate() {
            out.iter_mut().zip(of_head(values, position)).for_each(|(out, value)| *out += weight / sum * value);
        }
    }
    out
}

/// `arg_max.wgsl` and `top_k.wgsl`: the largest logits, largest first, equal ones by token; those that are no finite numbers are left out.
pub fn candidates(logits: &[f32], count: usize) -> Vec<(u32, f32)> {
    let mut all: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()).collect();
    all.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    all.truncate(count.min(MAX_CANDIDATES));
    all
}
