//! Codes and activations in bytes, multiplied by `i32x4.relaxed_dot_i8x16_i7x16_add_s`: of its second operand only the lower seven
//! bits are the same everywhere, so nothing else is put there, and sums are exact.
//!
//! Activations have 14 bits, in two parts of seven: `128 · high + low`.

use super::{Bytes, Constants, I32x4, load};
use crate::planes::BLOCK;
use core::arch::wasm32::*;

/// Of bytes.
#[derive(Clone, Copy)]
pub struct CodeConstants {
    /// The lower half of each.
    nibble: v128,
    ones: v128,
    /// [`BIAS`].
    bias: v128,
}

/// What the upper part of an activation, −64 to 63, lacks to be unsigned.
const BIAS: u8 = 64;

impl CodeConstants {
    pub fn new() -> Self {
        Self { nibble: u8x16_splat(0x0f), ones: u8x16_splat(1), bias: u8x16_splat(BIAS) }
    }
}

/// The activations of a block.
#[derive(Clone, Copy, Default)]
pub struct Values {
    /// −64 to 63.
    high: [i8; BLOCK],
    /// 0 to 127.
    low: [i8; BLOCK],
}

impl Values {
    /// `numbers` have 14 bits.
    pub fn new(numbers: &[i16; BLOCK]) -> Self {
        Self { high: numbers.map(|number| (number >> 7) as i8), low: numbers.map(|number| (number & 127) as i8) }
    }

    pub fn numbers(&self) -> [i16; BLOCK] {
        std::array::from_fn(|index| i16::from(self.high[index]) * 128 + i16::from(self.low[index]))
    }

    /// The upper parts of one of eight words, four times.
    #[inline(always)]
    fn high(&self, word: usize) -> v128 {
        four_times(&self.high, word)
    }

    /// The same of the lower parts.
    #[inline(always)]
    fn low(&self, word: usize) -> v128 {
        four_times(&self.low, word)
    }
}

#[inline(always)]
fn four_times(parts: &[i8; BLOCK], word: usize) -> v128 {
    // SAFETY: four bytes can be read there.
    unsafe { v128_load32_splat(parts.as_chunks::<4>().0[word].as_ptr().cast()) }
}

/// A block's codes of 4 bits, two to a byte ([`crate::planes::Low::Nibbles`]).
#[derive(Clone, Copy)]
pub struct Fours {
    words: [Bytes; 4],
    nibble: v128,
}

impl Fours {
    #[inline(always)]
    pub fn new(words: [Bytes; 4], constants: &Constants) -> Self {
        Self { words, nibble: constants.codes.nibble }
    }

    /// Each code by itself.
    #[inline(always)]
    pub fn words(&self) -> Words {
        let low = self.words.map(|word| v128_and(word, self.nibble));
        let high = self.words.map(|word| v128_and(u32x4_shr(word, 4), self.nibble));
        Words([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]])
    }

    /// `Σ q · x` per row.
    #[inline(always)]
    pub fn dot(&self, x: &Values) -> I32x4 {
        self.words().dot::<0, 8>(x)
    }
}

/// A block's codes, of seven bits at most.
#[derive(Clone, Copy)]
pub struct Words([Bytes; 8]);

impl Words {
    #[inline(always)]
    pub fn new(words: [Bytes; 8]) -> Self {
        Self(words)
    }

    /// `Σ q · x` of words `FROM..TO`, per row.
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

/// A block's codes of 8 bits with a sign. Here the activations are the operand of seven bits: their upper parts with
/// [`BIAS`], which the sums of the codes take off again.
#[derive(Clone, Copy)]
pub struct Eights {
    words: [Bytes; 8],
    /// Per row, what [`BIAS`] makes of the first four words and of the others.
    excess: [I32x4; 2],
    bias: v128,
}

impl Eights {
    /// # Safety
    /// 128 bytes can be read at `at`: eight words.
    #[inline(always)]
    pub unsafe fn load(at: *const u8, constants: &Constants) -> Self {
        let CodeConstants { ones, bias, .. } = constants.codes;
        // SAFETY: the caller's promise.
        let words: [Bytes; 8] = std::array::from_fn(|word| unsafe { load(at.add(word * 16)) });
        let excess = |words: [Bytes; 4]| {
            let sum = words.into_iter().fold(i32x4_splat(0), |sum, word| i32x4_relaxed_dot_i8x16_i7x16_add(word, ones, sum));
            i32x4_shl(sum, 7 + BIAS.trailing_zeros())
        };
        let [a, b, c, d, e, f, g, h] = words;
        Self { words, excess: [excess([a, b, c, d]), excess([e, f, g, h])], bias }
    }

    /// `Σ q · x` of words `FROM..TO`, per row: of the first four, the others, or all.
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
