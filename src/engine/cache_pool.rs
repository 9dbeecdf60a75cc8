//! The KV caches of an engine, and which of their contents the next request can go on from.

use crate::backend::{Backend, CacheId};
use crate::error::Result;

/// A bounded set of caches. Those that no sequence uses keep their contents as prefixes.
pub struct CachePool {
    entries: Vec<Entry>,
    limit: usize,
}

struct Entry {
    id: CacheId,
    /// What the cache holds.
    tokens: Vec<u32>,
    in_use: bool,
    /// Step at which it was last used.
    used: u64,
}

impl CachePool {
    pub fn new(limit: usize) -> Self {
        Self { entries: Vec::new(), limit }
    }

    /// Whether every cache is in use and no further one may be made.
    pub fn is_full(&self) -> bool {
        self.entries.len() >= self.limit && self.entries.iter().all(|entry| entry.in_use)
    }

    /// A cache for a sequence that starts with `tokens`, and how many of these it already holds: at most all but one,
    /// since the last token must be computed for its logits. `None` when all caches are in use.
    pub async fn acquire(&mut self, backend: &mut dyn Backend, tokens: &[u32], now: u64) -> Result<Option<(CacheId, usize)>> {
        let usable = &tokens[..tokens.len().saturating_sub(1)];
        let shared = |entry: &Entry| entry.tokens.iter().zip(usable).take_while(|(a, b)| a == b).count();
        // The longest common prefix; of equals, the cache that loses least when it is cut to it.
        let best = (0..self.entries.len())
            .filter(|index| !self.entries[*index].in_use)
            .max_by_key(|index| (shared(&self.entries[*index]), std::cmp::Reverse(self.entries[*index].tokens.len())));
        let common = best.map_or(0, |index| shared(&self.entries[index]));
        let index = match best {
            // The sequence goes on where this one ended: nothing is lost.
            Some(best) if self.entries[best].tokens.len() == common => best,
            _ => {
                let Some(target) = self.empty_entry(backend, best)? else { return Ok(None) };
                match best {
                    // A copy costs far less than computing, and the other conversation keeps its own.
                    Some(best) if best != target && common > 0 => self.copy_or_cut(backend, best, target, common, now).await,
                    _ => target,
                }
            }
        };
        let entry = &mut self.entries[index];
        let kept = shared(entry);
        backend.truncate_cache(entry.id, kept);
        entry.tokens.truncate(kept);
        entry.in_use = true;
        entry.used = now;
        Ok(Some((entry.id, kept)))
    }

    /// Copies the prefix of `best` to `target`; without memory for both, `best` itself is cut to it. Gives the entry that
    /// then holds the prefix.
    async fn copy_or_cut(&mut self, backend: &mut dyn Backend, best: usize, target: usize, common: usize, now: u64) -> usize {
        if backend.copy_prefix(self.entries[best].id, self.entries[target].id, common).await.is_err() {
            return best;
        }
        self.entries[target].tokens = self.entries[best].tokens[..common].to_vec();
        self.entries[best].used = now;
        target
    }

    /// A new cache, or the free one that was used longest ago; that one is emptied unless it is `source`.
    fn empty_entry(&mut self, backend: &mut dyn Backend, source: Option<usize>) -> Result<Option<usize>> {
        if self.entries.len() < self.limit {
            self.entries.push(Entry { id: backend.create_cache()?, tokens: Vec::new(), in_use: false, used: 0 });
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

    /// A cache in use got further tokens.
    pub fn extend(&mut self, id: CacheId, tokens: &[u32], now: u64) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.tokens.extend_from_slice(tokens);
            entry.used = now;
        }
    }

    /// A sequence no longer uses its cache.
    pub fn release(&mut self, id: CacheId) {
        if let Some(entry) = self.entries.iter_mut().find(|entry| entry.id == id) {
            entry.in_use = false;
        }
    }

    /// Gives back the memory of caches that no sequence uses. Returns whether there were any.
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
