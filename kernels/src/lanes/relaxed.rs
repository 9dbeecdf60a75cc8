//! Dot products of byte codes and activations with `i32x4.relaxed_dot_i8x16_i7x16_add_s`. All engines agree on its result only if the
//! second operand's bytes have seven bits, so larger ones are never passed, and sums are exact.
//!
//! Activations have 14 bits, split into two parts of seven: `128 · high + low`.

use super::{Bytes, Constants, I32x4, load};
use crate::planes::BLOCK;
use core::arch::wasm32::*;

/// Vectors of sixteen equal bytes.
#[derive(Clone, Copy)]
pub struct CodeConstants {
    /// Mask of the low nibble of each byte.
    nibble: v128,
    ones: v128,
    /// [`BIAS`].
    bias: v128,
}

/// Added to the high part of an activation, −64 to 63, to make it non-negative.
const BIAS: u8 = 64;

impl CodeConstants {
    pub fn new() -> Self {
        Self { nibble: u8x16_splat(0x0f), ones: u8x16_splat(1), bias: u8x16_splat(BIAS) }
    }
}

/// The 32 quantised activations of a block.
#[derive(Clone, Copy, Default)]
pub struct Values {
    /// The high parts, −64 to 63.
    high: [i8; BLOCK],
    /// The low parts, 0 to 127.
    low: [i8; BLOCK],
}

impl Values {
    /// From numbers of 14 bits, with their sign.
    pub fn new(numbers: &[i16; BLOCK]) -> Self {
        Self { high: numbers.map(|number| (number >> 7) as i8), low: numbers.map(|number| (number & 127) as i8) }
    }

    pub fn numbers(&self) -> [i16; BLOCK] {
        std::array::from_fn(|index| i16::from(self.high[index]) * 128 + i16::from(self.low[index]))
    }

    /// The high parts of the four activations of word `word` (0 to 7), four times.
    #[inline(always)]
    fn high(&self, word: usize) -> v128 {
        splat_word(&self.high, word)
    }

    /// Like [`Values::high`], but the low parts.
    #[inline(always)]
    fn low(&self, word: usize) -> v128 {
        splat_word(&self.low, word)
    }
}

/// The four bytes of word `word`, four times.
#[inline(always)]
fn splat_word(parts: &[i8; BLOCK], word: usize) -> v128 {
    // SAFETY: four i8 are four bytes, and the indexing is checked.
    unsafe { v128_load32_splat(parts.as_chunks::<4>().0[word].as_ptr().cast()) }
}

/// A block's 4-bit codes, packed as [`crate::planes::Low::Nibbles8`].
#[derive(Clone, Copy)]
pub struct Codes4 {
    words: [Bytes; 4],
    nibble: v128,
}

impl Codes4 {
    #[inline(always)]
    pub fn new(words: [Bytes; 4], constants: &Constants) -> Self {
        Self { words, nibble: constants.codes.nibble }
    }

    /// Unpacks the codes.
    #[inline(always)]
    pub fn unpack(&self) -> UnpackedCodes {
        let low = self.words.map(|word| v128_and(word, self.nibble));
        let high = self.words.map(|word| v128_and(u32x4_shr(word, 4), self.nibble));
        UnpackedCodes([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]])
    }

    /// `Σ code · x` over all 32 columns, per row.
    #[inline(always)]
    pub fn dot(&self, x: &Values) -> I32x4 {
        self.unpack().dot::<0, 8>(x)
    }
}

/// A block's codes, unpacked to bytes. They have at most seven bits.
#[derive(Clone, Copy)]
pub struct UnpackedCodes([Bytes; 8]);

impl UnpackedCodes {
    /// From unsigned bytes.
    #[inline(always)]
    pub fn new(words: [Bytes; 8]) -> Self {
        Self(words)
    }

    /// `Σ code · x` over words `FROM..TO`, per row.
    #[inline(always)]
    pub fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        const { assert!(TO <= 8) };
        let (mut high, mut low) = (i32x4_splat(0), i32x4_splat(0));
        let mut word = FROM;
        while word < TO {
            high = i32x4_relaxed_dot_i8x16_i7x16_add(x.high(word), self.0[word], high);
            low = i32x4_relaxed_dot_i8x16_i7x16_add(x.low(word), self.0[word], low);
            word += 1;
        }
        i32x4_add(i32x4_shl(high, 7), low)
    }
}

/// A block's signed 8-bit codes. Here the activations are the seven-bit operand: [`BIAS`] is added to their high parts, and its
/// contribution, a multiple of the sum of the codes, is subtracted at the end.
#[derive(Clone, Copy)]
pub struct Codes8 {
    words: [Bytes; 8],
    /// Per row, the contribution of [`BIAS`] to the sum over the first four words and to that over the last four.
    excess: [I32x4; 2],
    bias: v128,
}

impl Codes8 {
    /// Loads eight words.
    ///
    /// # Safety
    /// 128 bytes can be read at `at`.
    #[inline(always)]
    pub unsafe fn load(at: *const u8, constants: &Constants) -> Self {
        // SAFETY: the caller's promise.
        Self::new(std::array::from_fn(|word| unsafe { load(at.add(word * 16)) }), constants)
    }

    /// From signed bytes.
    #[inline(always)]
    pub fn new(words: [Bytes; 8], constants: &Constants) -> Self {
        let CodeConstants { ones, bias, .. } = constants.codes;
        let excess = |words: [Bytes; 4]| {
            let sum = words.into_iter().fold(i32x4_splat(0), |sum, word| i32x4_relaxed_dot_i8x16_i7x16_add(word, ones, sum));
            i32x4_shl(sum, 7 + BIAS.trailing_zeros())
        };
        let [a, b, c, d, e, f, g, h] = words;
        Self { words, excess: [excess([a, b, c, d]), excess([e, f, g, h])], bias }
    }

    /// `Σ code · x` over words `FROM..TO`, per row. The range must be the first four words, the last four or all.
    #[inline(always)]
    pub fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        const { assert!(TO <= 8 && FROM % 4 == 0 && TO % 4 == 0) };
        let (mut high, mut low) = (i32x4_splat(0), i32x4_splat(0));
        let mut word = FROM;
        while word < TO {
            high = i32x4_relaxed_dot_i8x16_i7x16_add(self.words[word], i8x16_add(x.high(word), self.bias), high);
            low = i32x4_relaxed_dot_i8x16_i7x16_add(self.words[word], x.low(word), low);
            word += 1;
        }
        let sum = i32x4_add(i32x4_shl(high, 7), low);
        self.excess[FROM / 4..TO / 4].iter().fold(sum, |sum, excess| i32x4_sub(sum, *excess))
    }
}
