//! The KV caches of an engine, and the choice of the cache whose prefix the next request can reuse.

use crate::backend::{Backend, CacheId};
use crate::error::Result;
use crate::lora::AdapterId;

/// A set of caches. Those that no sequence uses keep their contents as prefixes for later requests, as long as there are no more caches
/// than `kept`.
pub struct CachePool {
    entries: Vec<Entry>,
    kept: usize,
}

struct Entry {
    id: CacheId,
    /// The tokens whose keys and values the cache holds, and the adapter with which they were computed.
    tokens: Vec<u32>,
    adapter: Option<AdapterId>,
    in_use: bool,
    /// The step that last used it.
    used: u64,
}

/// What a sequence starts with.
#[derive(Debug, Clone, Copy)]
pub struct Prefix<'a> {
    pub tokens: &'a [u32],
    pub adapter: Option<AdapterId>,
}

impl CachePool {
    pub fn new(kept: usize) -> Self {
        Self { entries: Vec::new(), kept }
    }

    /// Whether a further sequence needs a cache beyond the `kept` ones, because all of these are in use.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.kept && self.entries.iter().all(|entry| entry.in_use)
    }

    /// A cache for a sequence, and the number of the sequence's tokens that it already holds. That is at most all but one, since the last token must be computed for its logits. When all caches are in use, `may_add` decides whether there may be a
    /// further one; otherwise `None`. `now` is the current step.
    ///
    /// # Errors
    ///
    /// The backend's error if it cannot create a cache.
    pub async fn acquire(
        &mut self,
        backend: &mut dyn Backend,
        prefix: Prefix<'_>,
        may_add: bool,
        now: u64,
    ) -> Result<Option<(CacheId, usize)>> {
        let usable = &prefix.tokens[..prefix.tokens.len().saturating_sub(1)];
        let shared = |entry: &Entry| match entry.adapter == prefix.adapter {
            true => entry.tokens.iter().zip(usable).take_while(|(a, b)| a == b).count(),
            false => 0,
        };
        // The cache with the longest common prefix; among equals, the one that loses fewest tokens when truncated to that prefix.
        let best = (0..self.entries.len())
            .filter(|index| !self.entries[*index].in_use)
            .max_by_key(|index| (shared(&self.entries[*index]), std::cmp::Reverse(self.entries[*index].tokens.len())));
        let common = best.map_or(0, |index| shared(&self.entries[index]));
        // One in use has it: another choice of the same request, or a request with the same start.
        let used = (0..self.entries.len()).filter(|index| self.entries[*index].in_use).max_by_key(|index| shared(&self.entries[*index]));
        let used = used.filter(|used| shared(&self.entries[*used]) > common);
        let index = match (used, best) {
            (Some(used), _) => {
                let common = shared(&self.entries[used]);
                let Some(target) = self.empty_entry(backend, None, may_add)? else { return Ok(None) };
                self.copy_or_cut(backend, used, target, common, now).await;
                target
            }
            // The sequence continues where this cache ends, so nothing is lost.
            (None, Some(best)) if self.entries[best].tokens.len() == common => best,
            _ => {
                let Some(target) = self.empty_entry(backend, best, may_add)? else { return Ok(None) };
                match best {
                    // A copy costs far less than computing the prefix, and the other conversation keeps its cache.
                    Some(best) if best != target && common > 0 => self.copy_or_cut(backend, best, target, common, now).await,
                    _ => target,
                }
            }
        };
        let entry = &mut self.entries[index];
        let kept = backend.truncate_cache(entry.id, shared(entry));
        entry.tokens.truncate(kept);
        entry.adapter = prefix.adapter;
        entry.in_use = true;
        entry.used = now;
        Ok(Some((entry.id, kept)))
    }

    /// Copies the prefix of `best` to `target` and returns `target`. If there is no memory for a copy, returns `best`, which the caller
    /// truncates to the prefix.
    async fn copy_or_cut(&mut self, backend: &mut dyn Backend, best: usize, target: usize, common: usize, now: u64) -> usize {
        let Ok(copied) = backend.copy_prefix(self.entries[best].id, self.entries[target].id, common).await else { return best };
        self.entries[target].tokens = self.entries[best].tokens.iter().copied().take(copied).collect();
        self.entries[target].adapter = self.entries[best].adapter;
        self.entries[best].used = now;
        target
    }

    /// The index of a new cache, or of the least recently used free one, which is emptied unless it is `source`. `None` if all are in
    /// use and there may be no further one.
    fn empty_entry(&mut self, backend: &mut dyn Backend, source: Option<usize>, may_add: bool) -> Result<Option<usize>> {
        if self.entries.len() < self.kept || (may_add && self.is_full()) {
            self.entries.push(Entry { id: backend.create_cache()?, tokens: Vec::new(), adapter: None, in_use: false, used: 0 });
            return Ok(Some(self.entries.len() - 1));
        }
        let oldest = (0..self.entries.len()).filter(|index| !self.entries[*index].in_use).min_by_key(|index| self.entries[*index].used);
        if let Some(index) = oldest
            && Some(index) != source
        {
            backend.truncate_cache(self.entries[index].id, 0);
            self.entries[index].tokens.clear();
        }
        Ok(oldest)
    }

    /// Records that a cache in use holds further tokens.
    pub fn extend(&mut self, id: CacheId, tokens: &[u32], now: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.tokens.extend_from_slice(tokens);
            entry.used = now;
        }
    }

    /// Drops what a cache in use holds from position `length` on. Returns how many positions it holds now; see [`Backend::truncate_cache`].
    pub fn truncate(&mut self, backend: &mut dyn Backend, id: CacheId, length: usize) -> usize {
        let kept = backend.truncate_cache(id, length);
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.tokens.truncate(kept);
        }
        kept
    }

    /// Records that a sequence no longer uses its cache. If there are more than `kept` caches, the least recently used free one is freed.
    pub fn release(&mut self, backend: &mut dyn Backend, id: CacheId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.in_use = false;
        }
        let free = (0..self.entries.len()).filter(|index| !self.entries[*index].in_use);
        if self.entries.len() > self.kept
            && let Some(oldest) = free.min_by_key(|index| self.entries[*index].used)
        {
            backend.release_cache(self.entries.swap_remove(oldest).id);
        }
    }

    /// Frees all caches.
    pub fn clear(&mut self, backend: &mut dyn Backend) {
        for entry in self.entries.drain(..) {
            backend.release_cache(entry.id);
        }
    }

    /// Frees the caches that no sequence uses. Returns whether there were any.
    pub fn clear_free(&mut self, backend: &mut dyn Backend) -> bool {
        let before = self.entries.len();
        self.entries.retain(|entry| {
            if !entry.in_use {
                backend.release_cache(entry.id);
            }
            entry.in_use
        });
        self.entries.len() < before
    }
}
