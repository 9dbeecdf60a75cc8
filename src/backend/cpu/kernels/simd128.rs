//! WebAssembly SIMD, without relaxed instructions: runs in every engine that has `simd128`.
//!
//! Bytes are widened to 16 bits and multiplied pairwise (`i32x4.dot_i16x8_s`). A lane of the result belongs to half of a
//! row's word; the halves are added once per block.

use super::super::activations::{Activations, BLOCK};
use super::super::packed::{Format, Packed, ROWS};
use core::arch::wasm32::*;

/// Rows that are computed together, so that each unpacked weight serves several.
const TILE: usize = 4;

/// See [`super::multiply`].
pub fn multiply(weights: &Packed, input: &Activations, out: &mut [f32]) {
    match weights.format {
        Format::Q4_0 => by_tiles::<Q4_0>(weights, input, out),
        Format::Q4_1 => by_tiles::<Q4_1>(weights, input, out),
        Format::Q8_0 => by_tiles::<Q8_0>(weights, input, out),
    }
}

fn by_tiles<K: Kernel>(weights: &Packed, input: &Activations, out: &mut [f32]) {
    let rows = input.rows();
    assert_eq!(input.columns, weights.columns, "columns of input and weights");
    let mut first = 0;
    while first < rows {
        let tile = (rows - first).min(TILE);
        match tile {
            1 => tile_of::<K, 1>(weights, input, first, out),
            2 => tile_of::<K, 2>(weights, input, first, out),
            3 => tile_of::<K, 3>(weights, input, first, out),
            _ => tile_of::<K, TILE>(weights, input, first, out),
        }
        first += tile;
    }
}

/// `T` rows of the input from `first` on, against every row of the weights.
fn tile_of<K: Kernel, const T: usize>(weights: &Packed, input: &Activations, first: usize, out: &mut [f32]) {
    let blocks = weights.blocks();
    let rows: [Row<'_>; T] = std::array::from_fn(|row| {
        let at = (first + row) * blocks;
        Row {
            values: &input.values[at * BLOCK..(at + blocks) * BLOCK],
            scales: &input.scales[at..at + blocks],
            sums: &input.sums[at..at + blocks],
        }
    });
    let group_bytes = weights.format.group_bytes();
    for (group, bytes) in weights.bytes.chunks_exact(blocks * group_bytes).enumerate() {
        let mut totals = [f32x4_splat(0.0); T];
        for (block, bytes) in bytes.chunks_exact(group_bytes).enumerate() {
            // SAFETY: `bytes` is a whole group block of K's format, and every row's values cover block `block`.
            unsafe { K::block::<T>(bytes.as_ptr(), &rows, block, &mut totals) };
        }
        for (row, total) in totals.iter().enumerate() {
            let at = (first + row) * weights.rows + group * ROWS;
            let lanes = [
                f32x4_extract_lane::<0>(*total),
                f32x4_extract_lane::<1>(*total),
                f32x4_extract_lane::<2>(*total),
                f32x4_extract_lane::<3>(*total),
            ];
            let count = ROWS.min(weights.rows - group * ROWS);
            out[at..at + count].copy_from_slice(&lanes[..count]);
        }
    }
}

struct Row<'a> {
    values: &'a [i16],
    scales: &'a [f32],
    sums: &'a [f32],
}

trait Kernel {
    /// Adds one block of a group to the totals of `T` rows.
    ///
    /// # Safety
    /// `bytes` points to a whole group block of the kernel's format; every row has the block `block`.
    unsafe fn block<const T: usize>(bytes: *const u8, rows: &[Row<'_>; T], block: usize, totals: &mut [v128; T]);
}

struct Q4_0;
struct Q4_1;
struct Q8_0;

impl Kernel for Q4_0 {
    #[inline(always)]
    unsafe fn block<const T: usize>(bytes: *const u8, rows: &[Row<'_>; T], block: usize, totals: &mut [v128; T]) {
        // SAFETY: the caller's promise; a group block of Q4_0 is 8 bytes of scales and 64 of quants.
        let (scale, products) = unsafe { (halves(bytes), nibbles(bytes.add(8), rows, block)) };
        add(totals, rows, block, scale, products, Some(f32x4_mul(scale, f32x4_splat(-8.0))));
    }
}

impl Kernel for Q4_1 {
    #[inline(always)]
    unsafe fn block<const T: usize>(bytes: *const u8, rows: &[Row<'_>; T], block: usize, totals: &mut [v128; T]) {
        // SAFETY: the caller's promise; a group block of Q4_1 is 8 bytes of scales, 8 of offsets and 64 of quants.
        let (scale, offset, products) = unsafe { (halves(bytes), halves(bytes.add(8)), nibbles(bytes.add(16), rows, block)) };
        add(totals, rows, block, scale, products, Some(offset));
    }
}

impl Kernel for Q8_0 {
    #[inline(always)]
    unsafe fn block<const T: usize>(bytes: *const u8, rows: &[Row<'_>; T], block: usize, totals: &mut [v128; T]) {
        let mut low = [i32x4_splat(0); T];
        let mut high = [i32x4_splat(0); T];
        for word in 0..8 {
            // SAFETY: the caller's promise; behind 8 bytes of scales stand 8 vectors of quants.
            let quants = unsafe { v128_load(bytes.add(8 + word * 16).cast()) };
            let (first, second) = (i16x8_extend_low_i8x16(quants), i16x8_extend_high_i8x16(quants));
            for row in 0..T {
                // SAFETY: four values from column `4 · word` of a block of 32.
                let x = unsafe { v128_load64_splat(rows[row].values.as_ptr().add(block * BLOCK + word * 4).cast()) };
                low[row] = i32x4_add(low[row], i32x4_dot_i16x8(first, x));
                high[row] = i32x4_add(high[row], i32x4_dot_i16x8(second, x));
            }
        }
        // SAFETY: as above.
        let scale = unsafe { halves(bytes) };
        add(totals, rows, block, scale, std::array::from_fn(|row| join(low[row], high[row])), None);
    }
}

/// The twin's floating-point operations, in its order.
#[inline(always)]
fn add<const T: usize>(totals: &mut [v128; T], rows: &[Row<'_>; T], block: usize, scale: v128, products: [v128; T], offset: Option<v128>) {
    for row in 0..T {
        let factor = f32x4_mul(scale, f32x4_splat(rows[row].scales[block]));
        totals[row] = f32x4_add(totals[row], f32x4_mul(f32x4_convert_i32x4(products[row]), factor));
        if let Some(offset) = offset {
            totals[row] = f32x4_add(totals[row], f32x4_mul(offset, f32x4_splat(rows[row].sums[block])));
        }
    }
}

/// `Σ q · x` of four rows for nibbles, per row of the input.
///
/// # Safety
/// `quants` points to 64 bytes; every row has the block `block`.
#[inline(always)]
unsafe fn nibbles<const T: usize>(quants: *const u8, rows: &[Row<'_>; T], block: usize) -> [v128; T] {
    let mask = u8x16_splat(0x0f);
    let mut low = [i32x4_splat(0); T];
    let mut high = [i32x4_splat(0); T];
    for word in 0..4 {
        // SAFETY: one of four vectors behind `quants`.
        let bytes = unsafe { v128_load(quants.add(word * 16).cast()) };
        let (near, far) = (v128_and(bytes, mask), u8x16_shr(bytes, 4));
        let (near_low, near_high) = (u16x8_extend_low_u8x16(near), u16x8_extend_high_u8x16(near));
        let (far_low, far_high) = (u16x8_extend_low_u8x16(far), u16x8_extend_high_u8x16(far));
        for row in 0..T {
            // SAFETY: four values from column `4 · word`, and four from 16 further, in a block of 32.
            let (x, y) = unsafe {
                let values = rows[row].values.as_ptr().add(block * BLOCK + word * 4);
                (v128_load64_splat(values.cast()), v128_load64_splat(values.add(16).cast()))
            };
            low[row] = i32x4_add(low[row], i32x4_add(i32x4_dot_i16x8(near_low, x), i32x4_dot_i16x8(far_low, y)));
            high[row] = i32x4_add(high[row], i32x4_add(i32x4_dot_i16x8(near_high, x), i32x4_dot_i16x8(far_high, y)));
        }
    }
    std::array::from_fn(|row| join(low[row], high[row]))
}

/// Half sums of rows 0 and 1, and of rows 2 and 3 → the sums of the four rows.
#[inline(always)]
fn join(low: v128, high: v128) -> v128 {
    i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(low, high), i32x4_shuffle::<1, 3, 5, 7>(low, high))
}

/// Four f16 as f32. Exact for every finite number: the exponent is moved by a multiplication, which also makes
/// subnormal numbers right.
///
/// # Safety
/// `bytes` points to 8 bytes.
#[inline(always)]
unsafe fn halves(bytes: *const u8) -> v128 {
    // SAFETY: the caller's promise.
    let bits = u32x4_extend_low_u16x8(unsafe { v128_load64_zero(bytes.cast()) });
    let magnitude = i32x4_shl(v128_and(bits, i32x4_splat(0x7fff)), 13);
    let sign = i32x4_shl(v128_and(bits, i32x4_splat(0x8000)), 16);
    // 2^112: the difference of the two exponents' biases.
    v128_or(f32x4_mul(magnitude, f32x4_splat(f32::from_bits(0x7780_0000))), sign)
}
