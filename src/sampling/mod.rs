//! Sampling: logits → the next token. Penalties and biases, the grammar's mask, temperature, top-k, top-p, then a seeded draw.
//!
//! Penalties follow their sources: `repetition_penalty` is multiplicative and covers every token of prompt and answer
//! (CTRL, Keskar et al. 2019); `frequency_penalty` and `presence_penalty` are subtractive and cover the answer (OpenAI's
//! API). Top-p is nucleus sampling (Holtzman et al. 2019).

mod logprobs;

pub use logprobs::{Logprobs, Normalised};

use crate::backend::{MAX_CANDIDATES, Wanted};
use crate::error::{AiError, ErrorCode, Result};
use crate::grammar::Constraint;
use crate::host::random_bytes;
use kernels::logits::{Distribution, Ranking, weight};
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::{Map, Value};
use std::collections::HashMap;

/// Temperature of a request that does not set one.
pub const DEFAULT_TEMPERATURE: f32 = 0.6;

/// The sampling fields of a request. An absent field switches its feature off, except `temperature` and `seed`.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplingParams {
    /// 0 always takes the most likely token (greedy).
    pub temperature: f32,
    pub top_p: Option<f32>,
    pub top_k: Option<usize>,
    /// `None`: each run uses another random seed.
    pub seed: Option<u64>,
    pub repetition_penalty: Option<f32>,
    pub frequency_penalty: f32,
    pub presence_penalty: f32,
    /// Tokens and what is added to their logits, −100 to 100.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for SamplingParams {
    fn default() -> Self {
        Self {
            temperature: DEFAULT_TEMPERATURE,
            top_p: None,
            top_k: None,
            seed: None,
            repetition_penalty: None,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplingParams {
    /// Reads the fields of a validated input; values that have no effect (such as `top_p` = 1) become `None`.
    pub fn from_fields(fields: &Map<String, Value>) -> Self {
        let number = |key: &str| fields.get(key).and_then(Value::as_f64);
        Self {
            temperature: number("temperature").map_or(DEFAULT_TEMPERATURE, |value| value as f32),
            top_p: number("top_p").map(|value| value as f32).filter(|value| *value < 1.0),
            top_k: number("top_k").map(|value| value as usize),
            seed: number("seed").map(|value| value as u64),
            repetition_penalty: number("repetition_penalty").map(|value| value as f32).filter(|value| *value > 0.0 && *value != 1.0),
            frequency_penalty: number("frequency_penalty").unwrap_or(0.0) as f32,
            presence_penalty: number("presence_penalty").unwrap_or(0.0) as f32,
            logit_bias: fields.get("logit_bias").and_then(Value::as_object).map(biases).unwrap_or_default(),
        }
    }
}

/// The entries of a validated `logit_bias`, except those of 0.
fn biases(entries: &Map<String, Value>) -> Vec<(u32, f32)> {
    let bias = |(token, bias): (&String, &Value)| Some((token.parse().ok()?, bias.as_f64()? as f32));
    entries.iter().filter_map(bias).filter(|(_, bias)| *bias != 0.0).collect()
}

/// Draws the tokens of one sequence, and counts them for the penalties. Makes one draw per token.
pub struct Sampler {
    params: SamplingParams,
    rng: Pcg64Mcg,
    /// Token → how often it occurs in the answer. Tokens of the prompt are included (with 0) if there is a repetition penalty.
    seen: HashMap<u32, u32>,
    ranking: Ranking,
    distribution: Distribution,
    /// Scratch: candidates for the next token, with their weights.
    candidates: Vec<(u32, f32)>,
}

impl Sampler {
    /// A sampler for one sequence that starts with `prompt`. Draws a seed if the request does not set one.
    pub fn new(params: SamplingParams, prompt: &[u32]) -> Self {
        let seed = params.seed.unwrap_or_else(|| u64::from_le_bytes(random_bytes()));
        let seen = if params.repetition_penalty.is_some() { prompt.iter().map(|token| (*token, 0)).collect() } else { HashMap::new() };
        let rng = Pcg64Mcg::seed_from_u64(seed);
        Self { params, rng, seen, ranking: Ranking::default(), distribution: Distribution::default(), candidates: Vec::new() }
    }

    /// Draws the next token. `logits`: one per vocabulary entry, unnormalised; changed in place. A constraint limits the draw to the
    /// tokens that it allows.
    ///
    /// # Errors
    ///
    /// 5004 if no logit is finite; the error of the constraint.
    pub fn sample(&mut self, logits: &mut [f32], constraint: Option<&mut Constraint>) -> Result<u32> {
        self.penalise(logits);
        if let Some(constraint) = constraint {
            constraint.mask(logits)?;
        }
        let Some((best, best_logit)) = self.ranking.read(logits) else { return Err(no_logits()) };
        let token = if self.params.temperature <= 0.0 { best } else { self.draw(logits, best_logit) };
        *self.seen.entry(token).or_insert(0) += 1;
        Ok(token)
    }

    /// The output that this sampler needs to draw the next token: the largest logits if there are no penalties and the draw is greedy or
    /// top-k, otherwise all logits.
    pub fn wanted(&self) -> Wanted {
        let SamplingParams { temperature, top_k, .. } = self.params;
        match top_k {
            _ if self.penalises() => Wanted::Logits,
            _ if temperature <= 0.0 => Wanted::Candidates(1),
            Some(top_k) if top_k <= MAX_CANDIDATES => Wanted::Candidates(top_k.max(1)),
            _ => Wanted::Logits,
        }
    }

    /// Draws the next token from the largest logits: `(token, logit)`, largest first, as many as [`Sampler::wanted`] asked for.
    ///
    /// # Errors
    ///
    /// 5004 if there are no candidates.
    pub fn sample_candidates(&mut self, mut candidates: Vec<(u32, f32)>) -> Result<u32> {
        let Some((best, best_logit)) = candidates.first().copied() else { return Err(no_logits()) };
        let token = if self.params.temperature <= 0.0 { best } else { self.draw_among(&mut candidates, best_logit) };
        *self.seen.entry(token).or_insert(0) += 1;
        Ok(token)
    }

    /// Whether it changes logits before it draws.
    fn penalises(&self) -> bool {
        let SamplingParams { repetition_penalty, frequency_penalty, presence_penalty, logit_bias, .. } = &self.params;
        repetition_penalty.is_some() || *frequency_penalty != 0.0 || *presence_penalty != 0.0 || !logit_bias.is_empty()
    }

    fn penalise(&self, logits: &mut [f32]) {
        let SamplingParams { repetition_penalty, frequency_penalty, presence_penalty, .. } = self.params;
        if !self.penalises() {
            return;
        }
        for (token, count) in &self.seen {
            let Some(logit) = logits.get_mut(*token as usize) else { continue };
            if let Some(penalty) = repetition_penalty {
                *logit = if *logit > 0.0 { *logit / penalty } else { *logit * penalty };
            }
            if *count > 0 {
                *logit -= frequency_penalty * *count as f32 + presence_penalty;
            }
        }
        for (token, bias) in &self.params.logit_bias {
            if let Some(logit) = logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
    }

    fn draw(&mut self, logits: &[f32], best_logit: f32) -> u32 {
        let top_k = self.params.top_k.filter(|top_k| *top_k < logits.len());
        if let Some(top_k) = top_k {
            let mut candidates = std::mem::take(&mut self.candidates);
            self.ranking.largest(logits, top_k, &mut candidates);
            let token = self.draw_among(&mut candidates, best_logit);
            self.candidates = candidates;
            return token;
        }
        let scale = self.scale();
        let uniform = self.uniform();
        let Self { ranking, distribution, candidates, .. } = self;
        let total = distribution.weigh(logits, best_logit, scale);
        match self.params.top_p {
            None => distribution.at(uniform * total),
            Some(top_p) => {
                let wanted = f64::from(top_p) * total;
                // Rank only the head of the distribution: first 64 tokens, then eight times as many, and so on.
                let mut count = 64;
                loop {
                    ranking.largest(logits, count, candidates);
                    for (token, logit) in candidates.iter_mut() {
                        *logit = distribution.weight_of(*token);
                    }
                    if cut_to_nucleus(candidates, wanted) || count >= logits.len() {
                        break;
                    }
                    count *= 8;
                }
                draw_from(candidates, uniform)
            }
        }
    }

    /// Draws from the top-k candidates, after top-p has cut their tail.
    fn draw_among(&mut self, candidates: &mut Vec<(u32, f32)>, best_logit: f32) -> u32 {
        let (scale, uniform) = (self.scale(), self.uniform());
        for (_, logit) in candidates.iter_mut() {
            *logit = weight(*logit, best_logit, scale);
        }
        if let Some(top_p) = self.params.top_p {
            let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.1)).sum();
            cut_to_nucleus(candidates, f64::from(top_p) * total);
        }
        draw_from(candidates, uniform)
    }

    /// The factor of the logits, 1 / temperature. A token's weight is `e^((logit − best) · scale)`: its probability times a common
    /// factor, such that the best token has weight 1.
    fn scale(&self) -> f32 {
        1.0 / self.params.temperature
    }

    /// A uniform number in [0, 1), of 53 random bits.
    fn uniform(&mut self) -> f64 {
        (self.rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }
}

fn no_logits() -> AiError {
    AiError::new(
        ErrorCode::InvalidData,
        "The model computed no usable logits (all are NaN or infinite). Its weights are probably damaged; get the file again.",
    )
}

/// Truncates candidates (largest first) after the one at which their summed weights reach `wanted`. Returns whether they reach it.
fn cut_to_nucleus(candidates: &mut Vec<(u32, f32)>, wanted: f64) -> bool {
    let mut sum = 0.0;
    let last = candidates.iter().position(|candidate| {
        sum += f64::from(candidate.1);
        sum >= wanted
    });
    if let Some(last) = last {
        candidates.truncate(last + 1);
    }
    last.is_some()
}

/// Draws a candidate with a probability in proportion to its weight; `uniform` is in [0, 1).
fn draw_from(candidates: &[(u32, f32)], uniform: f64) -> u32 {
    let total: f64 = candidates.iter().map(|candidate| f64::from(candidate.1)).sum();
    let mut remaining = uniform * total;
    for (token, weight) in candidates {
        remaining -= f64::from(*weight);
        if remaining < 0.0 {
            return *token;
        }
    }
    // Rounding can leave a small remainder: take the last candidate that has a weight.
    candidates.iter().rev().find(|candidate| candidate.1 > 0.0).map_or(0, |candidate| candidate.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sampler(params: SamplingParams) -> Sampler {
        Sampler::new(SamplingParams { seed: Some(params.seed.unwrap_or(7)), ..params }, &[])
    }

    /// Drawing from the largest logits returns the same tokens as drawing from all.
    #[test]
    fn the_wanted_candidates_give_the_same_tokens_as_all_logits() {
        let logits: Vec<f32> = (0..5000u32).map(|token| (token.wrapping_mul(2_654_435_761) >> 20) as f32 * 0.004).collect();
        let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
        sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
        let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let top_k = |top_k, top_p| SamplingParams { temperature: 0.9, top_k: Some(top_k), top_p, ..SamplingParams::default() };
        for params in [greedy, top_k(1, None), top_k(40, None), top_k(256, Some(0.7))] {
            let (mut whole, mut part) = (sampler(params.clone()), sampler(params.clone()));
            let Wanted::Candidates(count) = part.wanted() else { panic!("{params:?}") };
            for _ in 0..50 {
                let expected = whole.sample(&mut logits.clone(), None).expect("a token");
                assert_eq!(part.sample_candidates(sorted[..count].to_vec()).expect("a token"), expected, "{params:?}");
            }
        }
        assert!(sampler(SamplingParams::default()).sample_candidates(Vec::new()).is_err());
        let whole = [
            SamplingParams { top_k: Some(257), ..SamplingParams::default() },
            SamplingParams { top_p: Some(0.5), ..SamplingParams::default() },
            SamplingParams { temperature: 0.0, presence_penalty: 0.1, ..SamplingParams::default() },
        ];
        assert!(whole.into_iter().all(|params| sampler(params).wanted() == Wanted::Logits));
    }

    fn draws(params: SamplingParams, logits: &[f32], count: usize) -> Vec<u32> {
        let mut sampler = sampler(params);
        (0..count).map(|_| sampler.sample(&mut logits.to_vec(), None).expect("a token")).collect()
    }

    #[test]
    fn temperature_zero_is_greedy() {
        assert_eq!(draws(SamplingParams { temperature: 0.0, ..Default::default() }, &[0.0, 3.0, 3.0, -1.0], 5), [1; 5]);
    }

    #[test]
    fn the_draw_follows_the_softmax() {
        let probabilities = [0.5f32, 0.3, 0.15, 0.05];
        let logits: Vec<f32> = probabilities.iter().map(|p| p.ln()).collect();
        let drawn = draws(SamplingParams { temperature: 1.0, ..Default::default() }, &logits, 20_000);
        for (token, probability) in probabilities.iter().enumerate() {
            let share = drawn.iter().filter(|drawn| **drawn == token as u32).count() as f32 / 20_000.0;
            assert!((share - probability).abs() < 0.015, "token {token}: {share} instead of {probability}");
        }
    }

    #[test]
    fn top_k_and_top_p_cut_the_tail() {
        let logits: Vec<f32> = (0..1000).map(|i| -(i as f32) * 0.01).collect();
        let hot = SamplingParams { temperature: 5.0, ..Default::default() };
        assert!(draws(SamplingParams { top_k: Some(3), ..hot.clone() }, &logits, 500).iter().all(|token| *token < 3));
        // The expected nucleus, computed over the whole distribution (these logits are already sorted).
        let weights: Vec<f32> = logits.iter().map(|logit| (logit / 5.0).exp()).collect();
        let total: f32 = weights.iter().sum();
        let mut sum = 0.0;
        let nucleus = weights.iter().position(|weight| {
            sum += weight;
            sum >= 0.5 * total
        });
        let nucleus = nucleus.expect("half the mass") as u32;
        let drawn = draws(SamplingParams { top_p: Some(0.5), ..hot.clone() }, &logits, 5000);
        assert!(drawn.iter().all(|token| *token <= nucleus));
        assert!(drawn.iter().any(|token| *token > nucleus * 9 / 10), "the whole nucleus is used");
        assert_eq!(draws(SamplingParams { top_p: Some(0.0), ..hot }, &logits, 10), [0; 10]);
    }

    #[test]
    fn the_same_seed_draws_the_same_tokens() {
        let logits: Vec<f32> = (0..100).map(|i| (i as f32 * 0.7).sin()).collect();
        let with_seed = |seed| draws(SamplingParams { temperature: 1.0, seed: Some(seed), ..Default::default() }, &logits, 50);
        assert_eq!(with_seed(1), with_seed(1));
        assert_ne!(with_seed(1), with_seed(2));
    }

    #[test]
    fn penalties_follow_their_definitions() {
        let params = SamplingParams {
            temperature: 0.0,
            repetition_penalty: Some(2.0),
            frequency_penalty: 0.5,
            presence_penalty: 0.25,
            seed: Some(1),
            ..Default::default()
        };
        let mut sampler = Sampler::new(params, &[0, 2]);
        let mut logits = [4.0, 3.0, -1.0];
        assert_eq!(sampler.sample(&mut logits, None).expect("a token"), 1);
        assert_eq!(logits, [2.0, 3.0, -2.0], "prompt tokens: multiplicative only");
        let mut logits = [4.0, 3.0, -1.0];
        sampler.sample(&mut logits, None).expect("a token");
        assert_eq!(logits, [2.0, 3.0 / 2.0 - 0.5 - 0.25, -2.0]);
    }

    #[test]
    fn unusable_logits_are_an_error() {
        assert!(sampler(SamplingParams::default()).sample(&mut [f32::NAN, f32::NAN], None).is_err());
        assert_eq!(
            sampler(SamplingParams { temperature: 0.0, ..Default::default() }).sample(&mut [f32::NAN, 1.0], None).expect("a token"),
            1
        );
    }
}
