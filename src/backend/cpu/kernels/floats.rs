//! Matrix products over weights that are floats.

use super::super::packed::{Packed, ROWS};
use super::output::Output;
use crate::gguf::Format;
use crate::lanes::{self, F32x4};
use std::ops::Range;

/// Groups `groups` of the weights against every row of the input (`[rows, columns]`).
pub fn multiply(weights: &Packed, input: &[f32], groups: Range<usize>, out: &Output<'_>) {
    assert!(groups.end <= weights.groups() && weights.columns > 0, "shapes of the weights");
    match weights.format {
        Format::F32 => by_groups(weights, input, groups, out, |at| {
            // SAFETY: `at` is a column of four rows, 16 bytes.
            unsafe { lanes::load_floats(at.cast()) }
        }),
        Format::F16 => by_groups(weights, input, groups, out, |at| {
            // SAFETY: `at` is a column of four rows, 8 bytes.
            unsafe { lanes::load_four_halves(at) }
        }),
        Format::Bf16 => by_groups(weights, input, groups, out, |at| {
            // SAFETY: `at` is a column of four rows, 8 bytes.
            unsafe { lanes::load_four_brain_halves(at) }
        }),
        _ => {}
    }
}

#[inline(always)]
fn by_groups(weights: &Packed, input: &[f32], groups: Range<usize>, out: &Output<'_>, load: impl Fn(*const u8) -> F32x4) {
    let (bytes, step) = (weights.group_bytes(), weights.format.packed_bytes());
    for group in groups {
        let packed = &weights.bytes[group * bytes..(group + 1) * bytes];
        for (row, input) in input.chunks_exact(weights.columns).enumerate() {
            // One sum for every fourth column, as the twin has it.
            let mut sums = [lanes::splat(0.0); ROWS];
            for (columns, values) in packed.chunks(4 * step).zip(input.chunks(4)) {
                for ((column, value), sum) in columns.chunks_exact(step).zip(values).zip(&mut sums) {
                    *sum = lanes::add(*sum, lanes::mul(load(column.as_ptr()), lanes::splat(*value)));
                }
            }
            out.write(row, group, lanes::add(lanes::add(sums[0], sums[2]), lanes::add(sums[1], sums[3])));
        }
    }
}
