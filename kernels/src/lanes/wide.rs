//! Dot products of 16-bit codes and activations with `i32x4.dot_i16x8_s`, which every engine with SIMD supports.

use super::arch::*;
use super::{Bytes, Codes, Constants, I32x4, Panel, QuadValues, Values};
use crate::planes::BLOCK;

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
}

impl Codes for Codes4 {
    type Panel = Pairs;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut Pairs) {
        let mut half = 0;
        while half < 2 {
            let pairs = pairs_of_rows(self.words[2 * half], self.words[2 * half + 1]);
            let mut side = 0;
            while side < 2 {
                let (wide, at) = (pairs[side], 8 * half + side);
                panel.0[at] = v128_and(wide, self.masks[0]);
                panel.0[at + 2] = v128_and(u16x8_shr(wide, 4), self.masks[0]);
                panel.0[at + 4] = v128_and(u16x8_shr(wide, 8), self.masks[0]);
                panel.0[at + 6] = u16x8_shr(wide, 12);
                side += 1;
            }
            half += 1;
        }
    }

    // The second and third nibble of each number are multiplied in place, as 16 or 256 times their code, and the sums are shifted right.
    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        const { assert!(TO <= 8 && FROM.is_multiple_of(4) && TO.is_multiple_of(4)) };
        let [first, second, third] = self.masks;
        let rows = |half: usize| {
            let [mut ones, mut sixteens, mut others] = [i32x4_splat(0); 3];
            let mut word = FROM;
            while word < TO {
                let wide = self.words[word / 2 + half];
                ones = super::dot_pairs(ones, v128_and(wide, first), x.word(word));
                ones = super::dot_pairs(ones, u16x8_shr(wide, 12), x.word(word + 3));
                sixteens = super::dot_pairs(sixteens, v128_and(wide, second), x.word(word + 1));
                others = super::dot_pairs(others, v128_and(wide, third), x.word(word + 2));
                word += 4;
            }
            i32x4_add(ones, i32x4_add(i32x4_shr(sixteens, 4), i32x4_shr(others, 8)))
        };
        rows_of_pairs(rows(0), rows(1))
    }
}

/// Adds pairs of partial sums: `low` holds two per row for rows 0 and 1, `high` for rows 2 and 3. Returns one sum per row.
#[inline(always)]
fn rows_of_pairs(low: I32x4, high: I32x4) -> I32x4 {
    i32x4_add(i32x4_shuffle::<0, 2, 4, 6>(low, high), i32x4_shuffle::<1, 3, 5, 7>(low, high))
}

/// Rearranges four numbers per row, of which `low` holds rows 0 and 1 and `high` rows 2 and 3, to the first two of all rows and the last two.
#[inline(always)]
fn pairs_of_rows(low: v128, high: v128) -> [v128; 2] {
    [i32x4_shuffle::<0, 2, 4, 6>(low, high), i32x4_shuffle::<1, 3, 5, 7>(low, high)]
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
}

impl Codes for UnpackedCodes {
    type Panel = Pairs;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut Pairs) {
        let mut word = 0;
        while word < 8 {
            [panel.0[2 * word], panel.0[2 * word + 1]] = pairs_of_rows(self.0[2 * word], self.0[2 * word + 1]);
            word += 1;
        }
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
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

/// A block's codes in the order in which several rows of activations are multiplied: `[pair of columns, row, column of the pair]`.
#[derive(Clone, Copy)]
pub struct Pairs([v128; 16]);

impl Panel for Pairs {
    const ZERO: Self = Self([super::ZERO_I16; 16]);

    #[inline(always)]
    fn multiply<const N: usize, const R: usize, const FROM: usize, const TO: usize>(panels: &[Self; N], x: &QuadValues) -> [[I32x4; R]; N] {
        const { assert!(R <= 4 && TO <= 8) };
        let mut sums = [[i32x4_splat(0); R]; N];
        for pair in 2 * FROM..2 * TO {
            let x = super::splat_pairs(super::from_i16(&x.0[pair]));
            for (panel, sums) in panels.iter().zip(&mut sums) {
                for row in 0..R {
                    sums[row] = super::dot_pairs(sums[row], panel.0[pair], x[row]);
                }
            }
        }
        sums
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
}

impl Codes for Codes8 {
    type Panel = Pairs;

    #[inline(always)]
    fn unpack_to(&self, panel: &mut Pairs) {
        self.0.unpack_to(panel);
    }

    #[inline(always)]
    fn dot<const FROM: usize, const TO: usize>(&self, x: &Values) -> I32x4 {
        self.0.dot::<FROM, TO>(x)
    }
}
