//! Dot products of byte codes and activations with `i32x4.relaxed_dot_i8x16_i7x16_add_s`. All engines agree on its result only if the
//! second operand's bytes have seven bits, so larger ones are never passed, and sums are exact.
//!
//! Activations have 14 bits, split into two parts of seven: `128 · high + low`.

use super::arch::*;
use super::{Bytes, Codes, Constants, I32x4, Panel, load};
use crate::planes::BLOCK;

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

/// A block's activations of four rows: `[word, row, column of the word]`, with the parts of [`Values`].
#[derive(Clone, Copy, Default)]
pub struct QuadValues {
    high: [[i8; 16]; 8],
    low: [[i8; 16]; 8],
}

impl QuadValues {
    /// Sets one row, 0 to 3.
    pub fn set(&mut self, row: usize, numbers: &[i16; BLOCK]) {
        let Values { high, low } = Values::new(numbers);
        for (words, numbers) in [(&mut self.high, high), (&mut self.low, low)] {
            for (word, four) in words.iter_mut().zip(numbers.as_chunks().0) {
                word.as_chunks_mut::<4>().0[row] = *four;
            }
        }
    }

    pub fn numbers(&self, row: usize) -> [i16; BLOCK] {
        let of = |words: &[[i8; 16]; 8]| std::array::from_fn(|column| words[column / 4][4 * row + column % 4]);
        Values { high: of(&self.high), low: of(&self.low) }.numbers()
    }

    /// The high parts of the four activations of word `word`, by row, four times each.
    #[inline(always)]
    fn high(&self, word: usize) -> [v128; 4] {
        splat_rows(&self.high[word])
    }

    /// Like [`QuadValues::high`], but the low parts.
    #[inline(always)]
    fn low(&self, word: usize) -> [v128; 4] {
        splat_rows(&self.low[word])
    }
}

#[inline(always)]
fn splat_rows(parts: &[i8; 16]) -> [v128; 4] {
    // SAFETY: sixteen i8 are sixteen bytes; wasm loads need no alignment.
    super::splat_pairs(unsafe { v128_load(parts.as_ptr().cast()) })
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
    fn unpack(&self) -> UnpackedCodes {
        let low = self.words.map(|word| v128_and(word, self.nibble));
        let high = self.words.map(|word| v128_and(u32x4_shr(word, 4), self.nibble));
        UnpackedCodes([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]])
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

/// A block's codes, unpacked to bytes. They have at most seven bits.
#[derive(Clone, Copy)]
pub struct UnpackedCodes([Bytes; 8]);

impl UnpackedCodes {
    /// From unsigned bytes.
    #[inline(always)]
    pub fn new(words: [Bytes; 8]) -> Self {
        Self(words)
    }
}

impl Codes for UnpackedCodes {
    type Panel = UnpackedCodes;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut Self) {
        *panel = *self;
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
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

impl Panel for UnpackedCodes {
    const ZERO: Self = Self([super::ZERO_I16; 8]);

    #[inline(always)]
    fn multiply<const N: usize, const R: usize, const FROM: usize, const TO: usize>(panels: &[Self; N], x: &QuadValues) -> [[I32x4; R]; N] {
        const { assert!(R <= 4 && TO <= 8) };
        panels.each_ref().map(|panel| {
            let (mut high, mut low) = ([i32x4_splat(0); R], [i32x4_splat(0); R]);
            for word in FROM..TO {
                let (codes, x_high, x_low) = (panel.0[word], x.high(word), x.low(word));
                for row in 0..R {
                    high[row] = i32x4_relaxed_dot_i8x16_i7x16_add(x_high[row], codes, high[row]);
                    low[row] = i32x4_relaxed_dot_i8x16_i7x16_add(x_low[row], codes, low[row]);
                }
            }
            std::array::from_fn(|row| i32x4_add(i32x4_shl(high[row], 7), low[row]))
        })
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

    /// Subtracts the contribution of [`BIAS`] from a sum over words `FROM..TO`.
    #[inline(always)]
    fn without_excess<const FROM: usize, const TO: usize>(&self, sum: I32x4) -> I32x4 {
        self.excess[FROM / 4..TO / 4].iter().fold(sum, |sum, excess| i32x4_sub(sum, *excess))
    }
}

impl Codes for Codes8 {
    type Panel = Codes8;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut Self) {
        *panel = *self;
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        const { assert!(TO <= 8 && FROM % 4 == 0 && TO % 4 == 0) };
        let (mut high, mut low) = (i32x4_splat(0), i32x4_splat(0));
        let mut word = FROM;
        while word < TO {
            high = i32x4_relaxed_dot_i8x16_i7x16_add(self.words[word], i8x16_add(x.high(word), self.bias), high);
            low = i32x4_relaxed_dot_i8x16_i7x16_add(self.words[word], x.low(word), low);
            word += 1;
        }
        self.without_excess::<FROM, TO>(i32x4_add(i32x4_shl(high, 7), low))
    }
}

impl Panel for Codes8 {
    const ZERO: Self = Self { words: [super::ZERO_I16; 8], excess: [super::ZERO_I16; 2], bias: super::ZERO_I16 };

    #[inline(always)]
    fn multiply<const N: usize, const R: usize, const FROM: usize, const TO: usize>(panels: &[Self; N], x: &QuadValues) -> [[I32x4; R]; N] {
        const { assert!(R <= 4 && TO <= 8 && FROM % 4 == 0 && TO % 4 == 0) };
        panels.each_ref().map(|panel| {
            let (mut high, mut low) = ([i32x4_splat(0); R], [i32x4_splat(0); R]);
            for word in FROM..TO {
                let (codes, x_high, x_low) = (panel.words[word], x.high(word), x.low(word));
                for row in 0..R {
                    high[row] = i32x4_relaxed_dot_i8x16_i7x16_add(codes, i8x16_add(x_high[row], panel.bias), high[row]);
                    low[row] = i32x4_relaxed_dot_i8x16_i7x16_add(codes, x_low[row], low[row]);
                }
            }
            std::array::from_fn(|row| panel.without_excess::<FROM, TO>(i32x4_add(i32x4_shl(high[row], 7), low[row])))
        })
    }
}
