//! The engine: many sequences over one backend, advanced a step at a time, fairly.
//!
//! A sequence is advanced only while somebody waits for its next token. Whoever waits calls [`Engine::step`], which
//! advances every sequence that is waited for; so no request depends on another one staying alive, and waiting
//! requests share each pass through the weights.

mod cache_pool;
mod sequence;

pub use sequence::{Event, FinishReason, GenerationParams, SequenceId};

use crate::backend::{Backend, Gpu, Wanted, Work};
use crate::error::{AiError, ErrorCode, Result};
use crate::grammar::Constraint;
use crate::host::now_ms;
use cache_pool::CachePool;
use sequence::Sequence;
use std::collections::BTreeMap;

/// What an engine takes on.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// KV caches that exist at once: sequences in progress, and finished ones kept for their prefix.
    pub caches: usize,
    /// Sequences that are not finished; one more is answered with 3040.
    pub sequences: usize,
    /// A sequence that nobody asked for anything for so long may lose its cache to one that is waited for. (A reader that
    /// is merely busy with the last piece must not: it would cost the whole prompt again.)
    pub idle_after_ms: f64,
    /// A sequence that nobody asked for anything for so long gives its place to a new one, when there is no other.
    pub abandoned_after_ms: f64,
    /// Rows (tokens) of one step. Small steps let cancellation and other sequences in.
    pub rows_per_step: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { caches: 4, sequences: 64, idle_after_ms: 1_000.0, abandoned_after_ms: 60_000.0, rows_per_step: 32 }
    }
}

/// Many sequences over one backend.
pub struct Engine {
    backend: Box<dyn Backend>,
    limits: Limits,
    sequences: BTreeMap<SequenceId, Sequence>,
    caches: CachePool,
    next_id: u64,
    /// The sequence after which the next step starts, so that all get their turn.
    last_served: SequenceId,
    /// Counts steps; tells which cache was used longest ago.
    clock: u64,
    computed_tokens: u64,
    /// Why the backend is lost, until another one takes its place.
    lost: Option<AiError>,
    /// Sequences that the GPU has no memory for, where another backend may have it.
    without_room: Vec<(SequenceId, AiError)>,
}

impl Engine {
    pub fn new(backend: Box<dyn Backend>, limits: Limits) -> Self {
        Self {
            backend,
            caches: CachePool::new(limits.caches.max(1)),
            limits,
            sequences: BTreeMap::new(),
            next_id: 0,
            last_served: SequenceId(0),
            clock: 0,
            computed_tokens: 0,
            lost: None,
            without_room: Vec::new(),
        }
    }

    /// Takes on a sequence. 3040 when there are too many. The prompt has at least one token.
    pub fn submit(&mut self, prompt: Vec<u32>, params: GenerationParams, constraint: Option<Constraint>) -> Result<SequenceId> {
        if self.sequences.len() >= self.limits.sequences && !self.drop_abandoned() {
            return Err(AiError::new(
                ErrorCode::OutOfCapacity,
                format!("Out of capacity: {} requests are already waiting. Try again later.", self.sequences.len()),
            ));
        }
        if prompt.is_empty() {
            return Err(AiError::invalid_input("The prompt has no tokens. Send a text that is not empty."));
        }
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        self.sequences.insert(id, Sequence::new(prompt, params, constraint));
        Ok(id)
    }

    /// Drops the sequence that nobody has asked for anything longest, if that is long ago: a reader that left without a
    /// word must not take a place for ever.
    fn drop_abandoned(&mut self) -> bool {
        let abandoned = self.longest_idle(self.limits.abandoned_after_ms, |_| true);
        if let Some(id) = abandoned {
            self.remove(id);
        }
        abandoned.is_some()
    }

    /// Of the sequences that `counts` holds for, the one that nobody has asked for anything longest, at least for so long.
    fn longest_idle(&self, at_least_ms: f64, counts: impl Fn(&Sequence) -> bool) -> Option<SequenceId> {
        let idle =
            self.sequences.iter().filter(|(_, sequence)| counts(sequence)).filter_map(|(id, sequence)| Some((*id, sequence.idle_since()?)));
        let longest = idle.min_by(|a, b| a.1.total_cmp(&b.1));
        longest.filter(|(_, since)| now_ms() - since >= at_least_ms).map(|(id, _)| id)
    }

    /// The next event of a sequence, if it has come. Otherwise the sequence counts as waited for from now on, and steps
    /// advance it until its event is there. After the last event the sequence is gone.
    pub fn poll(&mut self, id: SequenceId) -> Option<Event> {
        let Some(sequence) = self.sequences.get_mut(&id) else {
            return Some(Event::Failed(AiError::new(ErrorCode::Aborted, "The request was aborted.")));
        };
        let event = sequence.take_event();
        if let Some(Event::Finished(_) | Event::Failed(_)) = event {
            self.remove(id);
        }
        event
    }

    /// From its next token on, a sequence's answer follows a grammar.
    pub fn constrain(&mut self, id: SequenceId, constraint: Constraint) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.constrain(constraint);
        }
    }

    /// Forgets a sequence; what it computed stays as a prefix for the next request. Unknown ids are ignored.
    pub fn cancel(&mut self, id: SequenceId) {
        self.remove(id);
    }

    /// Prompt tokens that did not have to be computed, known once the sequence has started.
    pub fn cached_tokens(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, |sequence| sequence.cached_tokens)
    }

    /// Sequences that are not finished.
    pub fn active(&self) -> usize {
        self.sequences.len()
    }

    /// Tokens that went through the model so far, of prompts and of answers.
    pub fn computed_tokens(&self) -> u64 {
        self.computed_tokens
    }

    /// The GPU that computes, and what it did.
    pub fn gpu(&self) -> Option<Gpu> {
        self.backend.gpu()
    }

    /// Why nothing can be computed until [`Engine::replace_backend`].
    pub fn lost(&self) -> Option<&AiError> {
        self.lost.as_ref()
    }

    /// Why a sequence cannot go on until [`Engine::replace_backend`] or [`Engine::fail_without_room`]: the GPU's memory is full.
    pub fn out_of_room(&self) -> Option<&AiError> {
        self.without_room.first().map(|(_, error)| error)
    }

    /// Ends the sequences that the GPU has no memory for, because there is no other backend for them. `further` is added to their
    /// errors.
    pub fn fail_without_room(&mut self, further: &str) {
        for (id, AiError { code, text }) in std::mem::take(&mut self.without_room) {
            self.fail(id, AiError { code, text: format!("{text}{further}") });
        }
    }

    /// Goes on with another backend of the same model. Sequences compute their tokens anew there, and none is lost or
    /// repeated.
    pub fn replace_backend(&mut self, backend: Box<dyn Backend>) {
        self.forget_caches();
        self.backend = backend;
        self.lost = None;
        self.without_room.clear();
    }

    /// Ends every sequence with this error, because there is no backend for them.
    pub fn fail_all(&mut self, error: &AiError) {
        for sequence in self.sequences.values_mut() {
            sequence.fail(error.clone());
        }
    }

    /// The backend is gone, with everything that it held.
    fn lose(&mut self, error: AiError) {
        self.forget_caches();
        self.lost = Some(error);
    }

    fn forget_caches(&mut self) {
        self.caches = CachePool::new(self.limits.caches.max(1));
        for sequence in self.sequences.values_mut() {
            sequence.cache = None;
            sequence.computed = 0;
        }
    }

    /// A sequence cannot go on; where that is the GPU's memory, another backend may have room for it.
    fn refuse(&mut self, id: SequenceId, error: AiError) {
        if error.code == ErrorCode::OutOfCapacity && self.backend.gpu().is_some() {
            self.release_cache(id);
            self.without_room.push((id, error));
        } else {
            self.fail(id, error);
        }
    }

    /// Advances the sequences that are waited for: each that writes its answer by one token, prompts by a chunk.
    pub async fn step(&mut self) {
        if self.lost.is_some() {
            return;
        }
        self.clock += 1;
        let waiting = self.take_turns();
        if waiting.is_empty() {
            return;
        }
        let prefilling = waiting.iter().filter(|id| self.sequences[id].missing() > 1).count();
        let writing = waiting.len() - prefilling;
        let chunk = (self.limits.rows_per_step.saturating_sub(writing) / prefilling.max(1)).max(1);
        // Tokens are copied out, so that sequences are free while the backend works.
        let mut planned: Vec<(SequenceId, Vec<u32>, Wanted)> = Vec::new();
        for id in waiting {
            match self.prepare(id, chunk).await {
                Ok(Some((tokens, wanted))) => planned.push((id, tokens, wanted)),
                Ok(None) => {}
                Err(error) if self.backend.is_lost() => return self.lose(error),
                Err(error) => self.refuse(id, error),
            }
        }
        if planned.is_empty() {
            return;
        }
        self.last_served = planned.last().map_or(self.last_served, |(id, ..)| *id);
        let batch: Vec<Work<'_>> = planned
            .iter()
            .filter_map(|(id, tokens, wanted)| {
                let cache = self.sequences.get(id)?.cache?;
                Some(Work { cache, tokens, wanted: *wanted })
            })
            .collect();
        let outcome = self.backend.forward(&batch).await;
        drop(batch);
        match outcome {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for (id, tokens, wanted) in planned {
                    let Some(sequence) = self.sequences.get_mut(&id) else { continue };
                    if let Some(cache) = sequence.cache {
                        self.caches.extend(cache, &tokens, self.clock);
                    }
                    sequence.computed += tokens.len();
                    self.computed_tokens += tokens.len() as u64;
                    if wanted != Wanted::Nothing
                        && let Some(answer) = answers.next()
                    {
                        sequence.accept(answer);
                    }
                }
            }
            Err(error) if self.backend.is_lost() => self.lose(error),
            Err(error) => {
                for (id, ..) in planned {
                    self.refuse(id, error.clone());
                }
            }
        }
    }

    /// The sequences that are waited for, starting behind the one served last, at most as many as there are caches. Those
    /// that have a cache come first: a sequence that began goes on before another begins.
    fn take_turns(&self) -> Vec<SequenceId> {
        let waits = |(id, sequence): (&SequenceId, &Sequence)| sequence.is_waited_for().then_some(*id);
        let after = self.sequences.range((std::ops::Bound::Excluded(self.last_served), std::ops::Bound::Unbounded));
        let before = self.sequences.range(..=self.last_served);
        let waiting = after.chain(before).filter_map(waits);
        let (begun, mut turns): (Vec<_>, Vec<_>) = waiting.partition(|id| self.sequences[id].cache.is_some());
        turns.splice(0..0, begun);
        turns.truncate(self.limits.caches.max(1));
        turns
    }

    /// Gives a sequence its cache and room in it, and says which tokens come next and what is wanted behind them.
    /// `None`: no cache is free yet.
    async fn prepare(&mut self, id: SequenceId, chunk: usize) -> Result<Option<(Vec<u32>, Wanted)>> {
        let Some(sequence) = self.sequences.get(&id) else { return Ok(None) };
        if sequence.cache.is_none() && !self.acquire_cache(id).await? {
            return Ok(None);
        }
        let Some(sequence) = self.sequences.get(&id) else { return Ok(None) };
        let Some(cache) = sequence.cache else { return Ok(None) };
        let tokens = sequence.next_tokens(chunk);
        let is_last = sequence.computed + tokens.len() == sequence.tokens.len();
        let wanted = if is_last { sequence.wanted() } else { Wanted::Nothing };
        if let Err(error) = self.backend.reserve(cache, tokens.len()).await {
            // Prefixes that nobody uses now make room for work.
            if !self.caches.clear_free(self.backend.as_mut()) {
                return Err(error);
            }
            self.backend.reserve(cache, tokens.len()).await?;
        }
        Ok(Some((tokens, wanted)))
    }

    /// Finds a cache for a sequence; where all are taken, from a sequence that nobody has waited for in a while.
    async fn acquire_cache(&mut self, id: SequenceId) -> Result<bool> {
        if self.caches.is_full()
            && let Some(idle) = self.longest_idle(self.limits.idle_after_ms, |sequence| sequence.cache.is_some())
        {
            self.release_cache(idle);
        }
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(false) };
        let Some((cache, computed)) = self.caches.acquire(self.backend.as_mut(), &sequence.tokens, self.clock).await? else {
            return Ok(false);
        };
        sequence.start(cache, computed);
        Ok(true)
    }

    /// Takes a sequence's cache away; the sequence computes anew what is then missing, should it go on.
    fn release_cache(&mut self, id: SequenceId) {
        if let Some(sequence) = self.sequences.get_mut(&id)
            && let Some(cache) = sequence.cache.take()
        {
            sequence.computed = 0;
            self.caches.release(cache);
        }
    }

    fn remove(&mut self, id: SequenceId) {
        self.release_cache(id);
        self.sequences.remove(&id);
    }

    fn fail(&mut self, id: SequenceId, error: AiError) {
        self.release_cache(id);
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.fail(error);
        }
    }
}
