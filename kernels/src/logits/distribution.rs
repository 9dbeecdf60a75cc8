//! The softmax over a whole vocabulary, and sampling from it.

use crate::lanes;

/// Weights below e^−80 of the best token's become 0, so that a token whose logit is −∞ (a mask forbids it) cannot be drawn.
const MIN_EXPONENT: f32 = -80.0;

/// Tokens per block. Each block is summed in f32, the block sums in f64.
const BLOCK: usize = 256;

/// The weight of every token: its probability times a common factor, chosen so that the best token's weight is 1. Reused for every
/// step, so that a token allocates nothing.
#[derive(Default)]
pub struct Distribution {
    weights: Vec<f32>,
}

impl Distribution {
    /// Sets every token's weight to `e^((logit − best) · scale)` and returns the sum of all. `best` is the largest logit, `scale` the
    /// inverse of the temperature.
    pub fn weigh(&mut self, logits: &[f32], best: f32, scale: f32) -> f64 {
        self.weights.clear();
        self.weights.resize(logits.len(), 0.0);
        let mut total = 0.0;
        for (logits, weights) in logits.chunks(BLOCK).zip(self.weights.chunks_mut(BLOCK)) {
            let (fours, rest) = logits.as_chunks::<4>();
            let (out, rest_out) = weights.as_chunks_mut::<4>();
            for (four, out) in fours.iter().zip(out) {
                lanes::to_slice(weights_of(lanes::from_slice(four), best, scale), out);
            }
            for (logit, out) in rest.iter().zip(rest_out) {
                *out = weight(*logit, best, scale);
            }
            total += sum_of(weights);
        }
        total
    }

    /// The weight of a token, 0 to 1; 0 for tokens outside the vocabulary.
    pub fn weight_of(&self, token: u32) -> f32 {
        self.weights.get(token as usize).copied().unwrap_or(0.0)
    }

    /// The token at which the running sum of the weights, in token order, exceeds `remaining`. With `remaining` uniform in 0 to the
    /// total, this draws from the distribution.
    pub fn at(&self, mut remaining: f64) -> u32 {
        let mut last = 0;
        for (index, block) in self.weights.chunks(BLOCK).enumerate() {
            let sum = sum_of(block);
            if sum > remaining {
                for (place, weight) in block.iter().enumerate().filter(|(_, weight)| **weight > 0.0) {
                    last = index * BLOCK + place;
                    remaining -= f64::from(*weight);
                    if remaining < 0.0 {
                        break;
                    }
                }
                return last as u32;
            }
            if let Some(place) = block.iter().rposition(|weight| *weight > 0.0) {
                last = index * BLOCK + place;
            }
            remaining -= sum;
        }
        // Rounding can leave a remainder after the last token; return the last token with a non-zero weight.
        last as u32
    }
}

/// The weight of one token with this logit, as [`Distribution::weigh`] computes it.
pub fn weight(logit: f32, best: f32, scale: f32) -> f32 {
    lanes::to_array(weights_of(lanes::splat(logit), best, scale))[0]
}

#[inline(always)]
fn weights_of(logits: lanes::F32x4, best: f32, scale: f32) -> lanes::F32x4 {
    let exponent = lanes::mul(lanes::sub(logits, lanes::splat(best)), lanes::splat(scale));
    lanes::where_above(exponent, lanes::splat(MIN_EXPONENT), lanes::exp(exponent))
}

/// The sum of one block's weights.
fn sum_of(weights: &[f32]) -> f64 {
    let (fours, rest) = weights.as_chunks::<4>();
    let sum = fours.iter().fold(lanes::splat(0.0), |sum, four| lanes::add(sum, lanes::from_slice(four)));
    f64::from(lanes::horizontal_sum(sum) + rest.iter().sum::<f32>())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compared with a softmax in f64.
    #[test]
    fn weights_and_draws_follow_the_softmax() {
        let logits: Vec<f32> =
            (0..700).map(|token| (token as f32 * 0.37).sin() * 9.0 - if token % 50 == 7 { 300.0 } else { 0.0 }).collect();
        let best = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exact: Vec<f64> = logits.iter().map(|logit| (f64::from(logit - best) * 0.8).exp()).collect();
        let mut distribution = Distribution::default();
        let total = distribution.weigh(&logits, best, 0.8);
        assert!((total - exact.iter().sum::<f64>()).abs() < 1e-4 * total);
        let mut passed = 0.0;
        for (token, exact) in exact.iter().enumerate() {
            assert!((f64::from(distribution.weight_of(token as u32)) - exact).abs() < 1e-5);
            // Draw in the middle of the token's share.
            if *exact > 1e-3 {
                assert_eq!(distribution.at(passed + exact / 2.0), token as u32);
            } else if token % 50 == 7 {
                assert_eq!(distribution.weight_of(token as u32), 0.0);
            }
            passed += exact;
        }
        assert_eq!(distribution.weight_of(700), 0.0);
        assert_eq!(distribution.at(total * 2.0), 699);
    }
}
