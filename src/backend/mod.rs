//! Backends compute the model. One trait, [`Backend`], is implemented for the CPU and for the GPU.
//!
//! A backend owns the weights and the KV caches. Text, sampling and scheduling are not its concern.

mod caches;
pub mod cpu;
#[cfg(feature = "webgpu")]
pub mod webgpu;

use crate::error::Result;
use crate::gguf::LocalFuture;
use crate::lora::{self, Adapter};
use crate::model::Hyperparameters;
use kernels::ops;
use serde::Serialize;
use std::future::ready;
use std::rc::Rc;

/// Identifies a KV cache of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheId(pub u64);

/// One sequence's part of a batch.
#[derive(Debug)]
pub struct Work<'a> {
    pub cache: CacheId,
    /// What follows the positions in its cache. `forward` appends its positions to the cache.
    pub input: Input<'a>,
    /// The answers to return, as a rule for the last position.
    pub wanted: Wanted,
    /// The adapter to compute with. [`Backend::prepare_adapter`] has been called for it.
    pub adapter: Option<&'a Adapter>,
}

/// What is computed at new positions.
#[derive(Debug, Clone, Copy)]
pub enum Input<'a> {
    /// At least one token.
    Tokens(&'a [u32]),
}

impl Work<'_> {
    /// Its tokens.
    pub fn tokens(&self) -> &[u32] {
        let Input::Tokens(tokens) = self.input;
        tokens
    }
}

/// Which logits to return for the last tokens of a [`Work`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    /// The logits of the whole vocabulary.
    Logits,
    /// The n largest logits and their tokens, 1 ≤ n ≤ [`MAX_CANDIDATES`]. A backend that cannot select may return all logits.
    Candidates(usize),
    /// The logits of the whole vocabulary after each of the last n tokens, n ≥ 1: n answers. Only for backends that [`Backend::verifies`].
    LogitsOfLast(usize),
}

impl Wanted {
    /// Number of answers.
    pub fn answers(self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::Logits | Self::Candidates(_) => 1,
            Self::LogitsOfLast(count) => count,
        }
    }
}

/// The largest n of [`Wanted::Candidates`].
pub const MAX_CANDIDATES: usize = 256;

/// Rows (tokens) of a step: of any step on the CPU, of the smallest full step on a GPU.
pub const ROWS: usize = 32;

/// The answer to a [`Work`].
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// One logit per vocabulary entry.
    Logits(Vec<f32>),
    /// Tokens and their logits, largest logit first, equal logits by ascending token. Logits that are not finite are left out.
    Candidates(Vec<(u32, f32)>),
}

impl Answer {
    /// Every logit `x` as `cap · tanh(x / cap)`, if the model has such a cap.
    fn capped(mut self, cap: Option<f32>) -> Self {
        match (&mut self, cap) {
            (_, None) => {}
            (Self::Logits(logits), Some(cap)) => ops::softcap(logits, cap),
            (Self::Candidates(candidates), Some(cap)) => {
                candidates.iter_mut().for_each(|(_, logit)| ops::softcap(std::slice::from_mut(logit), cap));
            }
        }
        self
    }
}

/// A GPU and its statistics.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// Name of the adapter.
    pub adapter: String,
    #[serde(flatten)]
    pub counters: Counters,
}

/// Statistics of a GPU device since its creation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    pub submissions: u64,
    pub dispatches: u64,
    pub bytes_uploaded: u64,
    pub bytes_read_back: u64,
    pub buffers_created: u64,
    /// Total size of the buffers that exist now.
    pub bytes_allocated: u64,
}

/// Computes the forward pass of a model for batches of sequences.
pub trait Backend {
    /// Short name for display: "cpu" or "webgpu".
    fn name(&self) -> &'static str;

    fn hyperparameters(&self) -> &Hyperparameters;

    /// Creates an empty KV cache.
    ///
    /// # Errors
    ///
    /// If the cache cannot be created.
    fn create_cache(&mut self) -> Result<CacheId>;

    /// Frees a cache. Unknown ids are ignored.
    fn release_cache(&mut self, cache: CacheId);

    /// Drops all positions of a cache from position `length` on. Returns how many positions it holds now: fewer than `length` if it had
    /// fewer, or if the backend cannot go on from there.
    fn truncate_cache(&mut self, cache: CacheId, length: usize) -> usize;

    /// Replaces the content of `to` with the first `length` positions of `from`. Returns how many positions `to` holds now, as
    /// `truncate_cache` does.
    ///
    /// # Errors
    ///
    /// 3040 if `to` cannot be enlarged.
    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<usize>>;

    /// The GPU and its statistics; `None` on the CPU.
    fn gpu(&self) -> Option<Gpu> {
        None
    }

    /// The most rows (tokens) to compute in a step, a multiple of [`ROWS`]. With small steps, cancellation and other sequences wait less;
    /// with large ones, a GPU with many cores is better used.
    fn rows_per_step(&self) -> usize {
        ROWS
    }

    /// Whether it computes the same bits for a token whatever is computed beside it, and returns [`Wanted::LogitsOfLast`]. Then several tokens can
    /// be computed before it is known which of them come.
    fn verifies(&self) -> bool {
        false
    }

    /// Whether the device is lost, and with it every cache. A lost backend cannot compute again.
    fn is_lost(&self) -> bool {
        false
    }

    /// Allocates room for `additional` more positions in a cache, so that `forward` cannot run out of memory.
    ///
    /// # Errors
    ///
    /// 3040 if there is no memory for them.
    fn reserve(&mut self, cache: CacheId, additional: usize) -> LocalFuture<'_, Result<()>>;

    /// Does what is necessary before batches can be computed with an adapter. An adapter that was prepared before costs nothing.
    ///
    /// # Errors
    ///
    /// 5005 if the backend cannot compute with it, 3040 if memory runs out.
    fn prepare_adapter<'a>(&'a mut self, adapter: &'a Rc<Adapter>) -> LocalFuture<'a, Result<()>> {
        let text = format!("LoRA adapter '{}' cannot be used: this backend does not compute adapters.", adapter.name);
        Box::pin(ready(Err(lora::unsupported(text))))
    }

    /// Computes a batch, in which each cache may occur at most once. Returns the answers that each [`Work`] wants, in the order of
    /// the batch.
    ///
    /// # Errors
    ///
    /// If a cache is unknown or occurs twice, if a token is not in the vocabulary, if memory runs out, or if the device fails. The
    /// positions in the caches of the batch are then as before.
    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answer>>>;
}
