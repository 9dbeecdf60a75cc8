//! Drafts: the tokens that probably come next, which a step computes and verifies together.
//!
//! A draft is what followed the latest occurrence of the same n tokens in the prompt or the answer (prompt lookup decoding). Verified with the
//! sequence's own sampler, a draft changes no token of the answer, only how many steps it takes.

use std::collections::HashMap;

/// So many tokens must have occurred before in the same order. Fewer recur by chance too often: a wrong draft costs several steps.
const NGRAM: usize = 6;
/// The shortest and the longest draft. With the token before it, the longest fills the rows that the kernels multiply at a time.
const SHORTEST: usize = 7;
const LONGEST: usize = 31;
/// Share of a draft that must be right so that it was worth its rows.
const WORTHWHILE: f64 = 0.75;
/// The most tokens without a draft after drafts that were wrong.
const LONGEST_PAUSE: usize = 256;

/// So many tokens of the answer must end like a part of its prediction: its caller says that it recurs.
const PREDICTED: usize = 2;

/// Drafts of one sequence.
#[derive(Default)]
pub struct Drafter {
    /// What the answer probably contains.
    prediction: Vec<u32>,
    /// Its n-grams of [`PREDICTED`] tokens → the positions after them, in order.
    predicted: HashMap<[u32; PREDICTED], Vec<usize>>,
    /// Where the answer was last found in the prediction. Of several places, the next one after it is meant.
    at: usize,
    /// N-gram → the position after its latest occurrence, for all but the n-gram at the end.
    positions: HashMap<[u32; NGRAM], usize>,
    /// Number of tokens whose n-grams are in `positions`.
    indexed: usize,
    /// Length of the next draft.
    length: usize,
    /// Tokens to pass before the next draft, and how many the next pause has.
    pause: usize,
    next_pause: usize,
}

impl Drafter {
    /// Drafts for an answer that probably contains the tokens of `prediction`, in their order; empty if nothing is known about it.
    pub fn new(prediction: &[u32]) -> Self {
        let mut predicted: HashMap<_, Vec<usize>> = HashMap::new();
        for (start, ngram) in prediction.windows(PREDICTED).enumerate() {
            if let Ok(ngram) = ngram.try_into() {
                predicted.entry(ngram).or_default().push(start + PREDICTED);
            }
        }
        Self { prediction: prediction.to_vec(), predicted, ..Self::default() }
    }

    /// What the prediction says about the tokens after an answer.
    fn predict(&mut self, answer: &[u32]) -> Option<&[u32]> {
        if answer.is_empty() {
            return self.prediction.get(..);
        }
        let ngram: [u32; PREDICTED] = answer.get(answer.len().checked_sub(PREDICTED)?..)?.try_into().ok()?;
        let places = self.predicted.get(&ngram)?;
        let next = places.partition_point(|place| *place <= self.at);
        self.at = *places.get(next).or(places.last())?;
        self.prediction.get(self.at..)
    }

    /// A draft of up to `limit` tokens that continues `tokens`, of which the answer starts at `prompt`; empty if nothing is known to follow.
    pub fn draft(&mut self, tokens: &[u32], prompt: usize, limit: usize) -> Vec<u32> {
        for end in (self.indexed + 1).max(NGRAM)..tokens.len() {
            if let Some(ngram) = ngram_before(tokens, end) {
                self.positions.insert(ngram, end);
            }
        }
        self.indexed = self.indexed.max(tokens.len().saturating_sub(1));
        if self.pause > 0 {
            self.pause -= 1;
            return Vec::new();
        }
        let length = self.length.clamp(SHORTEST, LONGEST).min(limit);
        let predicted = self.predict(tokens.get(prompt..).unwrap_or_default());
        if let Some(draft) = predicted.filter(|draft| !draft.is_empty()) {
            return draft.iter().copied().take(length).collect();
        }
        let Some(at) = ngram_before(tokens, tokens.len()).and_then(|ngram| self.positions.get(&ngram)) else { return Vec::new() };
        tokens[*at..].iter().copied().take(length).collect()
    }

    /// Records that the first `right` tokens of a draft of `drafted` were right.
    pub fn record(&mut self, drafted: usize, right: usize) {
        if right == drafted {
            self.length = (self.length.max(SHORTEST) * 2 + 1).min(LONGEST);
            self.next_pause = 0;
            return;
        }
        self.length = SHORTEST;
        if (right as f64) < WORTHWHILE * drafted as f64 {
            self.next_pause = (self.next_pause * 2).clamp(2, LONGEST_PAUSE);
            self.pause = self.next_pause;
        }
    }
}

/// The n-gram before position `end`.
fn ngram_before(tokens: &[u32], end: usize) -> Option<[u32; NGRAM]> {
    tokens.get(end.checked_sub(NGRAM)?..end)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draft_is_what_followed_the_latest_occurrence() {
        let mut tokens: Vec<u32> = (0..20).collect();
        let mut drafter = Drafter::default();
        assert!(drafter.draft(&tokens, 0, 9).is_empty(), "nothing occurred twice");
        tokens.extend(3..9);
        assert_eq!(drafter.draft(&tokens, 0, 9), [9, 10, 11, 12, 13, 14, 15]);
        assert_eq!(drafter.draft(&tokens, 0, 2), [9, 10]);
        // The occurrence at the end is no evidence of what follows it, a later one replaces an earlier one.
        tokens.extend([77, 78, 3, 4, 5, 6, 7, 8]);
        assert_eq!(drafter.draft(&tokens, 0, 9), [77, 78, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn a_prediction_is_followed_from_its_start_and_where_the_answer_returns_to_it() {
        let prediction: Vec<u32> = (50..70).chain(50..60).collect();
        let mut drafter = Drafter::new(&prediction);
        let prompt = vec![1, 2, 3];
        assert_eq!(drafter.draft(&prompt, 3, 9), [50, 51, 52, 53, 54, 55, 56]);
        let after = |answer: &[u32]| [prompt.clone(), answer.to_vec()].concat();
        assert_eq!(drafter.draft(&after(&[50, 51]), 3, 2), [52, 53]);
        assert!(drafter.draft(&after(&[50, 51, 7]), 3, 9).is_empty());
        assert_eq!(drafter.draft(&after(&[50, 51, 7, 68, 69]), 3, 3), [50, 51, 52], "goes on after it");
        assert_eq!(drafter.draft(&after(&[7, 50, 51]), 3, 2), [52, 53], "the second of the two places");
        assert_eq!(drafter.at, 22);
    }

    #[test]
    fn drafts_grow_while_they_are_right_and_pause_while_they_are_wrong() {
        let tokens: Vec<u32> = (0..100).chain(0..10).collect();
        let mut drafter = Drafter::default();
        let mut lengths = Vec::new();
        for right in [7, 15, 31, 0] {
            let drafted = drafter.draft(&tokens, 0, 99).len();
            lengths.push(drafted);
            drafter.record(drafted, right);
        }
        assert_eq!(lengths, [7, 15, 31, 31]);
        let pauses: Vec<usize> = (0..3)
            .map(|_| {
                let pause = (0..).take_while(|_| drafter.draft(&tokens, 0, 99).is_empty()).count();
                drafter.record(7, 1);
                pause
            })
            .collect();
        assert_eq!(pauses, [2, 4, 8]);
    }
}
