//! The engine: schedules many sequences on one backend, step by step and fairly.
//!
//! A sequence advances only while a caller waits for its next token. Each waiting caller calls [`Engine::step`], which
//! advances every sequence that has a waiting caller. So no request depends on another one staying alive, and waiting
//! requests share each pass over the weights.

pub mod blame;
mod cache_pool;
mod draft;
mod sequence;

pub use sequence::{Event, FinishReason, GenerationParams, SequenceId};

use crate::backend::{Answer, Backend, Gpu, Input, Wanted, Work};
use crate::error::{AiError, ErrorCode, Result};
use crate::grammar::Constraint;
use crate::host::now_ms;
use crate::panics::caught_async;
use cache_pool::{CachePool, Prefix};
use sequence::{Moment, Sequence};
use std::collections::BTreeMap;
use std::rc::Rc;

/// Limits of an engine.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// KV caches that there may always be, and that are kept for their prefixes when no sequence uses them.
    pub caches: usize,
    /// Bytes of keys and values up to which further sequences get a cache, by the most positions that each of them can reach.
    pub cache_bytes: u64,
    /// Maximum number of sequences in progress; one more is refused with 3040. Those whose callers do not read do not count.
    pub sequences: usize,
    /// Maximum number of sequences in all. One more replaces the one whose caller has been idle for longest.
    pub unread: usize,
    /// Milliseconds without a poll after which a caller counts as idle: then its sequence does not count as in progress, and may lose its
    /// KV cache to one whose caller waits.
    pub idle_after_ms: f64,
    /// Milliseconds without a poll after which a sequence may be dropped for a new one, if there are `unread` already.
    pub abandoned_after_ms: f64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { caches: 4, cache_bytes: 1 << 30, sequences: 64, unread: 1024, idle_after_ms: 1_000.0, abandoned_after_ms: 60_000.0 }
    }
}

/// The most prompts of a step. More at once would only delay the first ones.
const PROMPTS: usize = 4;

/// The most logits of a step that verifies drafts: 8 MiB.
const MAX_LOGITS: usize = 1 << 21;

/// Steps after which a caller that did not poll can have done so, even in workerd, which lets others run only every few steps.
const STEPS_TO_POLL: u64 = 64;

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
    /// Milliseconds that steps have taken in all, and the end of the last one.
    busy_ms: f64,
    stepped_at: f64,
    computed_tokens: u64,
    /// Why the backend is lost, until another one replaces it.
    lost: Option<AiError>,
    /// The sequences that the current step computes.
    in_step: Vec<SequenceId>,
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
            busy_ms: 0.0,
            stepped_at: f64::NEG_INFINITY,
            computed_tokens: 0,
            lost: None,
            in_step: Vec::new(),
            out_of_gpu_memory: Vec::new(),
        }
    }

    /// Adds a sequence. It does not start before it is polled.
    ///
    /// # Errors
    ///
    /// 3040 when there are too many sequences, 5006 when the prompt has no tokens.
    pub fn submit(&mut self, prompt: Vec<u32>, params: GenerationParams, constraint: Option<Constraint>) -> Result<SequenceId> {
        self.check_room(0)?;
        if prompt.is_empty() {
            return Err(AiError::invalid_input("The prompt has no tokens. Send a text that is not empty."));
        }
        self.next_id += 1;
        let id = SequenceId(self.next_id);
        self.sequences.insert(id, Sequence::new(prompt, params, constraint, self.moment()));
        Ok(id)
    }

    /// Checks whether one more sequence may begin, if `others` are about to begin as well.
    ///
    /// # Errors
    ///
    /// 3040 when there are too many sequences.
    pub fn check_room(&mut self, others: usize) -> Result<()> {
        let idle_after = self.limits.idle_after_ms;
        let in_progress = self.sequences.values().filter(|sequence| self.idle_ms(sequence).is_none_or(|ms| ms < idle_after)).count();
        let is_full = self.sequences.len() + others >= self.limits.unread;
        if in_progress + others >= self.limits.sequences || (is_full && !self.drop_abandoned()) {
            return Err(too_many(in_progress + others));
        }
        Ok(())
    }

    /// Drops the sequence whose caller has been idle for longest, if that exceeds the limit: a caller that left without cancelling must not
    /// hold memory for ever. Returns whether one was dropped.
    fn drop_abandoned(&mut self) -> bool {
        let abandoned = self.longest_idle(self.limits.abandoned_after_ms, |_| true);
        if let Some(id) = abandoned {
            self.remove(id);
        }
        abandoned.is_some()
    }

    fn moment(&self) -> Moment {
        Moment { ms: now_ms(), busy_ms: self.busy_ms, step: self.clock }
    }

    /// For how many milliseconds a sequence's caller could have polled it and did not; `None` while it waits. The time of steps does not
    /// count, because nothing else runs then. Where clocks stand still during a step (workerd), the number of steps decides whether the
    /// caller had a chance, unless there are no steps.
    fn idle_ms(&self, sequence: &Sequence) -> Option<f64> {
        let polled = sequence.idle_since()?;
        let now = self.moment();
        let had_chance = now.step - polled.step >= STEPS_TO_POLL || now.ms - self.stepped_at >= self.limits.idle_after_ms;
        Some(if had_chance { (now.ms - polled.ms) - (now.busy_ms - polled.busy_ms) } else { 0.0 })
    }

    /// Among the sequences that satisfy `filter`, the one whose caller has been idle for longest, if that is at least `at_least_ms`.
    fn longest_idle(&self, at_least_ms: f64, filter: impl Fn(&Sequence) -> bool) -> Option<SequenceId> {
        let fitting = self.sequences.iter().filter(|(_, sequence)| filter(sequence));
        let idle = fitting.filter_map(|(id, sequence)| Some((*id, self.idle_ms(sequence)?)));
        idle.filter(|(_, ms)| *ms >= at_least_ms).max_by(|a, b| a.1.total_cmp(&b.1)).map(|(id, _)| id)
    }

    /// The next event of a sequence, if there is one. Otherwise the sequence counts as waited for from now on, and steps advance it until
    /// it has an event. The last event removes the sequence; an unknown id returns [`Event::Failed`] with 3008.
    pub fn poll(&mut self, id: SequenceId) -> Option<Event> {
        let now = self.moment();
        let Some(sequence) = self.sequences.get_mut(&id) else {
            return Some(Event::Failed(AiError::new(ErrorCode::Aborted, "The request was aborted.")));
        };
        let event = sequence.take_event(now);
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

    /// Ends them with this error.
    pub fn fail_out_of_gpu_memory_with(&mut self, error: &AiError) {
        for (id, _) in std::mem::take(&mut self.out_of_gpu_memory) {
            self.fail(id, error.clone());
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
        let started = now_ms();
        self.in_step.clear();
        if let Err(error) = caught_async(self.advance()).await {
            self.after_panic(&error);
        }
        self.stepped_at = now_ms();
        self.busy_ms += self.stepped_at - started;
    }

    /// Makes the engine whole after a step that panicked. Its sequences are computed again, each in steps of its own until it is past the
    /// token at which the panic was: so the one that causes it ends with `error`, and the others go on.
    fn after_panic(&mut self, error: &AiError) {
        let step = std::mem::take(&mut self.in_step);
        if self.backend.gpu().is_some() {
            self.mark_lost(error.clone());
        } else {
            // The weights are never written, and the other buffers are filled anew in each step.
            self.caches.clear(self.backend.as_mut());
            self.forget_caches();
        }
        let alone = step.len() == 1;
        for id in step {
            match self.sequences.get_mut(&id) {
                Some(sequence) if alone && sequence.is_suspect() => sequence.fail(error.clone()),
                Some(sequence) => sequence.suspect(),
                None => {}
            }
        }
    }

    async fn advance(&mut self) {
        if self.lost.is_some() {
            return;
        }
        self.clock += 1;
        let rows = self.backend.rows_per_step();
        let (decoding, prompts) = self.next_sequences(rows);
        let chunk = (rows.saturating_sub(decoding.len()) / prompts.len().max(1)).max(1);
        // Rows that nobody else needs.
        let ahead = if self.backend.verifies() && prompts.is_empty() {
            let vocabulary = self.backend.hyperparameters().vocabulary;
            (rows.min(MAX_LOGITS / vocabulary.max(1)) / decoding.len().max(1)).saturating_sub(1)
        } else {
            0
        };
        self.last_served = decoding.last().copied().unwrap_or(self.last_served);
        let mut without_memory = None;
        // Tokens are copied, so that sequences are not borrowed while the backend computes.
        let mut planned: Vec<(SequenceId, Vec<u32>, Wanted)> = Vec::new();
        for id in decoding.into_iter().chain(prompts) {
            self.in_step.push(id);
            match self.prepare(id, chunk, ahead).await {
                Ok(Some((tokens, wanted))) => planned.push((id, tokens, wanted)),
                Ok(None) => {}
                Err(error) if self.backend.is_lost() => return self.mark_lost(error),
                // Others hold the memory that is missing. They go on, and this sequence is tried again in the next step.
                Err(error) if error.code == ErrorCode::OutOfCapacity && self.backend.gpu().is_none() => without_memory = Some((id, error)),
                Err(error) => self.fail_or_set_aside(id, error),
            }
        }
        if planned.is_empty() {
            // Nobody can go on, unless one of them gives its memory up.
            if let Some((id, error)) = without_memory {
                self.fail(id, error);
            }
            return;
        }
        let batch: Vec<Work<'_>> = planned
            .iter()
            .filter_map(|(id, tokens, wanted)| {
                let sequence = self.sequences.get(id)?;
                let adapter = sequence.adapter().map(Rc::as_ref);
                Some(Work { cache: sequence.cache?, input: Input::Tokens(tokens), wanted: *wanted, adapter })
            })
            .collect();
        let outcome = self.backend.forward(&batch).await;
        drop(batch);
        match outcome {
            Ok(answers) => {
                let mut answers = answers.into_iter();
                for (id, tokens, wanted) in planned {
                    let own = answers.by_ref().take(wanted.answers()).collect();
                    self.take_answers(id, &tokens, own);
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

    /// Goes on after `tokens` of a sequence were computed, with the backend's answers after the last of them: one as a rule, more if the last tokens
    /// are a draft. As many of those are kept as the answers confirm.
    fn take_answers(&mut self, id: SequenceId, tokens: &[u32], answers: Vec<Answer>) {
        let Some(sequence) = self.sequences.get_mut(&id) else { return };
        let drafted = answers.len().saturating_sub(1);
        let first = tokens.len() - drafted;
        let mut right = 0;
        for answer in answers {
            let next = sequence.accept(answer);
            if next.is_none() || next.as_ref() != tokens.get(first + right) {
                break;
            }
            right += 1;
        }
        if drafted > 0 {
            sequence.record_draft(drafted, right);
        }
        let kept = &tokens[..first + right];
        sequence.add_computed(kept.len());
        self.computed_tokens += kept.len() as u64;
        let Some(cache) = sequence.cache else { return };
        self.caches.extend(cache, kept, self.clock);
        if kept.len() < tokens.len() {
            let computed = sequence.computed;
            if self.caches.truncate(self.backend.as_mut(), cache, computed) != computed {
                self.release_cache(id);
            }
        }
    }

    /// The sequences that are waited for, at most as many as a step has rows: those that decode, starting after the one served last, and
    /// prompts in the order of their arrival. Prompts get at least a quarter of the rows, so that everybody begins. One that is suspected of
    /// a panic comes alone.
    fn next_sequences(&self, rows: usize) -> (Vec<SequenceId>, Vec<SequenceId>) {
        let waits = |(id, sequence): (&SequenceId, &Sequence)| sequence.is_waited_for().then_some(*id);
        let after = self.sequences.range((std::ops::Bound::Excluded(self.last_served), std::ops::Bound::Unbounded));
        let before = self.sequences.range(..=self.last_served);
        let waiting = after.chain(before).filter_map(waits);
        let has_cache = |id: &SequenceId| self.sequences[id].cache.is_some();
        let waiting: Vec<_> = waiting.collect();
        if let Some(suspect) = waiting.iter().find(|id| self.sequences[id].is_suspect()) {
            return (Vec::new(), vec![*suspect]);
        }
        let (mut decoding, mut prompts): (Vec<_>, Vec<_>) =
            waiting.into_iter().partition(|id| has_cache(id) && self.sequences[id].missing() <= 1);
        // One that has a cache continues before another one starts.
        prompts.sort_unstable_by_key(|id| (!has_cache(id), *id));
        prompts.truncate(PROMPTS);
        decoding.truncate(if prompts.is_empty() { rows } else { rows - rows / 4 });
        (decoding, prompts)
    }

    /// Assigns a cache to a sequence and reserves space in it. Returns the next tokens to compute (at most `chunk`, and `ahead` further ones that
    /// probably follow) and the output that is wanted after the last of them; `None` if no cache is free yet.
    async fn prepare(&mut self, id: SequenceId, chunk: usize, ahead: usize) -> Result<Option<(Vec<u32>, Wanted)>> {
        let Some(sequence) = self.sequences.get(&id) else { return Ok(None) };
        if let Some(adapter) = sequence.adapter() {
            self.backend.prepare_adapter(adapter).await?;
        }
        if sequence.cache.is_none() && !self.acquire_cache(id).await? {
            return Ok(None);
        }
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(None) };
        let Some(cache) = sequence.cache else { return Ok(None) };
        let mut tokens = sequence.next_tokens(chunk);
        let is_last = sequence.computed + tokens.len() == sequence.tokens.len();
        let mut wanted = if is_last { sequence.wanted() } else { Wanted::Nothing };
        if is_last && tokens.len() == 1 && ahead > 0 {
            let draft = sequence.draft(ahead);
            if !draft.is_empty() {
                tokens.extend(draft);
                wanted = Wanted::LogitsOfLast(tokens.len());
            }
        }
        if let Err(error) = self.backend.reserve(cache, tokens.len()).await {
            if let Wanted::LogitsOfLast(_) = wanted {
                tokens.truncate(1);
                wanted = Wanted::Logits;
            }
            // Free the caches that are kept only for their prefix, and try once more.
            if !self.caches.clear_free(self.backend.as_mut()) {
                return Err(error);
            }
            self.backend.reserve(cache, tokens.len()).await?;
        }
        Ok(Some((tokens, wanted)))
    }

    /// Finds a cache for a sequence. If all are in use and there is no room for a further one, takes one from a sequence whose caller is
    /// idle. Returns whether it found one.
    async fn acquire_cache(&mut self, id: SequenceId) -> Result<bool> {
        let may_add = self.has_room_for_cache(id);
        if !may_add
            && self.caches.is_full()
            && let Some(idle) = self.longest_idle(self.limits.idle_after_ms, |sequence| sequence.cache.is_some())
        {
            self.release_cache(idle);
        }
        let Some(sequence) = self.sequences.get_mut(&id) else { return Ok(false) };
        let prefix = Prefix { tokens: &sequence.tokens, adapter: sequence.adapter().map(|adapter| adapter.id) };
        let acquired = self.caches.acquire(self.backend.as_mut(), prefix, may_add, self.clock).await?;
        let Some((cache, computed)) = acquired else { return Ok(false) };
        sequence.start(cache, computed);
        Ok(true)
    }

    /// Whether the keys and values of a sequence fit into `cache_bytes` beside those of the sequences that have a cache.
    fn has_room_for_cache(&self, id: SequenceId) -> bool {
        let begun = self.sequences.iter().filter(|(other, sequence)| **other == id || sequence.cache.is_some());
        let positions = begun.map(|(_, sequence)| sequence.most_positions() as u64).fold(0, u64::saturating_add);
        let p = self.backend.hyperparameters();
        // Two bytes for each number of a key or a value.
        let bytes = 4 * (p.layers * p.kv_width()) as u64;
        positions.saturating_mul(bytes) <= self.limits.cache_bytes
    }

    /// Takes a sequence's cache away. If the sequence continues, it computes again whatever its next cache does not hold.
    fn release_cache(&mut self, id: SequenceId) {
        if let Some(sequence) = self.sequences.get_mut(&id)
            && let Some(cache) = sequence.cache.take()
        {
            sequence.computed = 0;
            self.caches.release(self.backend.as_mut(), cache);
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

/// 3040: there are too many requests. `waiting`: those in progress.
pub fn too_many(waiting: usize) -> AiError {
    AiError::new(ErrorCode::OutOfCapacity, format!("Out of capacity: {waiting} requests are already waiting. Try again later."))
}
