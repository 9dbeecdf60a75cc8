//! The small operations between the matrix products, on rows of f32.

use crate::lanes::{self, F32x4};
use crate::threads;

/// RMS norm (Zhang & Sennrich 2019) of every row of `input`, scaled by `weight`. `input` and `out` are `[rows, weight.len()]`.
pub fn rms_norm(input: &[f32], weight: &[f32], epsilon: f32, out: &mut [f32]) {
    let width = weight.len();
    for (input, out) in input.chunks_exact(width).zip(out.chunks_exact_mut(width)) {
        let scale = norm_scale(input, epsilon);
        for ((out, input), weight) in out.iter_mut().zip(input).zip(weight) {
            *out = input * scale * weight;
        }
    }
}

/// Like [`rms_norm`], in place.
pub fn rms_norm_in_place(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let scale = norm_scale(row, epsilon);
        for (number, weight) in row.iter_mut().zip(weight) {
            *number = *number * scale * weight;
        }
    }
}

/// What RMS norm multiplies a row by.
fn norm_scale(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt()
}

/// SwiGLU (Shazeer 2020): `gate = silu(gate) · up`, both `[rows, width]`, on all threads.
pub fn swiglu(gate: &mut [f32], up: &[f32], width: usize) {
    threads::for_parts(gate, width, |row, gate| swiglu_row(gate, &up[row * width..(row + 1) * width]));
}

fn swiglu_row(gate: &mut [f32], up: &[f32]) {
    let one = lanes::splat(1.0);
    let silu = |gate: F32x4, up: F32x4| lanes::mul(lanes::div(gate, lanes::add(one, lanes::exp(lanes::sub(lanes::splat(0.0), gate)))), up);
    let (gates, rest) = gate.as_chunks_mut::<4>();
    let (ups, rest_up) = up.as_chunks::<4>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        lanes::to_slice(silu(lanes::from_slice(gate), lanes::from_slice(up)), gate);
    }
    for (gate, up) in rest.iter_mut().zip(rest_up) {
        *gate = lanes::to_array(silu(lanes::splat(*gate), lanes::splat(*up)))[0];
    }
}

/// The residual connection: `stream += delta`.
pub fn add(stream: &mut [f32], delta: &[f32]) {
    for (stream, delta) in stream.iter_mut().zip(delta) {
        *stream += delta;
    }
}

/// RoPE: rotates the pairs `(2i, 2i + 1)` of every head in `row` by `angles` (`cos, sin` per pair). Dimensions beyond the angles are
/// unchanged. Llama GGUF files permute the rows of their query and key matrices for this pairing.
pub fn rope(row: &mut [f32], head_width: usize, angles: &[f32]) {
    for head in row.chunks_exact_mut(head_width) {
        for (pair, angle) in head.chunks_exact_mut(2).zip(angles.chunks_exact(2)) {
            let (x, y, cos, sin) = (pair[0], pair[1], angle[0], angle[1]);
            pair[0] = x * cos - y * sin;
            pair[1] = x * sin + y * cos;
        }
    }
}

/// The dot product, in eight partial sums that a compiler can keep in vector registers. The order of additions is fixed, so the
/// result has the same bits on every platform.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for ((sum, a), b) in sums.iter_mut().zip(a).zip(b) {
            *sum += a * b;
        }
    }
    ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7])) + rest
}
