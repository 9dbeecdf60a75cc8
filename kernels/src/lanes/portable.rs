//! The operations of `wasm.rs` on arrays, for targets without SIMD code in this project: native tests.

use super::{Codes, Panel, QuadValues, Values};
use crate::format::IQ4_CODES;

pub type F32x4 = [f32; 4];
pub type I32x4 = [i32; 4];
/// Sixteen bytes, as four lanes.
pub type Bytes = [u32; 4];
/// Eight 16-bit numbers.
pub type I16x8 = [i16; 8];

#[inline(always)]
fn zip<A: Copy, B: Copy, R>(a: [A; 4], b: [B; 4], f: impl Fn(A, B) -> R) -> [R; 4] {
    [f(a[0], b[0]), f(a[1], b[1]), f(a[2], b[2]), f(a[3], b[3])]
}

/// Zero in all lanes.
pub const ZERO: F32x4 = [0.0; 4];

#[inline(always)]
pub fn splat(value: f32) -> F32x4 {
    [value; 4]
}

#[inline(always)]
pub fn add(a: F32x4, b: F32x4) -> F32x4 {
    zip(a, b, |a, b| a + b)
}

#[inline(always)]
pub fn sub(a: F32x4, b: F32x4) -> F32x4 {
    zip(a, b, |a, b| a - b)
}

#[inline(always)]
pub fn mul(a: F32x4, b: F32x4) -> F32x4 {
    zip(a, b, |a, b| a * b)
}

#[inline(always)]
pub fn div(a: F32x4, b: F32x4) -> F32x4 {
    zip(a, b, |a, b| a / b)
}

/// The larger number per lane. If one is NaN, either may be returned (compilers use relaxed instructions for this).
#[inline(always)]
pub fn max(a: F32x4, b: F32x4) -> F32x4 {
    zip(a, b, |a, b| if b < a { a } else { b })
}

/// The smaller number per lane. If one is NaN, either may be returned.
#[inline(always)]
pub fn min(a: F32x4, b: F32x4) -> F32x4 {
    zip(a, b, |a, b| if a < b { a } else { b })
}

#[inline(always)]
pub fn to_array(vector: F32x4) -> [f32; 4] {
    vector
}

#[inline(always)]
pub fn from_slice(values: &[f32; 4]) -> F32x4 {
    *values
}

#[inline(always)]
pub fn to_slice(vector: F32x4, out: &mut [f32; 4]) {
    *out = vector;
}

#[inline(always)]
pub fn to_float(vector: I32x4) -> F32x4 {
    vector.map(|value| value as f32)
}

#[inline(always)]
pub fn splat_int(value: i32) -> I32x4 {
    [value; 4]
}

#[inline(always)]
pub fn sub_int(a: I32x4, b: I32x4) -> I32x4 {
    zip(a, b, i32::wrapping_sub)
}

/// The bits of the magnitudes, which have the same order as the magnitudes. NaN is the largest.
#[inline(always)]
pub fn magnitude_bits(vector: F32x4) -> I32x4 {
    vector.map(|value| (value.to_bits() & 0x7fff_ffff) as i32)
}

#[inline(always)]
pub fn max_int(a: I32x4, b: I32x4) -> I32x4 {
    zip(a, b, i32::max)
}

#[inline(always)]
pub fn horizontal_max_int(vector: I32x4) -> i32 {
    vector[0].max(vector[1]).max(vector[2].max(vector[3]))
}

/// The largest lane, in all lanes. Ignores NaN unless all lanes are NaN.
#[inline(always)]
pub fn splat_of_largest(vector: F32x4) -> F32x4 {
    let [a, b, c, d] = vector;
    let pairs = max([a, b, c, d], [c, d, a, b]);
    max(pairs, [pairs[1], pairs[0], pairs[3], pairs[2]])
}

/// An integer per lane, in the same order as the numbers. NaN lies beyond the infinities.
#[inline(always)]
pub fn ordered_bits(vector: F32x4) -> I32x4 {
    vector.map(|value| value.to_bits() as i32).map(|bits| bits ^ (bits >> 31 & 0x7fff_ffff))
}

/// `a` in lanes where `x > limit`, otherwise 0 (also where `x` is NaN).
#[inline(always)]
pub fn where_above(x: F32x4, limit: F32x4, a: F32x4) -> F32x4 {
    std::array::from_fn(|lane| if x[lane] > limit[lane] { a[lane] } else { 0.0 })
}

/// Converts eight numbers of the form integer + [`super::ROUND`] to 16-bit integers, saturating.
#[inline(always)]
pub fn rounded_to_i16(low: F32x4, high: F32x4) -> [i16; 8] {
    let bias = super::ROUND.to_bits() as i32;
    let narrow = |value: f32| (value.to_bits() as i32).wrapping_sub(bias).clamp(i32::from(i16::MIN), i32::from(i16::MAX)) as i16;
    let ([a, b, c, d], [e, f, g, h]) = (low.map(narrow), high.map(narrow));
    [a, b, c, d, e, f, g, h]
}

/// `value · 2ⁿ`, where `shifted` is n + [`super::ROUND`].
#[inline(always)]
pub fn scale_by_power(value: F32x4, shifted: F32x4) -> F32x4 {
    let power = |shifted: f32| f32::from_bits(shifted.to_bits().wrapping_sub(super::ROUND.to_bits() - 127) << 23);
    zip(value, shifted, |value, shifted| value * power(shifted))
}

/// Sixteen bytes, unaligned.
///
/// # Safety
/// Sixteen bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load(at: *const u8) -> Bytes {
    // SAFETY: the caller's promise; the read is unaligned.
    unsafe { at.cast::<Bytes>().read_unaligned() }.map(u32::from_le)
}

/// Four f32, unaligned.
///
/// # Safety
/// Sixteen bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load_floats(at: *const f32) -> F32x4 {
    // SAFETY: the caller's promise; the read is unaligned.
    unsafe { at.cast::<F32x4>().read_unaligned() }
}

/// Constants of inner loops. This implementation needs none.
#[derive(Clone, Copy)]
pub struct Constants;

impl Constants {
    /// Create them before a loop.
    #[inline(always)]
    pub fn new() -> Self {
        Self
    }

    /// Eight f16, widened to f32: the first four, then the last four.
    ///
    /// # Safety
    /// Sixteen bytes can be read at `at`.
    #[inline(always)]
    pub unsafe fn load_eight_f16(&self, at: *const u8) -> (F32x4, F32x4) {
        // SAFETY: the caller's promise.
        unsafe { (self.load_four_f16(at), self.load_four_f16(at.add(8))) }
    }

    /// Four f16, widened to f32.
    ///
    /// # Safety
    /// Eight bytes can be read at `at`.
    #[inline(always)]
    pub unsafe fn load_four_f16(&self, at: *const u8) -> F32x4 {
        // SAFETY: the caller's promise; the read is unaligned.
        let halves = unsafe { at.cast::<[u16; 4]>().read_unaligned() };
        halves.map(|half| half::f16::from_bits(u16::from_le(half)).to_f32())
    }

    /// The entries of [`IQ4_CODES`] at sixteen indices, which are below 16.
    #[inline(always)]
    pub fn iq4_codes(&self, indices: Bytes) -> Bytes {
        indices.map(|lane| u32::from_le_bytes(lane.to_le_bytes().map(|index| IQ4_CODES[usize::from(index & 15)] as u8)))
    }
}

/// Four 16-bit integers, 0 to 65535, widened to 32 bits.
///
/// # Safety
/// Eight bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load_four_u16(at: *const u8) -> Bytes {
    // SAFETY: the caller's promise; the read is unaligned.
    let halves = unsafe { at.cast::<[u16; 4]>().read_unaligned() };
    halves.map(|half| u32::from(u16::from_le(half)))
}

/// Four bf16, widened to f32.
///
/// # Safety
/// Eight bytes can be read at `at`.
#[inline(always)]
pub unsafe fn load_four_bf16(at: *const u8) -> F32x4 {
    // SAFETY: the caller's promise; the read is unaligned.
    let halves = unsafe { at.cast::<[u16; 4]>().read_unaligned() };
    halves.map(|half| half::bf16::from_bits(u16::from_le(half)).to_f32())
}

#[inline(always)]
pub fn and(a: Bytes, mask: u32) -> Bytes {
    a.map(|lane| lane & mask)
}

#[inline(always)]
pub fn or(a: Bytes, b: Bytes) -> Bytes {
    zip(a, b, |a, b| a | b)
}

/// Shifts each 32-bit lane right.
#[inline(always)]
pub fn shr(a: Bytes, bits: u32) -> Bytes {
    a.map(|lane| lane >> bits)
}

/// Shifts each 32-bit lane left.
#[inline(always)]
pub fn shl(a: Bytes, bits: u32) -> Bytes {
    a.map(|lane| lane << bits)
}

/// One word per lane.
#[inline(always)]
pub fn from_words(words: [u32; 4]) -> Bytes {
    words
}

/// Vector `j` of the result has word `j` of each row, one per lane.
#[inline(always)]
pub fn transposed(rows: [&[u8; 16]; 4]) -> [Bytes; 4] {
    std::array::from_fn(|word| rows.map(|row| u32::from_le_bytes(row.as_chunks().0[word])))
}

/// The bytes of `a` in the even places, those of `b` in the odd ones.
#[inline(always)]
pub fn alternated(a: Bytes, b: Bytes) -> [Bytes; 2] {
    let spread = |word: u32, half: u32| {
        let pair = word >> (16 * half);
        pair & 0xff | (pair & 0xff00) << 8
    };
    [0, 2].map(|lane| {
        [(lane, 0), (lane, 1), (lane + 1, 0), (lane + 1, 1)].map(|(lane, half)| spread(a[lane], half) | spread(b[lane], half) << 8)
    })
}

#[inline(always)]
pub fn to_bytes(vector: Bytes, out: &mut [u8; 16]) {
    out.as_chunks_mut().0.iter_mut().zip(vector).for_each(|(out, word)| *out = word.to_le_bytes());
}

/// Byte `index` of each 32-bit lane, 0 to 255.
#[inline(always)]
pub fn byte(a: Bytes, index: u32) -> I32x4 {
    a.map(|lane| (lane >> (8 * index) & 0xff) as i32)
}

/// Byte `index` of each 32-bit lane, −128 to 127.
#[inline(always)]
pub fn signed_byte(a: Bytes, index: u32) -> I32x4 {
    a.map(|lane| i32::from((lane >> (8 * index)) as u8 as i8))
}

/// A block's 4-bit codes, packed as [`crate::planes::Low::Nibbles16`].
#[derive(Clone, Copy)]
pub struct Codes4([Bytes; 4]);

impl Codes4 {
    #[inline(always)]
    pub fn new(words: [Bytes; 4], _: &Constants) -> Self {
        Self(words)
    }

    fn unpack(&self) -> UnpackedCodes {
        let code = |word: usize, row: usize, column: usize| {
            // A 32-bit lane holds two 16-bit numbers.
            let lane = self.0[word / 4 * 2 + row / 2][row % 2 * 2 + column / 2];
            (lane >> (column % 2 * 16 + word % 4 * 4) & 15) as i16
        };
        UnpackedCodes(std::array::from_fn(|word| std::array::from_fn(|row| std::array::from_fn(|column| code(word, row, column)))))
    }
}

impl Codes for Codes4 {
    type Panel = UnpackedCodes;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut UnpackedCodes) {
        *panel = self.unpack();
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        self.unpack().dot::<FROM, TO>(x)
    }
}

/// A block's codes, unpacked to 16 bits: `[word, row, column]`.
#[derive(Clone, Copy)]
pub struct UnpackedCodes([[[i16; 4]; 4]; 8]);

impl UnpackedCodes {
    /// From unsigned bytes.
    #[inline(always)]
    pub fn new(words: [Bytes; 8]) -> Self {
        Self(words.map(|word| word.map(|lane| lane.to_le_bytes().map(i16::from))))
    }
}

impl Codes for UnpackedCodes {
    type Panel = UnpackedCodes;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut UnpackedCodes) {
        *panel = *self;
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        let mut sums = [0; 4];
        for (word, x) in self.0.iter().zip(x.0.as_chunks::<4>().0).take(TO).skip(FROM) {
            for (sum, lane) in sums.iter_mut().zip(word) {
                *sum += lane.iter().zip(x).map(|(q, x)| i32::from(*q) * i32::from(*x)).sum::<i32>();
            }
        }
        sums
    }
}

impl Panel for UnpackedCodes {
    const ZERO: Self = Self([[[0; 4]; 4]; 8]);

    #[inline(always)]
    fn multiply<const N: usize, const R: usize, const FROM: usize, const TO: usize>(panels: &[Self; N], x: &QuadValues) -> [[I32x4; R]; N] {
        let rows: [Values; R] = std::array::from_fn(|row| Values::new(&x.numbers(row)));
        panels.each_ref().map(|panel| rows.each_ref().map(|x| panel.dot::<FROM, TO>(x)))
    }
}

/// A block's signed 8-bit codes.
#[derive(Clone, Copy)]
pub struct Codes8(UnpackedCodes);

impl Codes8 {
    /// From signed bytes.
    #[inline(always)]
    pub fn new(words: [Bytes; 8], _: &Constants) -> Self {
        Self(UnpackedCodes(words.map(|word| word.map(|lane| lane.to_le_bytes().map(|byte| i16::from(byte as i8))))))
    }

    /// Loads eight words.
    ///
    /// # Safety
    /// 128 bytes can be read at `at`.
    #[inline(always)]
    pub unsafe fn load(at: *const u8, _: &Constants) -> Self {
        // SAFETY: the caller's promise; bytes need no alignment.
        let words = unsafe { *at.cast::<[[[i8; 4]; 4]; 8]>() };
        Self(UnpackedCodes(words.map(|word| word.map(|lane| lane.map(i16::from)))))
    }
}

impl Codes for Codes8 {
    type Panel = UnpackedCodes;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut UnpackedCodes) {
        *panel = self.0;
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        self.0.dot::<FROM, TO>(x)
    }
}

/// `acc[j] + a[2j] · b[2j] + a[2j + 1] · b[2j + 1]` in each 32-bit lane `j`; `a` and `b` hold 16-bit numbers.
#[inline(always)]
pub fn dot_pairs(acc: I32x4, a: I16x8, b: I16x8) -> I32x4 {
    let product = |index: usize| i32::from(a[index]) * i32::from(b[index]);
    std::array::from_fn(|lane| acc[lane].wrapping_add(product(2 * lane)).wrapping_add(product(2 * lane + 1)))
}

pub const ZERO_I16: I16x8 = [0; 8];

#[inline(always)]
pub fn from_i16(values: &[i16; 8]) -> I16x8 {
    *values
}

/// Splits `pairs` into its four pairs of numbers and repeats each pair four times.
#[inline(always)]
pub fn splat_pairs(pairs: I16x8) -> [I16x8; 4] {
    std::array::from_fn(|pair| std::array::from_fn(|lane| pairs[2 * pair + lane % 2]))
}

#[inline(always)]
pub fn shl_i16(a: I16x8, bits: u32) -> I16x8 {
    a.map(|lane| lane << bits)
}

/// An arithmetic shift: it preserves the sign.
#[inline(always)]
pub fn shr_i16(a: I16x8, bits: u32) -> I16x8 {
    a.map(|lane| lane >> bits)
}

#[inline(always)]
pub fn xor_i16(a: I16x8, b: I16x8) -> I16x8 {
    std::array::from_fn(|lane| a[lane] ^ b[lane])
}

/// The first `count` lanes from `a`, the others from `b`.
#[inline(always)]
pub fn first_lanes(count: usize, a: F32x4, b: F32x4) -> F32x4 {
    std::array::from_fn(|lane| if lane < count { a[lane] } else { b[lane] })
}
