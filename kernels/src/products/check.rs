//! Compares the kernels of this build with the reference implementation, and times them, on the machine that runs them.

use super::{Product, multiply, reference};
use crate::activations::Activations;
use crate::format::Format;
use crate::packed::Packed;
use crate::planes::BLOCK;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Multiplies random matrices of random shapes, `rounds` per format, with the kernels and with the reference. Returns the number of results
/// that differ in any bit, and the number of results.
pub fn compare_with_reference(seed: u64, rounds: usize) -> (usize, usize) {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let (mut different, mut compared) = (0, 0);
    for format in Format::ALL {
        for _ in 0..rounds {
            let mut below = |limit: u32| (rng.next_u32() % limit) as usize;
            let unit = if format.is_quantised() { format.columns() } else { 1 };
            let columns = if format.is_quantised() { unit * (1 + below(if unit > BLOCK { 3 } else { 9 })) } else { 1 + below(70) };
            let (rows, batch) = (1 + below(23), [1, 1 + below(10), 30 + below(40)][below(3)]);
            let weights = random_matrix(&mut rng, format, rows, columns, true);
            let values = random_numbers(&mut rng, batch * columns);
            let mut input = Activations::default();
            if format.is_quantised() {
                input.quantise(&values, columns);
            }
            let (mut ours, mut expected) = (vec![0f32; batch * rows], vec![0f32; batch * rows]);
            multiply(&mut [Product::new(&weights, &mut ours)], &values, &input);
            reference::multiply(&weights, &values, &input, &mut expected);
            compared += ours.len();
            different += ours.iter().zip(&expected).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        }
    }
    (different, compared)
}

fn random_numbers(rng: &mut Pcg64Mcg, count: usize) -> Vec<f32> {
    (0..count).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 8.0).collect()
}

/// A matrix of random bytes, except that f16 numbers are finite, as in every model. Subnormal f16 numbers, which models hardly have and
/// which processors multiply slowly, occur only if `subnormal` is set.
fn random_matrix(rng: &mut Pcg64Mcg, format: Format, rows: usize, columns: usize, subnormal: bool) -> Packed {
    if !format.is_quantised() {
        let bytes = random_numbers(rng, rows.div_ceil(4) * 4 * columns)
            .into_iter()
            .flat_map(|number| match format {
                Format::F16 => half::f16::from_f32(number).to_le_bytes().to_vec(),
                Format::Bf16 => half::bf16::from_f32(number).to_le_bytes().to_vec(),
                _ => number.to_le_bytes().to_vec(),
            })
            .collect();
        return Packed { format, rows, columns, bytes };
    }
    let mut bytes = vec![0u8; format.matrix_bytes(rows, columns) as usize];
    rng.fill_bytes(&mut bytes);
    for block in bytes.chunks_exact_mut(format.packed_bytes()) {
        for half in block[..format.f16_count() * 8].chunks_exact_mut(2) {
            half[1] = half[1] & 0xbb | if subnormal { 0 } else { 0x20 };
        }
    }
    Packed { format, rows, columns, bytes }
}

/// The timing of one kind of product.
#[cfg(target_family = "wasm")]
pub struct Measured {
    pub format: &'static str,
    /// Rows of the input: 1 as in decode, more as in prefill.
    pub rows: usize,
    /// Bytes of weights read.
    pub bytes: f64,
    pub multiply_adds: f64,
    pub seconds: f64,
}

/// Times the kernels of every format, for `milliseconds` each, with 1 and with 32 rows of input. The weights exceed the processor's cache.
#[cfg(target_family = "wasm")]
pub fn measure(milliseconds: f64) -> Vec<Measured> {
    let now = crate::clock::now_ms;
    let mut rng = Pcg64Mcg::seed_from_u64(3);
    let (rows, columns) = (256, 1536);
    let mut all = Vec::new();
    for format in Format::ALL {
        let matrices: Vec<Packed> = (0..128).map(|_| random_matrix(&mut rng, format, rows, columns, false)).collect();
        for batch in [1, 32] {
            let values = random_numbers(&mut rng, batch * columns);
            let mut input = Activations::default();
            input.quantise(&values, columns);
            let mut out = vec![0f32; batch * rows];
            let mut pass = |count: usize| {
                for weights in matrices.iter().cycle().take(count) {
                    multiply(&mut [Product::new(weights, &mut out)], &values, &input);
                }
            };
            // Warm up until the engine has optimised the code.
            let begun = now();
            while now() - begun < milliseconds {
                pass(2);
            }
            let (begun, mut passes) = (now(), 0);
            while now() - begun < milliseconds {
                pass(matrices.len());
                passes += matrices.len();
            }
            let seconds = (now() - begun) / 1000.0;
            let bytes = passes as f64 * format.matrix_bytes(rows, columns) as f64;
            let multiply_adds = passes as f64 * (rows * columns * batch) as f64;
            all.push(Measured { format: format.name(), rows: batch, bytes, multiply_adds, seconds });
        }
    }
    all
}
