//! The forward pass of a llama-architecture model (Touvron et al. 2023) on the CPU.

use super::weights::{CpuWeights, Weights};
use crate::backend::{Answer, Backend, CacheId, Wanted, Work};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::LocalFuture;
use crate::model::{Hyperparameters, RopeFrequencies};
use kernels::attention::attend;
use kernels::kv_cache::{KvCache, MAX_HEAD_WIDTH, Shape};
use kernels::memory::try_grow;
use kernels::operand::Operand;
use kernels::ops;
use kernels::products::Product;
use std::collections::HashMap;
use std::future::ready;

/// A model in memory, with its KV caches and scratch buffers.
pub struct CpuBackend {
    parameters: Hyperparameters,
    weights: Weights,
    rope: RopeFrequencies,
    caches: HashMap<CacheId, KvCache>,
    next_cache: u64,
    scratch: Scratch,
}

/// The activations of a batch, `[rows, width]` each, with the width of the respective operation.
#[derive(Default)]
struct Scratch {
    /// The residual stream.
    stream: Vec<f32>,
    /// The residual stream after RMS norm.
    normed: Operand,
    query: Vec<f32>,
    key: Vec<f32>,
    value: Vec<f32>,
    /// The output of attention, before its output projection.
    attended: Operand,
    /// The gate of the feed-forward network, which SwiGLU then replaces by the inner activations.
    gate: Operand,
    up: Vec<f32>,
    /// The output of attention or of the feed-forward network, which is added to the residual stream.
    delta: Vec<f32>,
    /// RoPE: `cos, sin` of every pair, per row.
    angles: Vec<f32>,
}

impl Scratch {
    /// Resizes the buffers to `rows` rows.
    ///
    /// # Errors
    /// 3040 (out of memory) if they cannot be allocated.
    fn resize(&mut self, rows: usize, p: &Hyperparameters) -> Result<()> {
        let sizes = [
            (&mut self.stream, p.width),
            (&mut self.normed.values, p.width),
            (&mut self.delta, p.width),
            (&mut self.query, p.query_width()),
            (&mut self.key, p.kv_width()),
            (&mut self.value, p.kv_width()),
            (&mut self.attended.values, p.query_width()),
            (&mut self.gate.values, p.ffn_width),
            (&mut self.up, p.ffn_width),
        ];
        for (buffer, width) in sizes {
            let length = rows * width;
            if !try_grow(buffer, length.saturating_sub(buffer.len())) {
                return Err(AiError::out_of_memory("computing a batch", length as u64 * 4));
            }
            buffer.resize(length, 0.0);
        }
        Ok(())
    }
}

impl CpuBackend {
    /// # Errors
    /// 5004 if a weight is missing or the attention heads are wider than [`MAX_HEAD_WIDTH`].
    pub fn new(parameters: Hyperparameters, weights: CpuWeights) -> Result<Self> {
        if parameters.head_width > MAX_HEAD_WIDTH {
            return Err(AiError::invalid_data(format!(
                "The model has attention heads of {} dimensions; up to {MAX_HEAD_WIDTH} are supported.",
                parameters.head_width
            )));
        }
        let weights = weights.build(parameters.layers)?;
        let rope = RopeFrequencies::new(&parameters, weights.rope_divisors.as_deref());
        Ok(Self { parameters, weights, rope, caches: HashMap::new(), next_cache: 0, scratch: Scratch::default() })
    }

    /// Computes a batch; see [`Backend::forward`].
    fn run(&mut self, batch: &[Work<'_>]) -> Result<Vec<Answer>> {
        let Self { parameters: p, weights, rope, caches, scratch, .. } = self;
        let rows = batch.iter().map(|work| work.tokens.len()).sum();
        for (index, work) in batch.iter().enumerate() {
            let twice = batch[..index].iter().any(|earlier| earlier.cache == work.cache);
            let Some(cache) = caches.get_mut(&work.cache).filter(|_| !twice) else {
                return Err(AiError::new(ErrorCode::OutOfCapacity, "A KV cache does not exist or occurs twice in a batch."));
            };
            cache.reserve(work.tokens.len())?;
        }
        scratch.resize(rows, p)?;
        scratch.angles.clear();
        let mut row = 0;
        for work in batch {
            let start = caches[&work.cache].length();
            for (index, token) in work.tokens.iter().enumerate() {
                let token = *token as usize;
                if token >= weights.token_embedding.rows {
                    return Err(AiError::invalid_data(format!("Token {token} is not in the vocabulary.")));
                }
                weights.token_embedding.copy_row(token, &mut scratch.stream[row * p.width..(row + 1) * p.width]);
                rope.push_angles(start + index, &mut scratch.angles);
                row += 1;
            }
        }
        for (index, layer) in weights.layers.iter().enumerate() {
            ops::rms_norm(&scratch.stream, &layer.attention_norm, p.rms_epsilon, &mut scratch.normed.values);
            scratch.normed.quantise(p.width);
            scratch.normed.multiply(&mut [
                Product::new(&layer.query, &mut scratch.query),
                Product::new(&layer.key, &mut scratch.key),
                Product::new(&layer.value, &mut scratch.value),
            ]);
            let angles = scratch.angles.chunks_exact(p.rope_width);
            let queries = scratch.query.chunks_exact_mut(p.query_width());
            for ((query, key), angles) in queries.zip(scratch.key.chunks_exact_mut(p.kv_width())).zip(angles) {
                ops::rope(query, p.head_width, angles);
                ops::rope(key, p.head_width, angles);
            }
            let mut first = 0;
            for work in batch {
                let count = work.tokens.len();
                let Some(cache) = caches.get_mut(&work.cache) else { continue };
                let start = cache.length();
                for offset in 0..count {
                    let columns = (first + offset) * p.kv_width()..(first + offset + 1) * p.kv_width();
                    cache.write(index, start + offset, &scratch.key[columns.clone()], &scratch.value[columns]);
                }
                let rows = first * p.query_width()..(first + count) * p.query_width();
                attend(cache, index, p.heads, start, &scratch.query[rows.clone()], &mut scratch.attended.values[rows]);
                first += count;
            }
            scratch.attended.quantise(p.query_width());
            scratch.attended.multiply(&mut [Product::new(&layer.attention_output, &mut scratch.delta)]);
            ops::add(&mut scratch.stream, &scratch.delta);

            ops::rms_norm(&scratch.stream, &layer.ffn_norm, p.rms_epsilon, &mut scratch.normed.values);
            scratch.normed.quantise(p.width);
            scratch.normed.multiply(&mut [Product::new(&layer.gate, &mut scratch.gate.values), Product::new(&layer.up, &mut scratch.up)]);
            ops::swiglu(&mut scratch.gate.values, &scratch.up, p.ffn_width);
            scratch.gate.quantise(p.ffn_width);
            scratch.gate.multiply(&mut [Product::new(&layer.down, &mut scratch.delta)]);
            ops::add(&mut scratch.stream, &scratch.delta);
        }
        let output = weights.output.as_ref().unwrap_or(&weights.token_embedding);
        let mut logits = Vec::new();
        let mut end = 0;
        for work in batch {
            end += work.tokens.len();
            if work.wanted == Wanted::Nothing {
                continue;
            }
            let last = &scratch.stream[(end - 1) * p.width..end * p.width];
            scratch.normed.values.resize(p.width, 0.0);
            ops::rms_norm(last, &weights.output_norm, p.rms_epsilon, &mut scratch.normed.values);
            scratch.normed.quantise(p.width);
            let mut row = Vec::new();
            if !try_grow(&mut row, p.vocabulary) {
                return Err(AiError::out_of_memory("computing logits", p.vocabulary as u64 * 4));
            }
            row.resize(p.vocabulary, 0.0);
            scratch.normed.multiply(&mut [Product::new(output, &mut row)]);
            logits.push(Answer::Logits(row));
        }
        for work in batch {
            if let Some(cache) = caches.get_mut(&work.cache) {
                cache.commit(work.tokens.len());
            }
        }
        Ok(logits)
    }
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn hyperparameters(&self) -> &Hyperparameters {
        &self.parameters
    }

    fn create_cache(&mut self) -> Result<CacheId> {
        let id = CacheId(self.next_cache);
        self.next_cache += 1;
        let Hyperparameters { layers, kv_heads, head_width, .. } = self.parameters;
        let shape = Shape { layers, kv_heads, head_width };
        self.caches.insert(id, KvCache::new(shape));
        Ok(id)
    }

    fn release_cache(&mut self, cache: CacheId) {
        self.caches.remove(&cache);
    }

    fn truncate_cache(&mut self, cache: CacheId, length: usize) {
        if let Some(cache) = self.caches.get_mut(&cache) {
            cache.truncate(length);
        }
    }

    fn copy_prefix(&mut self, from: CacheId, to: CacheId, length: usize) -> LocalFuture<'_, Result<()>> {
        // Removed from the map, so that both caches can be borrowed at once.
        let Some(mut target) = self.caches.remove(&to) else { return Box::pin(ready(Ok(()))) };
        let copied = self.caches.get(&from).map_or(Ok(()), |source| target.copy_prefix(source, length));
        self.caches.insert(to, target);
        Box::pin(ready(copied.map_err(AiError::from)))
    }

    fn reserve(&mut self, cache: CacheId, additional: usize) -> LocalFuture<'_, Result<()>> {
        Box::pin(ready(self.caches.get_mut(&cache).map_or(Ok(()), |cache| Ok(cache.reserve(additional)?))))
    }

    fn forward<'a>(&'a mut self, batch: &'a [Work<'a>]) -> LocalFuture<'a, Result<Vec<Answer>>> {
        Box::pin(ready(self.run(batch)))
    }
}
