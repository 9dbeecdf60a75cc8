//! Dot products of 16-bit codes and activations with `i32x4.dot_i16x8_s`, which every engine with SIMD supports.

use super::{Bytes, Constants, I32x4, Values};
use crate::planes::BLOCK;
use core::arch::wasm32::*;

/// Masks of the first three nibbles of 16-bit numbers.
#[derive(Clone, Copy)]
pub struct CodeConstants([v128; 3]);

impl CodeConstants {
    pub fn new() -> Self {
        Self([u16x8_splat(0x000f), u16x8_splat(0x00f0), u16x8_splat(0x0f00)])
    }
}

impl Values {
    /// The four activations of word `word` (0 to 7), twice.
    #[inline(always)]
    fn word(&self, word: usize) -> v128 {
        const { assert!(BLOCK == 32) };
        // SAFETY: four i16 are eight bytes, and the indexing is checked.
        unsafe { v128_load64_splat(self.0.as_chunks::<4>().0[word].as_ptr().cast()) }
    }
}

/// A block's 4-bit codes, packed as [`crate::planes::Low::Nibbles16`].
#[derive(Clone, Copy)]
pub struct Codes4 {
    words: [Bytes; 4],
    masks: [v128; 3],
}

impl Codes4 {
    #[inline(always)]
    pub fn new(words: [Bytes; 4], constants: &Constants) -> Self {
        Self { words, masks: constants.codes.0 }
    }

    /// Unpacks the codes.
    #[inline(always)]
    pub fn unpack(&self) -> UnpackedCodes {
        let mut all = [self.words[0]; 16];
        let mut index = 0;
        while index < 4 {
            let wide = self.words[index];
            let at = index / 2 * 8 + index % 2;
            all[at] = v128_and(wide, self.masks[0]);
            all[at + 2] = v128_and(u16x8_shr(wide, 4), self.masks[0]);
            all[at + 4] = v128_and(u16x8_shr(wide, 8), self.masks[0]);
            all[at + 6] = u16x8_shr(wide, 12);
            index += 1;
        }
        UnpackedCodes(all)
    }

    /// `Σ code · x` over all 32 columns, per row. The second and third nibble of each number are multiplied in place, as 16 or 256 times
    /// their code, and the sums are shifted right.
    #[inline(always)]
    pub fn dot(&self, x: &Values) -> I32x4 {
        let [first, second, third] = self.masks;
        let rows = |half: usize| {
            let (a, b) = (self.words[half], self.words[2 + half]);
            let ones = i32x4_add(i32x4_dot_i16x8(v128_and(a, first), x.word(0)), i32x4_dot_i16x8(u16x8_shr(a, 12), x.word(3)));
            let others = i32x4_add(i32x4_dot_i16x8(v128_and(b, first), x.word(4)), i32x4_dot_i16x8(u16x8_shr(b, 12), x.word(7)));
            let sixteens = i32x4_add(i32x4_dot_i16x8(v128_and(a, second), x.word(1)), i32x4_dot_i16x8(v128_and(b, second), x.word(5)));
            let rest = i32x4_add(i32x4_dot_i16x8(v128_and(a, third), x.word(2)), i32x4_dot_i16x8(v128_and(b, third), x.word(6)));
            i32x4_add(i32x4_add(ones, others), i32x4_add(i32x4_shr(sixteens, 4), i32x4_shr(rest, 8)))
        };
        rows_of_pairs(rows(0), rows(1))
    }
}

/// Adds pairs of partial sums: `low` holds two per row for rows 0 and 1, `high` for rows 2 and 3. Returns one sum per row.
#[inline(always)]
fn rows_of_pairs(low: I32x4, high: I32x4) -> I32x4 {
    i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(low, high), i32x4_shuffle::<1, 3, 5, 7>(low, high))
}

/// A block's codes, unpacked to 16 bits.
#[derive(Clone, Copy)]
pub struct UnpackedCodes([v128; 16]);

impl UnpackedCodes {
    /// From unsigned bytes.
    #[inline(always)]
    pub fn new(words: [Bytes; 8]) -> Self {
        let mut wide = [words[0]; 16];
        let mut word = 0;
        while word < 8 {
            wide[2 * word] = u16x8_extend_low_u8x16(words[word]);
            wide[2 * word + 1] = u16x8_extend_high_u8x16(words[word]);
            word += 1;
        }
        Self(wide)
    }

    /// `Σ code · x` over words `FROM..TO`, per row.
    #[inline(always)]
    pub fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        const { assert!(TO <= 8) };
        let (mut low, mut high) = (i32x4_splat(0), i32x4_splat(0));
        let mut word = FROM;
        while word < TO {
            low = i32x4_add(low, i32x4_dot_i16x8(self.0[2 * word], x.word(word)));
            high = i32x4_add(high, i32x4_dot_i16x8(self.0[2 * word + 1], x.word(word)));
            word += 1;
        }
        rows_of_pairs(low, high)
    }
}

/// A block's signed 8-bit codes.
#[derive(Clone, Copy)]
pub struct Codes8(UnpackedCodes);

impl Codes8 {
    /// From signed bytes.
    #[inline(always)]
    pub fn new(words: [Bytes; 8], _: &Constants) -> Self {
        let mut wide = [words[0]; 16];
        let mut word = 0;
        while word < 8 {
            wide[2 * word] = i16x8_extend_low_i8x16(words[word]);
            wide[2 * word + 1] = i16x8_extend_high_i8x16(words[word]);
            word += 1;
        }
        Self(UnpackedCodes(wide))
    }

    /// Loads eight words.
    ///
    /// # Safety
    /// 128 bytes can be read at `at`.
    #[inline(always)]
    pub unsafe fn load(at: *const u8, _: &Constants) -> Self {
        let mut wide = [i16x8_splat(0); 16];
        let mut half = 0;
        while half < 16 {
            // SAFETY: the caller's promise.
            wide[half] = unsafe { i16x8_load_extend_i8x8(at.add(half * 8).cast()) };
            half += 1;
        }
        Self(UnpackedCodes(wide))
    }

    /// `Σ code · x` over words `FROM..TO`, per row.
    #[inline(always)]
    pub fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        self.0.dot::<FROM, TO>(x)
    }
}
