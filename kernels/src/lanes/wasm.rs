//! 128-bit vectors as WebAssembly SIMD.

use super::CodeConstants;
use super::arch::*;
use crate::format::IQ4_CODES;

pub type F32x4 = v128;
pub type I32x4 = v128;
/// Sixteen bytes.
pub type Bytes = v128;

/// Zero in all lanes.
pub const ZERO: F32x4 = f32x4(0.0, 0.0, 0.0, 0.0);

#[inline(always)]
pub fn splat(value: f32) -> F32x4 {
    f32x4_splat(value)
}

#[inline(always)]
pub fn add(a: F32x4, b: F32x4) -> F32x4 {
    f32x4_add(a, b)
}

#[inline(always)]
pub fn sub(a: F32x4, b: F32x4) -> F32x4 {
    f32x4_sub(a, b)
}

#[inline(always)]
pub fn mul(a: F32x4, b: F32x4) -> F32x4 {
    f32x4_mul(a, b)
}

#[inline(always)]
pub fn div(a: F32x4, b: F32x4) -> F32x4 {
    f32x4_div(a, b)
}

/// The larger number per lane. If one is NaN, either may be returned (compilers use relaxed instructions for this).
#[inline(always)]
pub fn max(a: F32x4, b: F32x4) -> F32x4 {
    f32x4_pmax(b, a)
}

/// The smaller number per lane. If one is NaN, either may be returned.
#[inline(always)]
pub fn min(a: F32x4, b: F32x4) -> F32x4 {
    f32x4_pmin(b, a)
}

#[inline(always)]
pub fn to_array(vector: F32x4) -> [f32; 4] {
    [f32x4_extract_lane::<0>(vector), f32x4_extract_lane::<1>(vector), f32x4_extract_lane::<2>(vector), f32x4_extract_lane::<3>(vector)]
}

#[inline(always)]
pub fn from_slice(values: &[f32; 4]) -> F32x4 {
    // SAFETY: four f32 are sixteen bytes; wasm loads need no alignment.
    unsafe { v128_load(values.as_ptr().cast()) }
}

#[inline(always)]
pub fn to_slice(vector: F32x4, out: &mut [f32; 4]) {
    // SAFETY: four f32 are sixteen bytes; wasm stores need no alignment.
    unsafe { v128_store(out.as_mut_ptr().cast(), vector) }
}

#[inline(always)]
pub fn to_float(vector: I32x4) -> F32x4 {
    f32x4_convert_i32x4(vector)
}

#[inline(always)]
pub fn splat_int(value: i32) -> I32x4 {
    i32x4_splat(value)
}

#[inline(always)]
pub fn sub_int(a: I32x4, b: I32x4) -> I32x4 {
    i32x4_sub(a, b)
}

/// The bits of the magnitudes, which have the same order as the magnitudes. NaN is the largest.
#[inline(always)]
pub fn magnitude_bits(vector: F32x4) -> I32x4 {
    v128_and(vector, i32x4_splat(0x7fff_ffff))
}

#[inline(always)]
pub fn max_int(a: I32x4, b: I32x4) -> I32x4 {
    i32x4_max(a, b)
}

#[inline(always)]
pub fn horizontal_max_int(vector: I32x4) -> i32 {
    let pairs = i32x4_max(vector, i32x4_shuffle::<2, 3, 0, 1>(vector, vector));
    i32x4_extract_lane::<0>(pairs).max(i32x4_extract_lane::<1>(pairs))
}

/// The largest lane, in all lanes. Ignores NaN unless all lanes are NaN.
#[inline(always)]
pub fn splat_of_largest(vector: F32x4) -> F32x4 {
    let pairs = max(vector, i32x4_shuffle::<2, 3, 0, 1>(vector, vector));
    max(pairs, i32x4_shuffle::<1, 0, 3, 2>(pairs, pairs))
}

/// An integer per lane, in the same order as the numbers. NaN lies beyond the infinities.
#[inline(always)]
pub fn ordered_bits(vector: F32x4) -> I32x4 {
    v128_xor(vector, v128_and(i32x4_shr(vector, 31), i32x4_splat(0x7fff_ffff)))
}

/// `a` in lanes where `x > limit`, otherwise 0 (also where `x` is NaN).
#[inline(always)]
pub fn where_above(x: F32x4, limit: F32x4, a: F32x4) -> F32x4 {
    v128_and(a, f32x4_gt(x, limit))
}

/// Converts eight numbers of the form integer + [`super::ROUND`] to 16-bit integers, saturating.
#[inline(always)]
pub fn rounded_to_i16(low: F32x4, high: F32x4) -> [i16; 8] {
    let bias = i32x4_splat(super::ROUND.to_bits() as i32);
    let narrow = i16x8_narrow_i32x4(i32x4_sub(low, bias), i32x4_sub(high, bias));
    let mut out = [0i16; 8];
    // SAFETY: eight i16 are sixteen bytes; wasm stores need no alignment.
    unsafe { v128_store(out.as_mut_ptr().cast(), narrow) };
    out
}

/// `value · 2ⁿ`, where `shifted` is n + [`super::ROUND`].
#[inline(always)]
pub fn scale_by_power(value: F32x4, shifted: F32x4) -> F32x4 {
    let exponent = i32x4_sub(shifted, i32x4_splat(super::ROUND.to_bits() as i32 - 127));
    f32x4_mul(value, i32x4_shl(exponent, 23))
}

/// Sixteen bytes, unaligned.
///
/// # Safety
/// Sixteen bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load(at: *const u8) -> Bytes {
    // SAFETY: the caller's promise.
    unsafe { v128_load(at.cast()) }
}

/// Four f32, unaligned.
///
/// # Safety
/// Sixteen bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load_floats(at: *const f32) -> F32x4 {
    // SAFETY: the caller's promise.
    unsafe { v128_load(at.cast()) }
}

/// Loop constants behind `black_box`: if LLVM knows them it emits `v128.const`, which engines rematerialise on every iteration, with three
/// instructions each.
#[derive(Clone, Copy)]
pub struct Constants {
    /// Mask of an f16's bits after they are shifted to an f32's position.
    f16_mask: v128,
    /// 2^112: corrects the exponent for the difference of the two biases, 127 − 15.
    f16_factor: F32x4,
    pub(super) codes: CodeConstants,
}

impl Constants {
    /// Create them before a loop.
    #[inline(always)]
    pub fn new() -> Self {
        core::hint::black_box(Self {
            f16_mask: u32x4_splat(0x8fff_e000),
            f16_factor: f32x4_splat(f32::from_bits(0x7780_0000)),
            codes: CodeConstants::new(),
        })
    }

    /// The entries of [`IQ4_CODES`] at sixteen indices, which are below 16.
    #[inline(always)]
    pub fn iq4_codes(&self, indices: Bytes) -> Bytes {
        const { assert!(IQ4_CODES.len() == 16) };
        // Not a field: then every other kernel would set it up too.
        // SAFETY: sixteen i8 are sixteen bytes; wasm loads need no alignment.
        i8x16_swizzle(unsafe { v128_load(IQ4_CODES.as_ptr().cast()) }, indices)
    }

    /// Eight f16, widened to f32: the first four, then the last four. Exact for every finite number: a multiplication corrects the
    /// exponent, which also handles subnormal numbers.
    ///
    /// # Safety
    /// Sixteen bytes can be read at `at`.
    #[inline(always)]
    pub unsafe fn load_eight_f16(&self, at: *const u8) -> (F32x4, F32x4) {
        let zero = i32x4_splat(0);
        // SAFETY: the caller's promise.
        let halves = unsafe { v128_load(at.cast()) };
        let low = i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(zero, halves);
        let high = i16x8_shuffle::<4, 12, 5, 13, 6, 14, 7, 15>(zero, halves);
        (self.widen_f16(low), self.widen_f16(high))
    }

    /// Four f16, widened to f32.
    ///
    /// # Safety
    /// Eight bytes can be read at `at`.
    #[inline(always)]
    pub unsafe fn load_four_f16(&self, at: *const u8) -> F32x4 {
        // SAFETY: the caller's promise.
        let halves = unsafe { v128_load64_zero(at.cast()) };
        self.widen_f16(i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(i32x4_splat(0), halves))
    }

    /// Widens the f16 in the upper half of each lane.
    #[inline(always)]
    fn widen_f16(&self, upper: v128) -> F32x4 {
        // The arithmetic shift repeats the sign in the three extra exponent bits of an f32; the mask keeps one copy.
        f32x4_mul(v128_and(i32x4_shr(upper, 3), self.f16_mask), self.f16_factor)
    }
}

/// Four 16-bit integers, 0 to 65535, widened to 32 bits.
///
/// # Safety
/// Eight bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load_four_u16(at: *const u8) -> Bytes {
    // SAFETY: the caller's promise; wasm loads need no alignment.
    unsafe { u32x4_load_extend_u16x4(at.cast()) }
}

/// Four bf16, widened to f32.
///
/// # Safety
/// Eight bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load_four_bf16(at: *const u8) -> F32x4 {
    // SAFETY: the caller's promise.
    let halves = unsafe { v128_load64_zero(at.cast()) };
    i16x8_shuffle::<0, 8, 1, 9, 2, 10, 3, 11>(i32x4_splat(0), halves)
}

#[inline(always)]
pub fn and(a: Bytes, mask: u32) -> Bytes {
    v128_and(a, u32x4_splat(mask))
}

#[inline(always)]
pub fn or(a: Bytes, b: Bytes) -> Bytes {
    v128_or(a, b)
}

/// Shifts each 32-bit lane right.
#[inline(always)]
pub fn shr(a: Bytes, bits: u32) -> Bytes {
    u32x4_shr(a, bits)
}

/// Shifts each 32-bit lane left.
#[inline(always)]
pub fn shl(a: Bytes, bits: u32) -> Bytes {
    u32x4_shl(a, bits)
}

/// One word per lane.
#[inline(always)]
pub fn from_words(words: [u32; 4]) -> Bytes {
    let [a, b, c, d] = words;
    u32x4(a, b, c, d)
}

/// Vector `j` of the result has word `j` of each row, one per lane.
#[inline(always)]
pub fn transposed(rows: [&[u8; 16]; 4]) -> [Bytes; 4] {
    // SAFETY: each row has 16 bytes; wasm loads need no alignment.
    let [a, b, c, d] = rows.map(|row| unsafe { v128_load(row.as_ptr().cast()) });
    let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
    let (ab_upper, cd_upper) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
    let both = |ab, cd| [i64x2_shuffle::<0, 2>(ab, cd), i64x2_shuffle::<1, 3>(ab, cd)];
    let ([first, second], [third, fourth]) = (both(ab, cd), both(ab_upper, cd_upper));
    [first, second, third, fourth]
}

/// The bytes of `a` in the even places, those of `b` in the odd ones.
#[inline(always)]
pub fn alternated(a: Bytes, b: Bytes) -> [Bytes; 2] {
    [
        i8x16_shuffle::<0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23>(a, b),
        i8x16_shuffle::<8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31>(a, b),
    ]
}

#[inline(always)]
pub fn to_bytes(vector: Bytes, out: &mut [u8; 16]) {
    // SAFETY: `out` has 16 bytes; wasm stores need no alignment.
    unsafe { v128_store(out.as_mut_ptr().cast(), vector) }
}

/// Byte `index` of each 32-bit lane, 0 to 255.
#[inline(always)]
pub fn byte(a: Bytes, index: u32) -> I32x4 {
    v128_and(u32x4_shr(a, 8 * index), u32x4_splat(0xff))
}

/// Byte `index` of each 32-bit lane, −128 to 127.
#[inline(always)]
pub fn signed_byte(a: Bytes, index: u32) -> I32x4 {
    i32x4_shr(i32x4_shl(a, 24 - 8 * index), 24)
}

/// `acc[j] + a[2j] · b[2j] + a[2j + 1] · b[2j + 1]` in each 32-bit lane `j`; `a` and `b` hold 16-bit numbers.
#[inline(always)]
pub fn dot_pairs(acc: I32x4, a: I16x8, b: I16x8) -> I32x4 {
    i32x4_add(acc, i32x4_dot_i16x8(a, b))
}

/// Eight 16-bit numbers.
pub type I16x8 = v128;

pub const ZERO_I16: I16x8 = i16x8(0, 0, 0, 0, 0, 0, 0, 0);

#[inline(always)]
pub fn from_i16(values: &[i16; 8]) -> I16x8 {
    // SAFETY: eight i16 are sixteen bytes; wasm loads need no alignment.
    unsafe { v128_load(values.as_ptr().cast()) }
}

/// Splits `pairs` into its four pairs of numbers and repeats each pair four times.
#[inline(always)]
pub fn splat_pairs(pairs: I16x8) -> [I16x8; 4] {
    [
        i32x4_shuffle::<0, 0, 0, 0>(pairs, pairs),
        i32x4_shuffle::<1, 1, 1, 1>(pairs, pairs),
        i32x4_shuffle::<2, 2, 2, 2>(pairs, pairs),
        i32x4_shuffle::<3, 3, 3, 3>(pairs, pairs),
    ]
}

#[inline(always)]
pub fn shl_i16(a: I16x8, bits: u32) -> I16x8 {
    i16x8_shl(a, bits)
}

/// An arithmetic shift: it preserves the sign.
#[inline(always)]
pub fn shr_i16(a: I16x8, bits: u32) -> I16x8 {
    i16x8_shr(a, bits)
}

#[inline(always)]
pub fn xor_i16(a: I16x8, b: I16x8) -> I16x8 {
    v128_xor(a, b)
}

/// The first `count` lanes from `a`, the others from `b`.
#[inline(always)]
pub fn first_lanes(count: usize, a: F32x4, b: F32x4) -> F32x4 {
    v128_bitselect(a, b, i32x4_lt(i32x4(0, 1, 2, 3), i32x4_splat(count.min(4) as i32)))
}
