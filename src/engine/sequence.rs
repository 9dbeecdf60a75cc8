//! One sequence: a prompt, followed by the answer as it grows.

use super::blame::work_for;
use super::draft::Drafter;
use crate::backend::{Answer, CacheId, ROWS, Wanted};
use crate::error::{AiError, Result};
use crate::grammar::Constraint;
use crate::lora::Adapter;
use crate::panics::caught;
use crate::sampling::{Logprobs, Normalised, Sampler, SamplingParams};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// Identifies a sequence of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(super) u64);

/// How an answer is generated.
#[derive(Clone, Default)]
pub struct GenerationParams {
    /// Maximum tokens of the answer.
    pub max_tokens: usize,
    pub sampling: SamplingParams,
    /// Report log probabilities: of each token, and of this number of the likeliest tokens at the same position.
    pub logprobs: Option<usize>,
    /// Tokens that the answer probably contains, in this order: predicted outputs.
    pub prediction: Vec<u32>,
    /// Tokens that end the answer and are not part of it.
    pub end_tokens: Rc<HashSet<u32>>,
    /// Whether tokens may be computed ahead of those that the caller has taken. Not if the caller may [constrain](super::Engine::constrain) the
    /// answer by what it has taken.
    pub ahead: bool,
    /// The adapter to compute with.
    pub adapter: Option<Rc<Adapter>>,
    /// The request's ticket, see [`super::blame`].
    pub ticket: u32,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FinishReason {
    /// The model ended its turn, or the answer reached a stop string.
    #[default]
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The answer consists of tool calls. (Set by the code that reads the answer's text; the engine itself reports `Stop`.)
    ToolCalls,
}

impl FinishReason {
    /// The reason as OpenAI's API names it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// An event of a sequence. `Finished` and `Failed` are always the last one.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// The log probabilities of the token that comes next, if they are wanted.
    Logprobs(Logprobs),
    Token(u32),
    Finished(FinishReason),
    Failed(AiError),
}

/// The state of one sequence in the engine.
pub struct Sequence {
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// Number of these tokens that the cache holds.
    pub computed: usize,
    pub cache: Option<CacheId>,
    /// Prompt tokens that the cache already held when the sequence started.
    pub cached_tokens: usize,
    has_started: bool,
    prompt_length: usize,
    params: GenerationParams,
    sampler: Sampler,
    drafter: Drafter,
    /// The grammar of the answer, if it has one.
    constraint: Option<Constraint>,
    events: VecDeque<Event>,
    waited_for: bool,
    /// When its caller last polled it.
    polled: Moment,
    ended: bool,
    /// The number of tokens that were to be computed in a step that panicked, until they have been computed.
    suspect_up_to: usize,
}

/// A time, as the engine measures how long callers are idle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// In milliseconds of [`crate::host::now_ms`].
    pub ms: f64,
    /// Milliseconds that the engine's steps have taken in all. Callers had no chance to poll meanwhile.
    pub busy_ms: f64,
    /// Number of steps so far.
    pub step: u64,
}

impl Sequence {
    pub fn new(prompt: Vec<u32>, params: GenerationParams, constraint: Option<Constraint>, now: Moment) -> Self {
        let sampler = Sampler::new(params.sampling.clone(), &prompt);
        let drafter = Drafter::new(&params.prediction);
        let mut sequence = Self {
            prompt_length: prompt.len(),
            tokens: prompt,
            computed: 0,
            cache: None,
            cached_tokens: 0,
            has_started: false,
            params,
            sampler,
            drafter,
            constraint,
            events: VecDeque::new(),
            waited_for: false,
            polled: now,
            ended: false,
            suspect_up_to: 0,
        };
        if sequence.params.max_tokens == 0 {
            sequence.end(Event::Finished(FinishReason::Length));
        }
        sequence
    }

    /// Returns an event, or records that the caller waits for one.
    pub fn take_event(&mut self, now: Moment) -> Option<Event> {
        let event = self.events.pop_front();
        self.waited_for = event.is_none();
        self.polled = now;
        event
    }

    /// Whether a caller waits for an event that is not there yet.
    pub fn is_waited_for(&self) -> bool {
        self.waited_for && !self.ended && self.events.is_empty()
    }

    /// When its caller last polled it; `None` while the sequence is waited for.
    pub fn idle_since(&self) -> Option<Moment> {
        (!self.is_waited_for()).then_some(self.polled)
    }

    /// The adapter with which it is computed.
    pub fn adapter(&self) -> Option<&Rc<Adapter>> {
        self.params.adapter.as_ref()
    }

    /// The most positions that its cache will hold.
    pub fn most_positions(&self) -> usize {
        self.prompt_length.saturating_add(self.params.max_tokens)
    }

    /// Assigns a cache that holds the first `computed` tokens.
    pub fn start(&mut self, cache: CacheId, computed: usize) {
        self.cache = Some(cache);
        self.computed = computed;
        // Later starts only replace a cache that another sequence took, which saves the request nothing.
        if !std::mem::replace(&mut self.has_started, true) {
            self.cached_tokens = computed;
        }
    }

    /// Tokens that the cache does not hold yet.
    pub fn missing(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// The next tokens to compute, at most `limit`. More than [`ROWS`] only in multiples of it: so the rest of a prompt is computed in a
    /// step of its own, whatever the limit. A GPU rounds differently for few rows, and the same prompt must have the same logits on a
    /// device that computes larger steps.
    pub fn next_tokens(&self, limit: usize) -> Vec<u32> {
        let rest = &self.tokens[self.computed..];
        let count = rest.len().min(limit);
        let count = if count > ROWS { count / ROWS * ROWS } else { count };
        rest[..count].to_vec()
    }

    /// Tokens that probably follow the last one, at most `limit`: to be computed in the same step, and verified by [`Sequence::accept`].
    pub fn draft(&mut self, limit: usize) -> Vec<u32> {
        // The last token of the answer is not computed.
        let left = self.params.max_tokens.saturating_sub(self.tokens.len() - self.prompt_length + 1);
        if !self.params.ahead || self.is_suspect() {
            return Vec::new();
        }
        self.drafter.draft(&self.tokens, self.prompt_length, limit.min(left))
    }

    /// Records that the first `right` tokens of a draft of `drafted` were right.
    pub fn record_draft(&mut self, drafted: usize, right: usize) {
        self.drafter.record(drafted, right);
    }

    /// Records that a step that computed this sequence panicked.
    pub fn suspect(&mut self) {
        self.suspect_up_to = self.tokens.len();
    }

    /// Records that the cache holds `count` further tokens.
    pub fn add_computed(&mut self, count: usize) {
        self.computed += count;
        if self.computed >= self.suspect_up_to {
            self.suspect_up_to = 0;
        }
    }

    /// Whether this sequence may have caused a panic.
    pub fn is_suspect(&self) -> bool {
        self.suspect_up_to > 0
    }

    /// Makes the answer follow a grammar from the next token on.
    pub fn constrain(&mut self, constraint: Constraint) {
        self.constraint = Some(constraint);
    }

    /// The output that is needed to draw the next token.
    pub fn wanted(&self) -> Wanted {
        if self.constraint.is_some() || self.params.logprobs.is_some() { Wanted::Logits } else { self.sampler.wanted() }
    }

    /// Draws the next token from the backend's output after the last one. Returns it unless the sequence has ended.
    pub fn accept(&mut self, answer: Answer) -> Option<u32> {
        work_for(self.params.ticket);
        let normalised = match &answer {
            Answer::Logits(logits) if self.params.logprobs.is_some() => Normalised::new(logits),
            _ => None,
        };
        // A sequence that panics here has ended, so nobody uses what it left half done.
        let next = caught(|| self.next_token(answer)).flatten();
        let logprobs = match (&next, normalised, self.params.logprobs) {
            (Ok((Some(token), _)), Some(normalised), Some(count)) => Some(normalised.of(*token, count)),
            _ => None,
        };
        work_for(0);
        match next {
            Err(error) => self.fail(error),
            Ok((None, _)) => self.end(Event::Finished(FinishReason::Stop)),
            Ok((Some(token), complete)) => {
                self.tokens.push(token);
                self.events.extend(logprobs.map(Event::Logprobs));
                self.events.push_back(Event::Token(token));
                if complete {
                    self.end(Event::Finished(FinishReason::Stop));
                } else if self.tokens.len() - self.prompt_length >= self.params.max_tokens {
                    // An answer whose last token completes its grammar was not cut off.
                    let complete = self.constraint.as_mut().is_some_and(Constraint::is_complete);
                    self.end(Event::Finished(if complete { FinishReason::Stop } else { FinishReason::Length }));
                }
            }
        }
        self.tokens.last().copied().filter(|_| !self.ended)
    }

    /// The next token (`None` at the end of the answer), and whether nothing can follow it.
    fn next_token(&mut self, answer: Answer) -> Result<(Option<u32>, bool)> {
        let mut logits = match answer {
            Answer::Logits(logits) => logits,
            Answer::Candidates(candidates) => {
                let token = self.sampler.sample_candidates(candidates)?;
                return Ok(((!self.params.end_tokens.contains(&token)).then_some(token), false));
            }
        };
        let Some(constraint) = &mut self.constraint else {
            let token = self.sampler.sample(&mut logits, None)?;
            return Ok(((!self.params.end_tokens.contains(&token)).then_some(token), false));
        };
        let remaining = self.params.max_tokens.saturating_sub(self.tokens.len() - self.prompt_length);
        let token = match constraint.closing_token(remaining) {
            Some(token) => token,
            None => {
                let token = self.sampler.sample(&mut logits, Some(constraint))?;
                constraint.instead_of(token, remaining).unwrap_or(token)
            }
        };
        if self.params.end_tokens.contains(&token) {
            return Ok((None, true));
        }
        constraint.accept(token)?;
        Ok((Some(token), constraint.must_end()))
    }

    /// Ends the sequence with an error, unless it has already ended.
    pub fn fail(&mut self, error: AiError) {
        self.end(Event::Failed(error));
    }

    fn end(&mut self, event: Event) {
        if !self.ended {
            self.ended = true;
            self.events.push_back(event);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rest_of_a_prompt_is_the_same_whatever_the_rows_of_a_step() {
        for limit in [32, 64, 96, 128, 256] {
            let params = GenerationParams { max_tokens: 1, ahead: true, ..GenerationParams::default() };
            let mut sequence = Sequence::new(vec![1; 250], params, None, Moment { ms: 0.0, busy_ms: 0.0, step: 0 });
            let mut steps = Vec::new();
            while sequence.missing() > 0 {
                let count = sequence.next_tokens(limit).len();
                steps.push(count);
                sequence.computed += count;
            }
            assert!(steps.iter().all(|count| *count <= limit), "{steps:?}");
            assert_eq!(steps.last(), Some(&26), "{steps:?}");
        }
    }
}
