//! The engine: schedules many sequences on one backend, step by step and fairly.
//!
//! A sequence advances only while a caller waits for its next token. Each waiting caller calls [`Engine::step`], which
//! advances every sequence that has a waiting caller. So no request depends on another one staying alive, and waiting
//! requests share each pass over the weights.

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

/// Limits of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Maximum number of KV caches: those of sequences in progress, and those of finished ones that are kept for their prefix.
    pub caches: usize,
    /// Maximum number of unfinished sequences; one more is refused with 3040.
    pub sequences: usize,
    /// Milliseconds without a poll after which a sequence may lose its KV cache to one whose caller waits. (Long enough that a reader
    /// that is still busy with the last piece keeps its cache: without it the whole prompt would be computed again.)
    pub idle_after_ms: f64,
    /// Milliseconds without a poll after which a sequence may be dropped for a new one, if there are `sequences` already.
    pub abandoned_after_ms: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { caches: 4, sequences: 64, idle_after_ms: 1_000.0, abandoned_after_ms: 60_000.0 }
    }
}

/// Schedules many sequences on one backend.
pub struct Engine {
    backend: Box<dyn Backend>,
    limits: Limits,
    sequences: BTreeMap<SequenceId, Sequence>,
    caches: CachePool,
    next_id: u64,
    /// The sequence after which the next step starts (round robin).
    last_served: SequenceId,
    /// Counts steps; used to find the least recently used cache.
    clock: u64,
    computed_tokens: u64,
    /// Why the backend is lost, until another one replaces it.
    lost: Option<AiError>,
    /// Sequences for which the GPU has no memory; another backend may have enough.
    out_of_gpu_memory: Vec<(SequenceId, AiError)>,
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
            out_of_gpu_memory: Vec::new(),
        }
    }

    /// Adds a sequence. It does not start before it is polled.
    ///
    /// # Errors
    ///
    /// 3040 when there are too many sequences, 5006 when the prompt has no tokens.
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

    /// Drops the sequence with the longest time since its last poll, if that exceeds the limit: a caller that left without cancelling
    /// must not hold a place for ever. Returns whether one was dropped.
    fn drop_abandoned(&mut self) -> bool {
        let abandoned = self.longest_idle(self.limits.abandoned_after_ms, |_| true);
        if let Some(id) = abandoned {
            self.remove(id);
        }
        abandoned.is_some()
    }

    /// Among the sequences that satisfy `filter`, the one with the longest time since its last poll, if that is at least `at_least_ms`.
    fn longest_idle(&self, at_least_ms: f64, filter: impl Fn(&Sequence) -> bool) -> Option<SequenceId> {
        let idle =
            self.sequences.iter().filter(|(_, sequence)| filter(sequence)).filter_map(|(id, sequence)| Some((*id, sequence.idle_since()?)));
        let longest = idle.min_by(|a, b| a.1.total_cmp(&b.1));
        longest.filter(|(_, since)| now_ms() - since >= at_least_ms).map(|(id, _)| id)
    }

    /// The next event of a sequence, if there is one. Otherwise the sequence counts as waited for from now on, and steps advance it until
    /// it has an event. The last event removes the sequence; an unknown id returns [`Event::Failed`] with 3008.
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

    /// Makes a sequence's answer follow a grammar from its next token on. Unknown ids are ignored.
    pub fn constrain(&mut self, id: SequenceId, constraint: Constraint) {
        if let Some(sequence) = self.sequences.get_mut(&id) {
            sequence.constrain(constraint);
        }
    }

    /// Removes a sequence; what it computed stays as a prefix for later requests. Unknown ids are ignored.
    pub fn cancel(&mut self, id: SequenceId) {
        self.remove(id);
    }

    /// Prompt tokens that a cache already held; 0 until the sequence has started.
    pub fn cached_tokens(&self, id: SequenceId) -> usize {
        self.sequences.get(&id).map_or(0, |sequence| sequence.cached_tokens)
    }

    /// Sequences that are not finished.
    pub fn active(&self) -> usize {
        self.sequences.len()
    }

    /// Tokens computed so far, of prompts and of answers.
    pub fn computed_tokens(&self) -> u64 {
        self.computed_tokens
    }

    /// The GPU that computes, with its counters; `None` on the CPU.
    pub fn gpu(&self) -> Option<Gpu> {
        self.backend.gpu()
    }

    /// Why the backend is lost. Nothing is computed until [`Engine::replace_backend`].
    pub fn lost(&self) -> Option<&AiError> {
        self.lost.as_ref()
    }

    /// The error of a sequence for which the GPU has no memory. The sequence waits for [`Engine::replace_backend`] or
    /// [`Engine::fail_out_of_gpu_memory`].
    pub fn out_of_gpu_memory(&self) -> Option<&AiError> {
        self.out_of_gpu_memory.first().map(|(_, error)| error)
    }

    /// Ends the sequences for which the GPU has no memory, because no other backend can compute them. `suffix` is appended to the texts of
    /// their errors.
    pub fn fail_out_of_gpu_memory(&mut self, suffix: &str) {
        for (id, AiError { code, text }) in std::mem::take(&mut self.out_of_gpu_memory) {
            self.fail(id, AiError { code, text: format!("{text}{suffix}") });
        }
    }

    /// Continues with another backend of the same model. Sequences compute their tokens again there; no token is lost or
    /// repeated.
    pub fn replace_backend(&mut self, backend: Box<dyn Backend>) {
        self.forget_caches();
        self.backend = backend;
        self.lost = None;
        self.out_of_gpu_memory.clear();
    }

    /// Ends every sequence with this error, because no backend can compute them.
    pub fn fail_all(&mut self, error: &AiError) {
        for sequence in self.sequences.values_mut() {
            sequence.fail(error.clone());
        }
    }

    /// Records that the backend is lost, with all its caches.
    fn mark_lost(&mut self, error: AiError) {
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

    /// Ends a sequence that cannot continue. If the GPU's memory is full, sets the sequence aside instead, because another backend may have
    /// memory for it.
    fn fail_or_set_aside(&mut self, id: SequenceId, error: AiError) {
        if error.code == ErrorCode::OutOfCapacity && self.backend.gpu().is_some() {
            self.release_cache(id);
            self.out_of_gpu_memory.push((id, error));
        } else {
            self.fail(id, error);
        }
    }

    /// Advances the sequences that are waited for: a decoding sequence by one token, a prompt by one chunk.
    pub async fn step(&mut self) {
        if self.lost.is_some() {
            return;
        }
        self.clock += 1;
        let waiting = self.next_sequences();
        if waiting.is_empty() {
            return;
        }
        let prefilling = waiting.iter().filter(|id| self.sequences[id].missing() > 1).count();
        let decoding = waiting.len() - prefilling;
        let chunk = (self.backend.rows_per_step().saturating_sub(decoding) / prefilling.max(1)).max(1);
        // Tokens are copied, so that sequences are not borrowed while the backend computes.
        let mut planned: Vec<(SequenceId, Vec<u32>, Wanted)> = Vec::new();
        for id in waiting {
            match self.prepare(id, chunk).await {
                Ok(Some((tokens, wanted))) => planned.push((id, tokens, wanted)),
                Ok(None) => {}
                Err(error) if self.backend.is_lost() => return self.mark_lost(error),
                Err(error) => self.fail_or_set_aside(id, error),
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
            Err(error) if self.backend.is_lost() => self.mark_lost(error),
            Err(error) => {
                for (id, ..) in planned {
                    self.fail_or_set_aside(id, error.clone());
                }
            }
        }
    }

    /// The sequences that are waited for, starting after the one served last, at most as many as there are caches. Those that have a cache
    /// come first, so that a started sequence continues before another one starts.
    fn next_sequences(&self) -> Vec<SequenceId> {
        let waits = |(id, sequence): (&SequenceId, &Sequence)| sequence.is_waited_for().then_some(*id);
        let after = self.sequences.range((std::ops::Bound::Excluded(self.last_served), std::ops::Bound::Unbounded));
        let before = self.sequences.range(..=self.last_served);
        let waiting = after.chain(before).filter_map(waits);
        let (started, mut next): (Vec<_>, Vec<_>) = waiting.partition(|id| self.sequences[id].cache.is_some());
        next.splice(0..0, started);
        next.truncate(self.limits.caches.max(1));
        next
    }

    /// Assigns a cache to a sequence and reserves space in it. Returns the next tokens to compute (at most `chunk`) and the output that is
    /// wanted after the last of them; `None` if no cache is free yet.
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
            // Free the caches that are kept only for their prefix, and try once more.
            if !self.caches.clear_free(self.backend.as_mut()) {
                return Err(error);
            }
            self.backend.reserve(cache, tokens.len()).await?;
        }
        Ok(Some((tokens, wanted)))
    }

    /// Finds a cache for a sequence; if all are in use, takes one from a sequence that has been idle for long enough. Returns whether it
    /// found one.
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

    /// Takes a sequence's cache away. If the sequence continues, it computes again whatever its next cache does not hold.
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
