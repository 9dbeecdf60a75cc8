//! Matrix products with unquantised weights: F32, F16 and BF16.

use super::output::Output;
use crate::format::Format;
use crate::lanes::{self, Constants, F32x4};
use crate::packed::Packed;
use std::ops::Range;

/// Multiplies groups `groups` of the weights by every row of `input`, `[rows, columns]`. Does nothing for quantised weights.
pub fn multiply(weights: &Packed, input: &[f32], groups: Range<usize>, out: &Output<'_>) {
    assert!(groups.end <= weights.groups() && weights.columns > 0, "shapes of the weights");
    let constants = Constants::new();
    match weights.format {
        Format::F32 => by_groups::<16>(weights, input, groups, out, |at| {
            // SAFETY: `at` is one column of four rows: 16 bytes.
            unsafe { lanes::load_floats(at.as_ptr().cast()) }
        }),
        Format::F16 => by_groups::<8>(weights, input, groups, out, |at| {
            // SAFETY: `at` is one column of four rows: 8 bytes.
            unsafe { constants.load_four_f16(at.as_ptr()) }
        }),
        Format::Bf16 => by_groups::<8>(weights, input, groups, out, |at| {
            // SAFETY: `at` is one column of four rows: 8 bytes.
            unsafe { lanes::load_four_bf16(at.as_ptr()) }
        }),
        _ => {}
    }
}

/// Multiplies weights of which one column of four rows has `STEP` bytes; `load` widens such a column to f32.
#[inline(always)]
fn by_groups<const STEP: usize>(
    weights: &Packed,
    input: &[f32],
    groups: Range<usize>,
    out: &Output<'_>,
    load: impl Fn(&[u8; STEP]) -> F32x4 + Copy,
) {
    let bytes = weights.group_bytes();
    for group in groups {
        let (columns, _) = weights.bytes[group * bytes..(group + 1) * bytes].as_chunks::<STEP>();
        // Two rows of the input share each load of weights.
        for (pair, rows) in input.chunks(2 * weights.columns).enumerate() {
            match rows.split_at_checked(weights.columns) {
                Some((first, second)) if second.len() == weights.columns => {
                    let [first, second] = products(columns, [first, second], load);
                    out.write(2 * pair, group, first);
                    out.write(2 * pair + 1, group, second);
                }
                _ => {
                    let [only] = products(columns, [rows], load);
                    out.write(2 * pair, group, only);
                }
            }
        }
    }
}

/// The products of `N` rows of the input with one group. Each row has four partial sums, one per `column % 4`, like the reference.
#[inline(always)]
fn products<const STEP: usize, const N: usize>(
    columns: &[[u8; STEP]],
    rows: [&[f32]; N],
    load: impl Fn(&[u8; STEP]) -> F32x4 + Copy,
) -> [F32x4; N] {
    let (fours, rest) = columns.as_chunks::<4>();
    let inputs = rows.map(|row| row.as_chunks::<4>());
    let of_fours = inputs.map(|(inputs, _)| &inputs[..fours.len()]);
    let mut sums = [[lanes::splat(0.0); 4]; N];
    for (index, [a, b, c, d]) in fours.iter().enumerate() {
        let (a, b, c, d) = (load(a), load(b), load(c), load(d));
        for (sums, inputs) in sums.iter_mut().zip(of_fours) {
            let input = &inputs[index];
            sums[0] = lanes::add(sums[0], lanes::mul(a, lanes::splat(input[0])));
            sums[1] = lanes::add(sums[1], lanes::mul(b, lanes::splat(input[1])));
            sums[2] = lanes::add(sums[2], lanes::mul(c, lanes::splat(input[2])));
            sums[3] = lanes::add(sums[3], lanes::mul(d, lanes::splat(input[3])));
        }
    }
    for (sums, (_, input)) in sums.iter_mut().zip(inputs) {
        for ((column, input), sum) in rest.iter().zip(input).zip(sums) {
            *sum = lanes::add(*sum, lanes::mul(load(column), lanes::splat(*input)));
        }
    }
    sums.map(|[a, b, c, d]| lanes::add(lanes::add(a, c), lanes::add(b, d)))
}
