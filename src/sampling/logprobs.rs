//! Log probabilities of tokens: the logits of a step, normalised over the vocabulary as the model computed them, before penalties, biases,
//! the grammar's mask and temperature.

use kernels::logits::Ranking;

/// The log probability of a token, and those of the likeliest tokens at its place.
#[derive(Debug, Clone, PartialEq)]
pub struct Logprobs {
    /// Natural logarithm.
    pub logprob: f32,
    /// Tokens with their log probabilities, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// The logits of one step, and what makes them log probabilities.
pub struct Normalised {
    logits: Vec<f32>,
    /// The logarithm of the sum of all exponentials.
    total: f64,
}

impl Normalised {
    /// `None` if no logit is finite.
    pub fn new(logits: &[f32]) -> Option<Self> {
        let largest = logits.iter().copied().filter(|logit| logit.is_finite()).fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits.iter().filter(|logit| logit.is_finite()).map(|logit| f64::from(logit - largest).exp()).sum();
        largest.is_finite().then(|| Self { logits: logits.to_vec(), total: f64::from(largest) + sum.ln() })
    }

    /// The log probabilities at the place of `token`: its own, and the `count` largest.
    pub fn of(mut self, token: u32, count: usize) -> Logprobs {
        let of = |logit: f32| (f64::from(logit) - self.total) as f32;
        let logprob = self.logits.get(token as usize).map_or(f32::NEG_INFINITY, |logit| of(*logit));
        let mut top = Vec::new();
        if count > 0 {
            let mut ranking = Ranking::default();
            ranking.read(&mut self.logits);
            ranking.largest(&self.logits, count, &mut top);
            top.iter_mut().for_each(|(_, logit)| *logit = of(*logit));
        }
        Logprobs { logprob, top }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn log_probabilities_are_those_of_the_softmax() {
        let probabilities = [0.1f32, 0.6, 0.05, 0.25];
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln() + 3.0).collect();
        let found = Normalised::new(&logits).expect("finite").of(3, 2);
        assert!((found.logprob - 0.25f32.ln()).abs() < 1e-6);
        assert_eq!(found.top.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [1, 3]);
        assert!((found.top[0].1 - 0.6f32.ln()).abs() < 1e-6);
        assert!(Normalised::new(&[f32::NAN, f32::NEG_INFINITY]).is_none());
        let damaged = Normalised::new(&[f32::NAN, 0.0]).expect("one is finite").of(1, 5);
        assert_eq!((damaged.logprob, damaged.top), (0.0, vec![(1, 0.0)]));
    }
}
