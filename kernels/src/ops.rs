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

/// The activation of a gated feed-forward network (Shazeer 2020).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Activation {
    /// SwiGLU: `x · sigmoid(x)`.
    Silu,
    /// GeGLU: `x · Φ(x)` with the approximation by tanh (Hendrycks & Gimpel 2016).
    Gelu,
}

/// `gate = activation(gate) · up`, both `[rows, width]`, on all threads.
pub fn gated(activation: Activation, gate: &mut [f32], up: &[f32], width: usize) {
    threads::for_parts(gate, width, |row, gate| {
        let up = &up[row * width..(row + 1) * width];
        match activation {
            Activation::Silu => gated_row(gate, up, |gate| gate),
            // (1 + tanh(z)) / 2 = sigmoid(2z), with z = √(2/π) · (x + 0.044715 x³).
            Activation::Gelu => gated_row(gate, up, |gate| {
                let cubic = lanes::add(lanes::mul(lanes::mul(gate, gate), lanes::splat(0.071_354_814)), lanes::splat(1.595_769_2));
                lanes::mul(gate, cubic)
            }),
        }
    });
}

/// `gate = gate · sigmoid(inner(gate)) · up`.
fn gated_row(gate: &mut [f32], up: &[f32], inner: impl Fn(F32x4) -> F32x4) {
    let one = lanes::splat(1.0);
    let gated = |gate: F32x4, up: F32x4| {
        let power = lanes::exp(lanes::sub(lanes::splat(0.0), inner(gate)));
        lanes::mul(lanes::div(gate, lanes::add(one, power)), up)
    };
    let (gates, rest) = gate.as_chunks_mut::<4>();
    let (ups, rest_up) = up.as_chunks::<4>();
    for (gate, up) in gates.iter_mut().zip(ups) {
        lanes::to_slice(gated(lanes::from_slice(gate), lanes::from_slice(up)), gate);
    }
    for (gate, up) in rest.iter_mut().zip(rest_up) {
        *gate = lanes::to_array(gated(lanes::splat(*gate), lanes::splat(*up)))[0];
    }
}

/// Every number `x` becomes `cap · tanh(x / cap)`.
pub fn softcap(numbers: &mut [f32], cap: f32) {
    let (fours, rest) = numbers.as_chunks_mut::<4>();
    for four in fours {
        lanes::to_slice(lanes::softcap(lanes::from_slice(four), cap), four);
    }
    for number in rest {
        *number = lanes::to_array(lanes::softcap(lanes::splat(*number), cap))[0];
    }
}

/// Multiplies every number by `factor`.
pub fn scale(numbers: &mut [f32], factor: f32) {
    numbers.iter_mut().for_each(|number| *number *= factor);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn activations_and_softcaps_agree_with_their_definitions() {
        let numbers: Vec<f32> = (-6000..=6000).map(|index| index as f32 * 0.01).collect();
        let exact = |activation, x: f64| match activation {
            Activation::Silu => x / (1.0 + (-x).exp()),
            Activation::Gelu => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh()),
        };
        for activation in [Activation::Silu, Activation::Gelu] {
            let mut gate = numbers.clone();
            gated(activation, &mut gate, &vec![3.0; numbers.len()], numbers.len());
            for (ours, x) in gate.iter().zip(&numbers) {
                let exact = 3.0 * exact(activation, f64::from(*x));
                assert!((f64::from(*ours) - exact).abs() <= 1e-6 * (1.0 + exact.abs()), "{activation:?} of {x} is {ours}, not {exact}");
            }
        }
        let mut capped = numbers.clone();
        softcap(&mut capped, 30.0);
        for (ours, x) in capped.iter().zip(&numbers) {
            let exact = 30.0 * (f64::from(*x) / 30.0).tanh();
            assert!((f64::from(*ours) - exact).abs() < 1e-5, "{x} becomes {ours}, not {exact}");
        }
    }
}
