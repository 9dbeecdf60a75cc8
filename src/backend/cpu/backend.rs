//! The CPU backend: a model with its KV caches.

use super::model::CpuModel;
use super::pass::{Pass, Scratch};
use crate::backend::caches::Caches;
use crate::backend::{Answer, Backend, CacheId, Work};
use crate::error::{AiError, Result};
use crate::gguf::LocalFuture;
use crate::lora::Adapter;
use crate::model::Hyperparameters;
use kernels::kv_cache::KvCache;
use std::future::ready;
use std::rc::Rc;

/// A model with its KV caches and scratch buffers.
pub struct CpuBackend {
    model: CpuModel,
    caches: Caches<KvCache>,
    scratch: Scratch,
    /// Scratch: the number of rows of each work of a batch.
    rows: Vec<usize>,
}

impl CpuBackend {
    pub fn new(model: CpuModel) -> Self {
        Self { model, caches: Caches::default(), scratch: Scratch::default(), rows: Vec::new() }
    }

    /// Computes a batch; see [`Backend::forward`].
    fn run(&mut self, batch: &[Work<'_>]) -> Result<Vec<Answer>> {
        let Self { model, caches, scratch, rows } = self;
        let cap = model.architecture.logit_softcap;
        caches.check(batch, model.architecture.sizes.vocabulary)?;
        let wanted: Vec<usize> = batch.iter().map(|work| work.wanted.answers().min(work.tokens().len())).collect();
        let mut pass = Pass { model, caches, scratch, batch, wanted: &wanted, rows };
        pass.begin()?;
        for step in &model.steps {
            pass.compute(step)?;
            if pass.ends_for_unwanted(step) && pass.keep_wanted() == 0 {
                break;
            }
        }
        let logits = pass.logits()?;
        pass.commit();
        Ok(logits.into_iter().map(|row| Answer::Logits(row).capped(cap)).collect())
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn hyperparameters(&self) -> &Hyperparameters {
        &self.model.architecture.sizes
    }

    fn verifies(&self) -> bool {
        true
    }

    fn create_cache(&mut self) -> Result<CacheId> {
        Ok(self.caches.add(self.model.new_cache()))
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.caches.remove(cache);
    }

    fn truncate_cache(&mut self, cache: CacheId, length: usize) -> usize {
        let Some(cache) = self.caches.get_mut(cache) else { return 0 };
        cache.truncate(length);
        cache.length()
    }

    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<usize>> {
        let copied = match self.caches.pair(from, to) {
            Some((source, target)) => target.copy_prefix(source, length).map(|()| target.length()).map_err(AiError::from),
            None => Ok(0),
        };
        Box::pin(ready(copied))
    }

    fn reserve(&mut self, cache: CacheId, additional: usize) -> LocalFuture<'_, Result<()>> {
        Box::pin(ready(self.caches.get_mut(cache).map_or(Ok(()), |cache| Ok(cache.reserve(additional)?))))
    }

    fn prepare_adapter<'a>(&'a mut self, _: &'a Rc<Adapter>) -> LocalFuture<'a, Result<()>> {
        Box::pin(ready(Ok(())))
    }

    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answer>>> {
        Box::pin(ready(self.run(batch)))
    }
}
