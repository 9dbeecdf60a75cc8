//! Keys and values as integers, in groups as attention multiplies them: eight sums' eight terms each.
//!
//! Terms stand in pairs, because one instruction multiplies and adds them. [`Wide`] numbers have 16 bits. [`Narrow`] ones have 12, four
//! vectors of them in the memory of three: those hold a number in the upper 12 bits of each lane, and a piece of the fourth vector's
//! in the lower four.

use crate::lanes::{self, I16x8, I32x4};

/// Eight sums' eight terms each.
pub trait Group: Copy {
    /// Largest magnitude of a number.
    const LARGEST: i16;

    /// Puts a number, `±LARGEST`, in its place and leaves all others as they are.
    fn set(&mut self, sum: usize, term: usize, number: i16);

    /// For each row of factors eight sums, over the terms of all groups.
    fn dot<const H: usize>(groups: &[Self], factors: &[Factors<H>]) -> Sums<H>;
}

/// `[pair of terms, sum / 4, 4 sums × 2 terms]`.
pub type Wide = [[[i16; 8]; 2]; 4];

/// The same, of whose four pairs three are stored.
pub type Narrow = [[[i16; 8]; 2]; 3];

/// What groups lie in, 16 times `PAIRS` numbers each.
pub fn groups<const PAIRS: usize>(memory: &[i16]) -> &[[[[i16; 8]; 2]; PAIRS]] {
    memory.as_chunks().0.as_chunks().0.as_chunks().0
}

/// The same, to be changed.
pub fn groups_mut<const PAIRS: usize>(memory: &mut [i16]) -> &mut [[[[i16; 8]; 2]; PAIRS]] {
    memory.as_chunks_mut().0.as_chunks_mut().0.as_chunks_mut().0
}

/// What the terms of a group are multiplied with, for `H` rows of factors: each pair of them fills a vector.
pub type Factors<const H: usize> = [[I16x8; H]; 4];

/// For each row of factors eight sums, of the first four and of the others.
pub type Sums<const H: usize> = [[I32x4; 2]; H];

/// The largest factors with which the products of `terms` numbers up to `largest` still fit into 32 bits together.
pub const fn largest_factor(terms: usize, largest: i16) -> i16 {
    let factor = i32::MAX as usize / (largest as usize * if terms > 0 { terms } else { 1 });
    if factor < i16::MAX as usize { factor as i16 } else { i16::MAX }
}

impl Group for Wide {
    /// 13 bits: as many are left for what keys are multiplied with.
    const LARGEST: i16 = 8191;

    fn set(&mut self, sum: usize, term: usize, number: i16) {
        self[term / 2 % 4][sum / 4 % 2][sum % 4 * 2 + term % 2] = number;
    }

    #[inline(always)]
    fn dot<const H: usize>(groups: &[Self], factors: &[Factors<H>]) -> Sums<H> {
        let mut sums = zero();
        // Pair by pair, not group by group: compilers would load a whole group at first, more than there are registers.
        for (terms, factors) in groups.as_flattened().iter().zip(factors.as_flattened()) {
            add_products(&mut sums, terms.each_ref().map(lanes::from_i16), factors);
        }
        sums
    }
}

impl Group for Narrow {
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
        // `a << 12 ^ b << 8 ^ c << 4` is to be `d`, whatever lies in the upper bits: solved from the lowest bits upwards.
        c = c & !15 | d >> 4 & 15;
        b = b & !15 | (d ^ (c << 4)) >> 8 & 15;
        a = a & !15 | (d ^ (c << 4) ^ (b << 8)) >> 12;
        for (pair, number) in self.iter_mut().zip([a, b, c]) {
            pair[half][lane] = number as i16;
        }
    }

    #[inline(always)]
    fn dot<const H: usize>(groups: &[Self], factors: &[Factors<H>]) -> Sums<H> {
        let mut sums = zero();
        for (group, factors) in groups.iter().zip(factors) {
            let [a, b, c] = group.each_ref().map(|pair| pair.each_ref().map(lanes::from_i16));
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

/// Adds the products of a pair of terms of all eight sums.
#[inline(always)]
fn add_products<const H: usize>(sums: &mut Sums<H>, terms: [I16x8; 2], factors: &[I16x8; H]) {
    for (sums, factor) in sums.iter_mut().zip(factors) {
        *sums = [lanes::dot_pairs(sums[0], terms[0], *factor), lanes::dot_pairs(sums[1], terms[1], *factor)];
    }
}

/// No factors yet.
pub const fn no_factors<const H: usize>() -> Factors<H> {
    [[lanes::ZERO_I16; H]; 4]
}

/// Sets one row's factors of the eight terms of a group.
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
    fn numbers_are_kept_and_multiplied() {
        check::<Wide>(Wide::default());
        check::<Narrow>(Narrow::default());
    }

    /// Numbers written in any order, twice, and with every extreme.
    fn check<G: Group>(zero: G) {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let mut number = |limit: i16| {
            let any = (rng.next_u32() % (2 * limit as u32 + 1)) as i32 - i32::from(limit);
            [-limit, limit, 0, any as i16][rng.next_u32() as usize % 4]
        };
        let mut groups = [zero; 5];
        let mut numbers = [[[0i16; 8]; 8]; 5];
        for round in 0..2 {
            for index in 0..5 * 64 {
                // 77 and 320 have no common divisor: every place comes up once.
                let (group, sum, term) = (index * 77 % 320 / 64, index * 77 % 64 / 8, index * 77 % 8);
                let number = if round == 0 { G::LARGEST } else { number(G::LARGEST) };
                groups[group].set(sum, term, number);
                numbers[group][sum][term] = number;
            }
        }
        let limit = largest_factor(5 * 8, G::LARGEST);
        let mut factors = [no_factors::<2>(); 5];
        let mut rows = [[[0i16; 8]; 5]; 2];
        for (row, of_groups) in rows.iter_mut().enumerate() {
            for (group, of_terms) in of_groups.iter_mut().enumerate() {
                of_terms.iter_mut().for_each(|factor| *factor = number(limit));
                set_factors(&mut factors[group], row, of_terms);
            }
        }
        for (row, sums) in G::dot(&groups, &factors).iter().enumerate() {
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
            for largest in [Wide::LARGEST, Narrow::LARGEST] {
                assert!(terms as i64 * i64::from(largest) * i64::from(largest_factor(terms, largest)) <= i64::from(i32::MAX));
            }
        }
    }
}
