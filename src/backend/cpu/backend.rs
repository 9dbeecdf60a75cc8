//! The forward pass on the CPU: carries out the steps of an architecture.

use super::weights::{CpuWeights, Weights};
use crate::backend::caches::Caches;
use crate::backend::{Answer, Backend, CacheId, Work};
use crate::error::{AiError, Result};
use crate::gguf::LocalFuture;
use crate::lora::Adapter;
use crate::model::{Architecture, Hyperparameters, Role, RopeFrequencies, Slot, Step};
use kernels::attention::attend;
use kernels::kv_cache::{KvCache, MAX_HEAD_WIDTH, Shape};
use kernels::low_rank::LowRankProduct;
use kernels::memory::try_grow;
use kernels::operand::Operand;
use kernels::ops;
use kernels::products::Product;
use std::future::ready;
use std::mem::take;
use std::rc::Rc;

/// A model in memory, with its KV caches and scratch buffers.
pub struct CpuBackend {
    architecture: Architecture,
    steps: Vec<Step>,
    weights: Weights,
    ropes: Vec<RopeFrequencies>,
    caches: Caches<KvCache>,
    scratch: Scratch,
}

/// The activations of a batch.
#[derive(Default)]
struct Scratch {
    /// By [`Slot`]; those that no step uses stay empty.
    slots: [Operand; 9],
    /// The angles of every row, `cos, sin` of each pair, for each of the architecture's ropes.
    angles: Vec<Vec<f32>>,
    low_rank: LowRankProduct,
}

const SLOTS: [Slot; 9] =
    [Slot::Stream, Slot::Normed, Slot::Query, Slot::Key, Slot::Value, Slot::Attended, Slot::Gate, Slot::Up, Slot::Delta];

impl Scratch {
    /// Resizes the buffers to `rows` rows.
    ///
    /// # Errors
    /// 3040 (out of memory) if they cannot be allocated.
    fn resize(&mut self, rows: usize, architecture: &Architecture) -> Result<()> {
        for slot in SLOTS {
            let buffer = self.values(slot);
            let length = rows * architecture.width(slot);
            if !try_grow(buffer, length.saturating_sub(buffer.len())) {
                return Err(AiError::out_of_memory("computing a batch", length as u64 * 4));
            }
            buffer.resize(length, 0.0);
        }
        Ok(())
    }

    fn values(&mut self, slot: Slot) -> &mut Vec<f32> {
        &mut self.slots[slot as usize].values
    }

    /// Calls `work` with the numbers of `read` and of `write`, two different slots.
    fn between(&mut self, read: Slot, write: Slot, work: impl FnOnce(&[f32], &mut [f32])) {
        if let Ok([read, write]) = self.slots.get_disjoint_mut([read as usize, write as usize]) {
            work(&read.values, &mut write.values);
        }
    }
}

impl CpuBackend {
    /// # Errors
    /// 5004 if the attention heads are wider than [`MAX_HEAD_WIDTH`].
    pub fn new(architecture: Architecture, weights: CpuWeights) -> Result<Self> {
        let width = architecture.sizes.head_width;
        if width > MAX_HEAD_WIDTH {
            return Err(AiError::invalid_data(format!(
                "The model has attention heads of {width} dimensions; up to {MAX_HEAD_WIDTH} are supported."
            )));
        }
        let weights = weights.build()?;
        let ropes = architecture.frequencies(weights.rope_divisors.as_deref());
        let steps = architecture.steps();
        Ok(Self { architecture, steps, weights, ropes, caches: Caches::default(), scratch: Scratch::default() })
    }

    /// Computes a batch; see [`Backend::forward`].
    fn run(&mut self, batch: &[Work<'_>]) -> Result<Vec<Answer>> {
        let rows = batch.iter().map(|work| work.tokens().len()).sum();
        self.caches.check(batch, self.architecture.sizes.vocabulary)?;
        for work in batch {
            if let Some(cache) = self.caches.get_mut(work.cache) {
                cache.reserve(work.tokens().len())?;
            }
        }
        self.scratch.resize(rows, &self.architecture)?;
        self.embed(batch)?;
        let Self { architecture, steps, weights, caches, scratch, .. } = self;
        let mut pass = Pass { architecture, weights, caches, scratch, batch, only_wanted: false };
        let last = Step::Rotate { layer: architecture.sizes.layers.saturating_sub(1) };
        for step in &*steps {
            pass.compute(step)?;
            if *step == last && pass.keep_wanted() == 0 {
                break;
            }
        }
        let logits = pass.logits()?;
        for work in batch {
            if let Some(cache) = caches.get_mut(work.cache) {
                cache.commit(work.tokens().len());
            }
        }
        Ok(logits)
    }

    /// Fills the residual stream with the tokens' embeddings, and computes the angles of their positions.
    fn embed(&mut self, batch: &[Work<'_>]) -> Result<()> {
        let Self { architecture, weights, ropes, caches, scratch, .. } = self;
        let (width, scale) = (architecture.sizes.width, architecture.embedding_scale);
        let embedding = weights.matrix(Role::TokenEmbedding)?;
        scratch.angles.resize_with(ropes.len(), Vec::new);
        scratch.angles.iter_mut().for_each(Vec::clear);
        let mut row = 0;
        for work in batch {
            let start = caches.get(work.cache).map_or(0, KvCache::length);
            for (index, token) in work.tokens().iter().enumerate() {
                let stream = &mut scratch.slots[Slot::Stream as usize].values[row * width..(row + 1) * width];
                embedding.copy_row(*token as usize, stream);
                if scale != 1.0 {
                    ops::scale(stream, scale);
                }
                for (rope, angles) in ropes.iter().zip(&mut scratch.angles) {
                    rope.push_angles(start + index, angles);
                }
                row += 1;
            }
        }
        Ok(())
    }
}

/// One forward pass.
struct Pass<'a> {
    architecture: &'a Architecture,
    weights: &'a Weights,
    caches: &'a mut Caches<KvCache>,
    scratch: &'a mut Scratch,
    batch: &'a [Work<'a>],
    /// Whether the rows are only those whose logits are wanted.
    only_wanted: bool,
}

impl Pass<'_> {
    fn compute(&mut self, step: &Step) -> Result<()> {
        let Self { architecture, weights, scratch, .. } = self;
        let p = &architecture.sizes;
        match step {
            Step::Norm { norm, from, to } => {
                let norm = weights.vector(*norm)?;
                scratch.between(*from, *to, |from, to| ops::rms_norm(from, norm, p.rms_epsilon, to));
            }
            Step::Products { from, products } => self.multiply(*from, products)?,
            Step::Bias { bias, to } => {
                let bias = weights.vector(*bias)?;
                for row in scratch.values(*to).chunks_exact_mut(bias.len()) {
                    ops::add(row, bias);
                }
            }
            Step::PartNorm { norm, of } => ops::rms_norm_in_place(scratch.values(*of), weights.vector(*norm)?, p.rms_epsilon),
            Step::Rotate { layer } => self.rotate(*layer),
            Step::Attend { layer } => self.attend(*layer),
            Step::Activate => {
                scratch.between(Slot::Up, Slot::Gate, |up, gate| ops::gated(architecture.activation, gate, up, p.ffn_width));
            }
            Step::Add { from } => scratch.between(*from, Slot::Stream, |from, stream| ops::add(stream, from)),
        }
        Ok(())
    }

    fn multiply(&mut self, from: Slot, products: &[(Role, Slot)]) -> Result<()> {
        let slots = &mut self.scratch.slots;
        slots[from as usize].quantise(self.architecture.width(from));
        // Taken out, so that several can be written at once.
        let mut outputs: Vec<Vec<f32>> = products.iter().map(|(_, to)| take(&mut slots[*to as usize].values)).collect();
        let mut list = Vec::with_capacity(products.len());
        for ((matrix, _), output) in products.iter().zip(&mut outputs) {
            list.push(Product::new(self.weights.matrix(*matrix)?, output));
        }
        slots[from as usize].multiply(&mut list);
        for ((_, to), output) in products.iter().zip(outputs) {
            slots[*to as usize].values = output;
        }
        for (matrix, to) in products {
            let Scratch { slots, low_rank, .. } = &mut *self.scratch;
            if let Ok([from, to]) = slots.get_disjoint_mut([from as usize, *to as usize]) {
                adapt(*matrix, self.batch, self.only_wanted, low_rank, &from.values, &mut to.values)?;
            }
        }
        Ok(())
    }

    /// Rotates queries and keys, and writes keys and values to the caches.
    fn rotate(&mut self, layer: usize) {
        let (p, rope) = (&self.architecture.sizes, self.architecture.layers[layer].rope);
        let Scratch { slots, angles, .. } = &mut *self.scratch;
        let [query, key, value] = [Slot::Query, Slot::Key, Slot::Value].map(|slot| slot as usize);
        let Ok([query, key, value]) = slots.get_disjoint_mut([query, key, value]) else { return };
        let angles = angles[rope].chunks_exact(p.rope_width);
        let queries = query.values.chunks_exact_mut(p.query_width());
        for ((query, key), angles) in queries.zip(key.values.chunks_exact_mut(p.kv_width())).zip(angles) {
            ops::rope(query, p.head_width, angles);
            ops::rope(key, p.head_width, angles);
        }
        let mut queries = query.values.chunks_exact_mut(p.query_width());
        let mut rows = key.values.chunks_exact(p.kv_width()).zip(value.values.chunks_exact(p.kv_width()));
        for work in self.batch {
            let Some(cache) = self.caches.get_mut(work.cache) else { continue };
            let start = cache.length();
            for (index, (key, value)) in rows.by_ref().take(work.tokens().len()).enumerate() {
                cache.write(layer, start + index, key, value);
            }
            if let Some(temperature) = self.architecture.temperature {
                for (position, query) in (start..).zip(queries.by_ref().take(work.tokens().len())) {
                    ops::scale(query, temperature.at(position));
                }
            }
        }
    }

    /// Continues with those rows only whose logits are wanted, and returns their number. In the last layer nothing depends on the others once their
    /// keys and values are in the cache.
    fn keep_wanted(&mut self) -> usize {
        let mut kept = Vec::new();
        let mut end = 0;
        for work in self.batch {
            end += work.tokens().len();
            kept.extend(end - wanted_rows(work)..end);
        }
        for slot in SLOTS {
            let (width, values) = (self.architecture.width(slot), self.scratch.values(slot));
            for (to, from) in kept.iter().enumerate() {
                values.copy_within(from * width..(from + 1) * width, to * width);
            }
            values.truncate(kept.len() * width);
        }
        self.only_wanted = true;
        kept.len()
    }

    fn attend(&mut self, layer: usize) {
        let (p, scoring) = (&self.architecture.sizes, self.architecture.scoring(layer));
        let (batch, caches, only_wanted) = (self.batch, &*self.caches, self.only_wanted);
        self.scratch.between(Slot::Query, Slot::Attended, |query, attended| {
            let mut first = 0;
            for work in batch {
                let tokens = work.tokens().len();
                let count = rows_of(work, only_wanted);
                let Some(cache) = caches.get(work.cache) else { continue };
                let rows = first * p.query_width()..(first + count) * p.query_width();
                attend(cache, layer, p.heads, cache.length() + tokens - count, &scoring, &query[rows.clone()], &mut attended[rows]);
                first += count;
            }
        });
    }

    /// The logits of all rows, after [`Pass::keep_wanted`].
    fn logits(&mut self) -> Result<Vec<Answer>> {
        let Self { architecture, weights, scratch, .. } = self;
        let p = &architecture.sizes;
        let (norm, output) = (weights.vector(Role::OutputNorm)?, weights.output()?);
        scratch.between(Slot::Stream, Slot::Normed, |stream, normed| ops::rms_norm(stream, norm, p.rms_epsilon, normed));
        let normed = &mut scratch.slots[Slot::Normed as usize];
        let count = normed.values.len() / p.width;
        if count == 0 {
            return Ok(Vec::new());
        }
        normed.quantise(p.width);
        let mut rows = Vec::new();
        if !try_grow(&mut rows, count * p.vocabulary) {
            return Err(AiError::out_of_memory("computing logits", (count * p.vocabulary) as u64 * 4));
        }
        rows.resize(count * p.vocabulary, 0.0);
        normed.multiply(&mut [Product::new(output, &mut rows)]);
        adapt(Role::Output, self.batch, true, &mut scratch.low_rank, &normed.values, &mut rows)?;
        // The last rows are split off first, so that one row is not copied.
        let mut own: Vec<Vec<f32>> = (1..count).rev().map(|row| rows.split_off(row * p.vocabulary)).collect();
        own.push(rows);
        Ok(own.into_iter().rev().map(|row| Answer::Logits(row).capped(architecture.logit_softcap)).collect())
    }
}

/// The number of a work's rows, the last ones, whose logits are wanted.
fn wanted_rows(work: &Work<'_>) -> usize {
    work.wanted.answers().min(work.tokens().len())
}

/// The number of a work's rows, all or only those whose logits are wanted.
fn rows_of(work: &Work<'_>, only_wanted: bool) -> usize {
    if only_wanted { wanted_rows(work) } else { work.tokens().len() }
}

/// Adds to the product `output` of a matrix with `input` what the adapters of a batch have beside it. Each work's rows are computed alone, and
/// the rows of works without an adapter stay as they are.
fn adapt(
    matrix: Role,
    batch: &[Work<'_>],
    only_wanted: bool,
    low_rank: &mut LowRankProduct,
    input: &[f32],
    output: &mut [f32],
) -> Result<()> {
    let mut first = 0;
    for work in batch {
        let rows = first..first + rows_of(work, only_wanted);
        first = rows.end;
        if let Some(own) = work.adapter.and_then(|adapter| adapter.matrix(matrix)) {
            low_rank.add(&own.a, &own.b, own.scale, rows, input, output)?;
        }
    }
    Ok(())
}

impl Backend for CpuBackend {
    fn name(&self) -> &'static str {
        "cpu"
    }

    fn hyperparameters(&self) -> &Hyperparameters {
        &self.architecture.sizes
    }

    fn verifies(&self) -> bool {
        true
    }

    fn create_cache(&mut self) -> Result<CacheId> {
        let Hyperparameters { layers, kv_heads, head_width, .. } = self.architecture.sizes;
        let shape = Shape { layers, kv_heads, head_width };
        Ok(self.caches.add(KvCache::new(shape)))
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
