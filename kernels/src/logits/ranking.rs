//! Arg max and top-k of the logits, without sorting the vocabulary.
//!
//! One pass stores the maximum of every block. At least k logits reach the k-th largest of these maxima, so a second pass looks only
//! at blocks whose maximum reaches it.

use crate::lanes;

/// Logits per block: few vectors per block, and few blocks.
const BLOCK: usize = 64;

/// Block maxima of the logits of one step. Reused for every step, so that a token allocates nothing.
#[derive(Default)]
pub struct Ranking {
    /// The maximum of every block, as [`ordered`] bits.
    largest: Vec<i32>,
    scratch: Vec<i32>,
}

/// An integer per number, in the same order as the numbers. NaN lies beyond the infinities.
fn ordered(number: f32) -> i32 {
    let bits = number.to_bits() as i32;
    bits ^ (bits >> 31 & 0x7fff_ffff)
}

impl Ranking {
    /// Reads all logits. Returns the largest one's token (the first of equal ones) and value, or `None` if no logit is finite. Sets logits
    /// that are NaN or +∞ to −∞.
    pub fn read(&mut self, logits: &mut [f32]) -> Option<(u32, f32)> {
        let mut best = self.largest_of_blocks(logits);
        if best > ordered(f32::MAX) {
            // A damaged model. This is rare, so a second pass is acceptable.
            logits.iter_mut().filter(|logit| logit.is_nan() || **logit == f32::INFINITY).for_each(|logit| *logit = f32::NEG_INFINITY);
            best = self.largest_of_blocks(logits);
        }
        let block = self.largest.iter().position(|largest| *largest == best)?;
        let token = logits[block * BLOCK..].iter().position(|logit| ordered(*logit) == best)? + block * BLOCK;
        logits[token].is_finite().then_some((token as u32, logits[token]))
    }

    fn largest_of_blocks(&mut self, logits: &[f32]) -> i32 {
        self.largest.clear();
        for block in logits.chunks(BLOCK) {
            let (fours, rest) = block.as_chunks::<4>();
            let of_rest = rest.iter().fold(i32::MIN, |largest, logit| largest.max(ordered(*logit)));
            let largest = fours
                .iter()
                .fold(lanes::splat_int(of_rest), |largest, four| lanes::max_int(largest, lanes::ordered_bits(lanes::from_slice(four))));
            self.largest.push(lanes::horizontal_max_int(largest));
        }
        self.largest.iter().copied().max().unwrap_or(i32::MIN)
    }

    /// Writes the `count` largest logits to `out` as `(token, logit)`, largest first, equal ones by token id. Omits logits of −∞.
    /// `logits` must be those that [`Ranking::read`] last read.
    pub fn largest(&mut self, logits: &[f32], count: usize, out: &mut Vec<(u32, f32)>) {
        out.clear();
        let bound = if count < self.largest.len() {
            self.scratch.clone_from(&self.largest);
            *self.scratch.select_nth_unstable_by(count.saturating_sub(1), |a, b| b.cmp(a)).1
        } else {
            i32::MIN
        };
        for (index, block) in logits.chunks(BLOCK).enumerate().filter(|(index, _)| self.largest[*index] >= bound) {
            let first = (index * BLOCK) as u32;
            let kept = block.iter().enumerate().filter(|(_, logit)| **logit > f32::NEG_INFINITY && ordered(**logit) >= bound);
            out.extend(kept.map(|(place, logit)| (first + place as u32, *logit)));
        }
        let descending = |a: &(u32, f32), b: &(u32, f32)| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0));
        if count < out.len() {
            out.select_nth_unstable_by(count, descending);
            out.truncate(count);
        }
        out.sort_unstable_by(descending);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_core::{RngCore, SeedableRng};
    use rand_pcg::Pcg64Mcg;

    /// Random logits with many equal ones, compared with a full sort.
    #[test]
    fn the_largest_logits_equal_those_of_a_full_sort() {
        let mut rng = Pcg64Mcg::seed_from_u64(3);
        let (mut ranking, mut found) = (Ranking::default(), Vec::new());
        for _ in 0..200 {
            let count = 1 + rng.next_u32() as usize % 3000;
            let mut logits: Vec<f32> = (0..count).map(|_| (rng.next_u32() % 500) as f32 * 0.1 - 20.0).collect();
            for _ in 0..count / 10 {
                logits[rng.next_u32() as usize % count] = f32::NEG_INFINITY;
            }
            let mut sorted: Vec<(u32, f32)> = (0u32..).zip(logits.iter().copied()).filter(|(_, logit)| logit.is_finite()).collect();
            sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            assert_eq!(ranking.read(&mut logits), sorted.first().copied());
            let wanted = 1 + rng.next_u32() as usize % (count + 5);
            ranking.largest(&logits, wanted, &mut found);
            sorted.truncate(wanted);
            assert_eq!(found, sorted, "{wanted} of {count}");
        }
    }

    #[test]
    fn nan_and_infinite_logits_are_left_out() {
        let mut ranking = Ranking::default();
        let mut logits = [f32::NAN, 1.0, f32::INFINITY, -f32::NAN, 2.0];
        assert_eq!(ranking.read(&mut logits), Some((4, 2.0)));
        assert_eq!(ranking.read(&mut [f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), None);
        assert_eq!(ranking.read(&mut []), None);
    }
}
