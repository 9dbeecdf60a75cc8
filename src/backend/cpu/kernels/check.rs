//! Holds the kernels in use to their plain twin, on the machine that runs them.

use super::super::activations::{Activations, BLOCK};
use super::super::packed::{Format, Packed};
use super::{multiply, plain};
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

/// Multiplies random matrices of random shapes by both, `rounds` of each format. Gives how many of the results differ
/// in any bit, and how many there were.
pub fn compare_with_twin(seed: u64, rounds: usize) -> (usize, usize) {
    let mut rng = Pcg64Mcg::seed_from_u64(seed);
    let (mut different, mut compared) = (0, 0);
    for format in [Format::Q4_0, Format::Q4_1, Format::Q8_0] {
        for _ in 0..rounds {
            let mut below = |limit: u32| (rng.next_u32() % limit) as usize;
            let (rows, columns, batch) = (1 + below(23), BLOCK * (1 + below(9)), 1 + below(10));
            let mut bytes = vec![0u8; rows.div_ceil(4) * (columns / BLOCK) * format.group_bytes()];
            rng.fill_bytes(&mut bytes);
            // Scales and offsets are f16: any but infinities and NaN, which no weight has.
            for block in bytes.chunks_exact_mut(format.group_bytes()) {
                for half in block[..format.group_head()].chunks_exact_mut(2) {
                    half[1] &= 0xbb;
                }
            }
            let weights = Packed { format, rows, columns, bytes };
            let values: Vec<f32> = (0..batch * columns).map(|_| (rng.next_u32() as f32 / u32::MAX as f32 - 0.5) * 8.0).collect();
            let mut input = Activations::default();
            input.quantise(&values, columns);
            let (mut ours, mut twin) = (vec![0f32; batch * rows], vec![0f32; batch * rows]);
            multiply(&weights, &input, &mut ours);
            plain::multiply(&weights, &input, &mut twin);
            compared += ours.len();
            different += ours.iter().zip(&twin).filter(|(a, b)| a.to_bits() != b.to_bits()).count();
        }
    }
    (different, compared)
}
