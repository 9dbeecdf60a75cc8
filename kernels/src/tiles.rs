//! The layout of keys and values in the KV cache: 8 × 8 tiles of integers, in the order in which attention multiplies them.
//!
//! A tile holds the numbers of eight sums (rows) of eight terms (columns). Multiplying it by eight factors, one per term, adds to eight
//! sums. Terms are stored in pairs, because one instruction (`i32x4.dot_i16x8_s`) multiplies a pair and adds the products.
//!
//! [`Tile16`] stores 16-bit numbers. [`Tile12`] stores 12-bit numbers, four vectors in the memory of three: each stored lane holds a number
//! in its upper 12 bits and a part of the fourth vector's number in its lower four. XOR and shifts restore the fourth vector.

use crate::lanes::{self, I16x8, I32x4};

/// An 8 × 8 tile of integers: eight sums of eight terms.
pub trait Tile: Copy {
    /// The largest magnitude of a number.
    const LARGEST: i16;

    /// Sets one number, −`LARGEST` to `LARGEST`. Does not change the others. `sum` and `term` are 0 to 7.
    fn set(&mut self, sum: usize, term: usize, number: i16);

    /// Returns, for each of the `H` rows of factors, the eight sums `Σ number · factor` over the terms of all tiles. `factors` has one
    /// entry per tile. The caller keeps the sums within 32 bits (see [`largest_factor`]).
    fn dot<const H: usize>(tiles: &[Self], factors: &[Factors<H>]) -> Sums<H>;
}

/// `[pair of terms, sum / 4, 4 sums × 2 terms]`.
pub type Tile16 = [[[i16; 8]; 2]; 4];

/// Like [`Tile16`], but with three of the four pairs stored.
pub type Tile12 = [[[i16; 8]; 2]; 3];

/// Views memory as tiles of `16 · PAIRS` numbers each: `PAIRS` is 4 for [`Tile16`], 3 for [`Tile12`]. Omits an incomplete tile at the end.
pub fn as_tiles<const PAIRS: usize>(memory: &[i16]) -> &[[[[i16; 8]; 2]; PAIRS]] {
    memory.as_chunks().0.as_chunks().0.as_chunks().0
}

/// Like [`as_tiles`], but mutable.
pub fn as_tiles_mut<const PAIRS: usize>(memory: &mut [i16]) -> &mut [[[[i16; 8]; 2]; PAIRS]] {
    memory.as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0
}

/// The factors of a tile's eight terms, for `H` rows of factors: `[pair of terms, row]`. Each vector repeats one pair.
pub type Factors<const H: usize> = [[I16x8; H]; 4];

/// Eight sums per row of factors: `[row, sum / 4]`, four sums per vector.
pub type Sums<const H: usize> = [[I32x4; 2]; H];

/// The largest factor for which a sum of `terms` products, with numbers of magnitude up to `largest`, fits into 32 bits. At most
/// `i16::MAX`.
pub const fn largest_factor(terms: usize, largest: i16) -> i16 {
    let factor = i32::MAX as usize / (largest as usize * if terms > 0 { terms } else { 1 });
    if factor < i16::MAX as usize { factor as i16 } else { i16::MAX }
}

impl Tile for Tile16 {
    /// 13 bits, of the 31 that a sum of products may have. The others are left for the factors (the query) and the number of terms:
    /// at a head width of 32 the factors have 13 bits too.
    const LARGEST: i16 = 8191;

    fn set(&mut self, sum: usize, term: usize, number: i16) {
        self[term / 2 % 4][sum / 4 % 2][sum % 4 * 2 + term % 2] = number;
    }

    #[inline(always)]
    fn dot<const H: usize>(tiles: &[Self], factors: &[Factors<H>]) -> Sums<H> {
        let mut sums = zero();
        // Pair by pair, not tile by tile: compilers would load a whole tile first, which does not fit into the registers.
        for (terms, factors) in tiles.as_flattened().iter().zip(factors.as_flattened()) {
            add_products(&mut sums, terms.each_ref().map(lanes::from_i16), factors);
        }
        sums
    }
}

impl Tile for Tile12 {
    const LARGEST: i16 = 2047;

    fn set(&mut self, sum: usize, term: usize, number: i16) {
        let (half, lane) = (sum / 4 % 2, sum % 4 * 2 + term % 2);
        let [mut a, mut b, mut c] = self.map(|pair| pair[half][lane] as u16);
        let mut d = (a << 12) ^ (b << 8) ^ (c << 4);
        let number = (number as u16) << 4;
        match term / 2 % 4 {
            0 => a = number,
            1 => b = number,
            2 => c = number,
            _ => d = number,
        }
        // `a << 12 ^ b << 8 ^ c << 4` must equal `d`, whatever the upper bits of `a`, `b` and `c` are. Solved from the lowest bits up.
        c = c & !15 | d >> 4 & 15;
        b = b & !15 | (d ^ (c << 4)) >> 8 & 15;
        a = a & !15 | (d ^ (c << 4) ^ (b << 8)) >> 12;
        for (pair, number) in self.iter_mut().zip([a, b, c]) {
            pair[half][lane] = number as i16;
        }
    }

    #[inline(always)]
    fn dot<const H: usize>(tiles: &[Self], factors: &[Factors<H>]) -> Sums<H> {
        let mut sums = zero();
        for (tile, factors) in tiles.iter().zip(factors) {
            let [a, b, c] = tile.each_ref().map(|pair| pair.each_ref().map(lanes::from_i16));
            let d = [0, 1].map(|half| {
                let two = lanes::xor_i16(lanes::shl_i16(a[half], 4), b[half]);
                lanes::shl_i16(lanes::xor_i16(lanes::shl_i16(two, 4), c[half]), 4)
            });
            for (terms, factors) in [a, b, c, d].iter().zip(factors) {
                add_products(&mut sums, terms.map(|numbers| lanes::shr_i16(numbers, 4)), factors);
            }
        }
        sums
    }
}

#[inline(always)]
fn zero<const H: usize>() -> Sums<H> {
    [[lanes::splat_int(0); 2]; H]
}

/// Adds the products of one pair of terms to all eight sums.
#[inline(always)]
fn add_products<const H: usize>(sums: &mut Sums<H>, terms: [I16x8; 2], factors: &[I16x8; H]) {
    for (sums, factor) in sums.iter_mut().zip(factors) {
        *sums = [lanes::dot_pairs(sums[0], terms[0], *factor), lanes::dot_pairs(sums[1], terms[1], *factor)];
    }
}

/// Factors that are all zero.
pub const fn no_factors<const H: usize>() -> Factors<H> {
    [[lanes::ZERO_I16; H]; 4]
}

/// Sets row `row` of the factors of one tile: one factor for each of its eight terms.
#[inline(always)]
pub fn set_factors<const H: usize>(factors: &mut Factors<H>, row: usize, numbers: &[i16; 8]) {
    for (pair, splat) in factors.iter_mut().zip(lanes::splat_pairs(lanes::from_i16(numbers))) {
        pair[row] = splat;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{RngCore, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    #[test]
    fn numbers_are_stored_and_multiplied_exactly() {
        check::<Tile16>(Tile16::default());
        check::<Tile12>(Tile12::default());
    }

    /// Writes every number twice, in a scattered order, with the extremes among them, and compares sums with exact ones.
    fn check<G: Tile>(zero: G) {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let mut number = |limit: i16| {
            let any = (rng.next_u32() % (2 * limit as u32 + 1)) as i32 - i32::from(limit);
            [-limit, limit, 0, any as i16][rng.next_u32() as usize % 4]
        };
        let mut tiles = [zero; 5];
        let mut numbers = [[[0i16; 8]; 8]; 5];
        for round in 0..2 {
            for index in 0..5 * 64 {
                // 77 and 320 have no common divisor, so every position occurs once.
                let (tile, sum, term) = (index * 77 % 320 / 64, index * 77 % 64 / 8, index * 77 % 8);
                let number = if round == 0 { G::LARGEST } else { number(G::LARGEST) };
                tiles[tile].set(sum, term, number);
                numbers[tile][sum][term] = number;
            }
        }
        let limit = largest_factor(5 * 8, G::LARGEST);
        let mut factors = [no_factors::<2>(); 5];
        let mut rows = [[[0i16; 8]; 5]; 2];
        for (row, of_tiles) in rows.iter_mut().enumerate() {
            for (tile, of_terms) in of_tiles.iter_mut().enumerate() {
                of_terms.iter_mut().for_each(|factor| *factor = number(limit));
                set_factors(&mut factors[tile], row, of_terms);
            }
        }
        for (row, sums) in G::dot(&tiles, &factors).iter().enumerate() {
            for sum in 0..8 {
                let exact: i64 =
                    (0..40).map(|term| i64::from(numbers[term / 8][sum][term % 8]) * i64::from(rows[row][term / 8][term % 8])).sum();
                assert_eq!(i64::from(sums[sum / 4][sum % 4]), exact);
            }
        }
    }

    #[test]
    fn the_largest_sums_fit_into_32_bits() {
        for terms in [0usize, 1, 8, 64, 128, 256] {
            for largest in [Tile16::LARGEST, Tile12::LARGEST] {
                assert!(terms as i64 * i64::from(largest) * i64::from(largest_factor(terms, largest)) <= i64::from(i32::MAX));
            }
        }
    }
}
