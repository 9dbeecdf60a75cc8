//! Backends: what computes the model. One trait, implemented on the CPU and on the GPU.
//!
//! A backend owns the weights and the KV caches, and knows nothing of text, sampling or scheduling.

pub mod cpu;
#[cfg(feature = "webgpu")]
pub mod webgpu;

use crate::error::Result;
use crate::gguf::LocalFuture;
use crate::model::Hyperparameters;
use serde::Serialize;

/// One KV cache of a backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CacheId(pub u64);

/// One sequence's part of a batch: tokens that follow what its cache holds.
#[derive(Debug)]
pub struct Work<'a> {
    pub cache: CacheId,
    /// At least one token; they are appended to the cache.
    pub tokens: &'a [u32],
    /// What is wanted after the last token.
    pub wanted: Wanted,
}

/// What is wanted after a work's last token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    /// All logits.
    Logits,
    /// So many of the largest logits with their tokens, up to [`MAX_CANDIDATES`]; all will do.
    Candidates(usize),
}

/// Candidates that can be asked for.
pub const MAX_CANDIDATES: usize = 256;

/// What a work gave.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// `vocabulary` numbers.
    Logits(Vec<f32>),
    /// Largest first, equal ones by token. Logits that are no finite numbers are left out.
    Candidates(Vec<(u32, f32)>),
}

/// A GPU, and what was done on it so far.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Gpu {
    /// Name of the adapter.
    pub adapter: String,
    #[serde(flatten)]
    pub counters: Counters,
}

/// What was done on a GPU so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    pub submissions: u64,
    pub dispatches: u64,
    pub bytes_uploaded: u64,
    pub bytes_read_back: u64,
    pub buffers_created: u64,
    /// Of all buffers that there are.
    pub bytes_allocated: u64,
}

/// Computes the model for batches of sequences.
pub trait Backend {
    /// Short name for people: "cpu", "webgpu".
    fn name(&self) -> &'static str;

    fn hyperparameters(&self) -> &Hyperparameters;

    /// An empty KV cache.
    fn create_cache(&mut self) -> Result<CacheId>;

    /// Gives a cache's memory back. Unknown ids are ignored.
    fn release_cache(&mut self, cache: CacheId);

    /// Forgets every position from `length` on.
    fn truncate_cache(&mut self, cache: CacheId, length: usize);

    /// Makes `to` hold the first `length` positions of `from`, instead of what it held.
    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<()>>;

    /// The GPU that computes, for statistics.
    fn gpu(&self) -> Option<Gpu> {
        None
    }

    /// Whether nothing can be computed any more: the device is gone, with every cache.
    fn is_lost(&self) -> bool {
        false
    }

    /// Makes room for `additional` positions, so that `forward` cannot fail for want of memory.
    fn reserve(&mut self, cache: CacheId, additional: usize) -> LocalFuture<'_, Result<()>>;

    /// Computes a batch; every cache at most once. Gives an answer for each work that wants one, in the order of the batch. On
    /// an error the caches of the batch are as before.
    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answer>>>;
}
