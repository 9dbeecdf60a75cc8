//! The largest of many logits, found without sorting the vocabulary.
//!
//! One pass keeps the largest of every block. The k-th largest of these is a bound that at least k logits reach, so only
//! blocks that reach it are looked at again.

use crate::lanes;

/// Logits per block: a few vectors, and few blocks.
const BLOCK: usize = 64;

/// What is known of the logits of one step. Made once and used for every step, so that nothing is allocated per token.
#[derive(Default)]
pub struct Ranking {
    /// The largest of every block, as bits that are ordered as numbers.
    largest: Vec<i32>,
    scratch: Vec<i32>,
}

/// A number's bits, ordered as numbers are.
fn ordered(number: f32) -> i32 {
    let bits = number.to_bits() as i32;
    bits ^ (bits >> 31 & 0x7fff_ffff)
}

impl Ranking {
    /// Looks at all logits. Gives the first of the largest and its value; `None` where no logit is finite. Logits that are
    /// NaN or positively infinite become −∞.
    pub fn read(&mut self, logits: &mut [f32]) -> Option<(u32, f32)> {
        let mut best = self.largest_of_blocks(logits);
        if best > ordered(f32::MAX) {
            // A damaged model; rare enough for a second look.
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

    /// Gathers the `count` largest of the logits that [`Ranking::read`] has seen, largest first, equals by token id; those of
    /// −∞ are left out.
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

    /// Random logits with many equals, against a full sort.
    #[test]
    fn the_largest_are_those_of_a_full_sort() {
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
    fn what_is_no_number_is_left_out() {
        let mut ranking = Ranking::default();
        let mut logits = [f32::NAN, 1.0, f32::INFINITY, -f32::NAN, 2.0];
        assert_eq!(ranking.read(&mut logits), Some((4, 2.0)));
        assert_eq!(ranking.read(&mut [f32::NAN, f32::INFINITY, f32::NEG_INFINITY]), None);
        assert_eq!(ranking.read(&mut []), None);
    }
}
