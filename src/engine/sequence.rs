//! One sequence: a prompt and the answer that grows behind it.

use crate::backend::{Answer, CacheId, Wanted};
use crate::error::{AiError, Result};
use crate::grammar::Constraint;
use crate::host::now_ms;
use crate::sampling::{Sampler, SamplingParams};
use std::collections::{HashSet, VecDeque};
use std::rc::Rc;

/// Names a sequence of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SequenceId(pub(super) u64);

/// How an answer is generated.
#[derive(Clone)]
pub struct GenerationParams {
    /// Most tokens of the answer.
    pub max_tokens: usize,
    pub sampling: SamplingParams,
    /// Tokens that end the answer and are no part of it.
    pub end_tokens: Rc<HashSet<u32>>,
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FinishReason {
    /// The model ended its turn, or a stop string came.
    Stop,
    /// `max_tokens` were generated.
    Length,
    /// The answer is calls of tools. (Told by whoever reads the answer; to the engine it is a stop.)
    ToolCalls,
}

impl FinishReason {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::ToolCalls => "tool_calls",
        }
    }
}

/// What happens to a sequence. `Finished` and `Failed` are the last.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    Token(u32),
    Finished(FinishReason),
    Failed(AiError),
}

/// The state of one sequence in the engine.
pub struct Sequence {
    /// Prompt and answer so far.
    pub tokens: Vec<u32>,
    /// How many of them the cache holds.
    pub computed: usize,
    pub cache: Option<CacheId>,
    pub cached_tokens: usize,
    prompt_length: usize,
    params: GenerationParams,
    sampler: Sampler,
    /// What the answer may be, where it is not free.
    constraint: Option<Constraint>,
    events: VecDeque<Event>,
    waited_for: bool,
    /// When an event was asked for last, in the host's milliseconds.
    asked_at: f64,
    ended: bool,
}

impl Sequence {
    pub fn new(prompt: Vec<u32>, params: GenerationParams, constraint: Option<Constraint>) -> Self {
        let sampler = Sampler::new(params.sampling.clone(), &prompt);
        let mut sequence = Self {
            prompt_length: prompt.len(),
            tokens: prompt,
            computed: 0,
            cache: None,
            cached_tokens: 0,
            params,
            sampler,
            constraint,
            events: VecDeque::new(),
            waited_for: false,
            asked_at: now_ms(),
            ended: false,
        };
        if sequence.params.max_tokens == 0 {
            sequence.end(Event::Finished(FinishReason::Length));
        }
        sequence
    }

    /// Hands out an event, or notes that one is waited for.
    pub fn take_event(&mut self) -> Option<Event> {
        let event = self.events.pop_front();
        self.waited_for = event.is_none();
        self.asked_at = now_ms();
        event
    }

    pub fn is_waited_for(&self) -> bool {
        self.waited_for && !self.ended && self.events.is_empty()
    }

    /// When the sequence was asked for something last, unless it is waited for right now.
    pub fn idle_since(&self) -> Option<f64> {
        (!self.is_waited_for()).then_some(self.asked_at)
    }

    /// The sequence got a cache that holds its first `computed` tokens.
    pub fn start(&mut self, cache: CacheId, computed: usize) {
        self.cache = Some(cache);
        self.computed = computed;
        // Later starts (after the cache was given to another sequence) are no gain for the request.
        if self.tokens.len() == self.prompt_length {
            self.cached_tokens = computed;
        }
    }

    /// Tokens that the cache does not hold yet.
    pub fn missing(&self) -> usize {
        self.tokens.len() - self.computed
    }

    /// The next tokens to compute, at most `limit`.
    pub fn next_tokens(&self, limit: usize) -> Vec<u32> {
        self.tokens[self.computed..].iter().take(limit).copied().collect()
    }

    /// From the next token on, the answer follows a grammar.
    pub fn constrain(&mut self, constraint: Constraint) {
        self.constraint = Some(constraint);
    }

    /// What the next token is drawn from.
    pub fn wanted(&self) -> Wanted {
        if self.constraint.is_some() { Wanted::Logits } else { self.sampler.wanted() }
    }

    /// Draws the next token from what is known behind the last one.
    pub fn accept(&mut self, answer: Answer) {
        match self.next_token(answer) {
            Err(error) => self.fail(error),
            Ok((None, _)) => self.end(Event::Finished(FinishReason::Stop)),
            Ok((Some(token), complete)) => {
                self.tokens.push(token);
                self.events.push_back(Event::Token(token));
                if complete {
                    self.end(Event::Finished(FinishReason::Stop));
                } else if self.tokens.len() - self.prompt_length >= self.params.max_tokens {
                    // What ends well with its last token was not cut off.
                    let whole = self.constraint.as_mut().is_some_and(Constraint::is_complete);
                    self.end(Event::Finished(if whole { FinishReason::Stop } else { FinishReason::Length }));
                }
            }
        }
    }

    /// A token, `None` for the end; and whether nothing can follow it.
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
        let token = match constraint.forced(remaining) {
            Some(token) => token,
            None => self.sampler.sample(&mut logits, Some(constraint))?,
        };
        if self.params.end_tokens.contains(&token) {
            return Ok((None, true));
        }
        constraint.accept(token)?;
        Ok((Some(token), constraint.must_end()))
    }

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
