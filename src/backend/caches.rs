//! The KV caches of a backend by their ids, and the checks of a batch that every backend makes.

use super::{CacheId, Work};
use crate::error::{AiError, ErrorCode, Result};
use std::collections::HashMap;

/// Caches of the kind `C`.
pub struct Caches<C> {
    by_id: HashMap<CacheId, C>,
    next: u64,
}

impl<C> Default for Caches<C> {
    fn default() -> Self {
        Self { by_id: HashMap::new(), next: 0 }
    }
}

impl<C> Caches<C> {
    /// Adds a cache and returns its id, which no other one ever had.
    pub fn add(&mut self, cache: C) -> CacheId {
        let id = CacheId(self.next);
        self.next += 1;
        self.by_id.insert(id, cache);
        id
    }

    pub fn remove(&mut self, id: CacheId) {
        self.by_id.remove(&id);
    }

    pub fn get(&self, id: CacheId) -> Option<&C> {
        self.by_id.get(&id)
    }

    pub fn get_mut(&mut self, id: CacheId) -> Option<&mut C> {
        self.by_id.get_mut(&id)
    }

    /// Two caches, the first to read and the second to write; `None` if one is missing or they are the same.
    pub fn pair(&mut self, from: CacheId, to: CacheId) -> Option<(&C, &mut C)> {
        if from == to {
            return None;
        }
        let [from, to] = self.by_id.get_disjoint_mut([&from, &to]);
        Some((from?, to?))
    }

    /// Checks that each cache of a batch exists and occurs once, and that every token is in a vocabulary of so many entries.
    ///
    /// # Errors
    ///
    /// 3040 for a cache, 5004 for a token.
    pub fn check(&self, batch: &[Work<'_>], vocabulary: usize) -> Result<()> {
        for (index, work) in batch.iter().enumerate() {
            if !self.by_id.contains_key(&work.cache) || batch[..index].iter().any(|earlier| earlier.cache == work.cache) {
                return Err(AiError::new(ErrorCode::OutOfCapacity, "A KV cache does not exist or occurs twice in a batch."));
            }
            if let Some(token) = work.tokens().iter().find(|token| **token as usize >= vocabulary) {
                return Err(AiError::invalid_data(format!("Token {token} is not in the vocabulary.")));
            }
        }
        Ok(())
    }
}
