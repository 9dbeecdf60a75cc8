//! A forward pass on the CPU: carries out the steps of an architecture for a batch.
//!
//! Activations are row-major `[rows, width]` in scratch buffers that live longer than a pass: a token allocates little more than its logits. A batch
//! of several sequences reads each matrix once.

use super::model::CpuModel;
use crate::backend::Work;
use crate::backend::caches::Caches;
use crate::error::{AiError, Result};
use crate::model::{Architecture, Role, Slot, Step};
use kernels::attention::attend;
use kernels::kv_cache::KvCache;
use kernels::low_rank::LowRankProduct;
use kernels::memory::try_grow;
use kernels::operand::Operand;
use kernels::ops;
use kernels::products::Product;
use std::mem::take;

/// The activations of a batch.
#[derive(Default)]
pub struct Scratch {
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

/// One forward pass. Keys and values of the batch are written behind the cache's length, which stays; see [`Pass::commit`].
pub struct Pass<'a> {
    pub model: &'a CpuModel,
    pub caches: &'a mut Caches<KvCache>,
    pub scratch: &'a mut Scratch,
    pub batch: &'a [Work<'a>],
    /// How many rows of each work, the last ones, go on when nothing depends on the others any more.
    pub wanted: &'a [usize],
    /// How many rows of each work are computed: all, then the wanted ones. [`Pass::begin`] fills it.
    pub rows: &'a mut Vec<usize>,
}

impl Pass<'_> {
    /// Makes room for the batch, fills the residual stream with the tokens' embeddings, and computes the angles of their positions.
    ///
    /// # Errors
    ///
    /// 3040 if memory runs out.
    pub fn begin(&mut self) -> Result<()> {
        for work in self.batch {
            if let Some(cache) = self.caches.get_mut(work.cache) {
                cache.reserve(work.tokens().len())?;
            }
        }
        self.rows.clear();
        self.rows.extend(self.batch.iter().map(|work| work.tokens().len()));
        self.scratch.resize(self.rows.iter().sum(), &self.model.architecture)?;
        self.embed()
    }

    /// Whether nothing behind this step depends on rows that are not wanted: their keys and values are in the cache of the last layer.
    pub fn ends_for_unwanted(&self, step: &Step) -> bool {
        *step == Step::Rotate { layer: self.model.architecture.sizes.layers.saturating_sub(1) }
    }

    /// The positions of the batch belong to the caches from now on.
    pub fn commit(&mut self) {
        for work in self.batch {
            if let Some(cache) = self.caches.get_mut(work.cache) {
                cache.commit(work.tokens().len());
            }
        }
    }

    fn embed(&mut self) -> Result<()> {
        let CpuModel { architecture, weights, ropes, .. } = self.model;
        let Self { caches, scratch, .. } = self;
        let (width, scale) = (architecture.sizes.width, architecture.embedding_scale);
        let embedding = weights.matrix(Role::TokenEmbedding)?;
        scratch.angles.resize_with(ropes.len(), Vec::new);
        scratch.angles.iter_mut().for_each(Vec::clear);
        let mut row = 0;
        for work in self.batch {
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

    /// Computes a step.
    ///
    /// # Errors
    ///
    /// 5004 if the model lacks a tensor.
    pub fn compute(&mut self, step: &Step) -> Result<()> {
        let CpuModel { architecture, weights, .. } = self.model;
        let scratch = &mut *self.scratch;
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
        slots[from as usize].quantise(self.model.architecture.width(from));
        // Taken out, so that several can be written at once.
        let mut outputs: Vec<Vec<f32>> = products.iter().map(|(_, to)| take(&mut slots[*to as usize].values)).collect();
        let mut list = Vec::with_capacity(products.len());
        for ((matrix, _), output) in products.iter().zip(&mut outputs) {
            list.push(Product::new(self.model.weights.matrix(*matrix)?, output));
        }
        slots[from as usize].multiply(&mut list);
        for ((_, to), output) in products.iter().zip(outputs) {
            slots[*to as usize].values = output;
        }
        for (matrix, to) in products {
            let Scratch { slots, low_rank, .. } = &mut *self.scratch;
            if let Ok([from, to]) = slots.get_disjoint_mut([from as usize, *to as usize]) {
                adapt(*matrix, self.batch, self.rows, low_rank, &from.values, &mut to.values)?;
            }
        }
        Ok(())
    }

    /// Rotates queries and keys, and writes keys and values to the caches.
    fn rotate(&mut self, layer: usize) {
        let architecture = &self.model.architecture;
        let (p, rope) = (&architecture.sizes, architecture.layers[layer].rope);
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
            if let Some(temperature) = architecture.temperature {
                for (position, query) in (start..).zip(queries.by_ref().take(work.tokens().len())) {
                    ops::scale(query, temperature.at(position));
                }
            }
        }
    }

    /// Continues with the wanted rows only, and returns their number; see [`Pass::ends_for_unwanted`].
    pub fn keep_wanted(&mut self) -> usize {
        let mut kept = Vec::new();
        let mut end = 0;
        for (work, wanted) in self.batch.iter().zip(self.wanted) {
            end += work.tokens().len();
            kept.extend(end - wanted..end);
        }
        for slot in SLOTS {
            let (width, values) = (self.model.architecture.width(slot), self.scratch.values(slot));
            for (to, from) in kept.iter().enumerate() {
                values.copy_within(from * width..(from + 1) * width, to * width);
            }
            values.truncate(kept.len() * width);
        }
        self.rows.clear();
        self.rows.extend(self.wanted);
        kept.len()
    }

    fn attend(&mut self, layer: usize) {
        let architecture = &self.model.architecture;
        let (p, scoring) = (&architecture.sizes, architecture.scoring(layer));
        let (caches, rows) = (&*self.caches, &*self.rows);
        self.scratch.between(Slot::Query, Slot::Attended, |query, attended| {
            let mut first = 0;
            for (work, &count) in self.batch.iter().zip(rows) {
                let Some(cache) = caches.get(work.cache) else { continue };
                let end = cache.length() + work.tokens().len();
                let rows = first * p.query_width()..(first + count) * p.query_width();
                attend(cache, layer, p.heads, end - count..end, &scoring, &query[rows.clone()], &mut attended[rows]);
                first += count;
            }
        });
    }

    /// The output norm of all rows, after [`Pass::keep_wanted`].
    ///
    /// # Errors
    ///
    /// 5004 if the model lacks the norm.
    pub fn normed(&mut self) -> Result<&mut Operand> {
        let CpuModel { architecture, weights, .. } = self.model;
        let norm = weights.vector(Role::OutputNorm)?;
        self.scratch.between(Slot::Stream, Slot::Normed, |stream, normed| {
            ops::rms_norm(stream, norm, architecture.sizes.rms_epsilon, normed);
        });
        Ok(&mut self.scratch.slots[Slot::Normed as usize])
    }

    /// The logits of all rows, after [`Pass::keep_wanted`].
    ///
    /// # Errors
    ///
    /// 3040 if memory runs out.
    pub fn logits(&mut self) -> Result<Vec<Vec<f32>>> {
        let CpuModel { architecture, weights, .. } = self.model;
        let p = &architecture.sizes;
        let output = weights.output()?;
        let normed = self.normed()?;
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
        let Scratch { slots, low_rank, .. } = &mut *self.scratch;
        adapt(Role::Output, self.batch, self.rows, low_rank, &slots[Slot::Normed as usize].values, &mut rows)?;
        // The last rows are split off first, so that one row is not copied.
        let mut own: Vec<Vec<f32>> = (1..count).rev().map(|row| rows.split_off(row * p.vocabulary)).collect();
        own.push(rows);
        own.reverse();
        Ok(own)
    }
}

/// Adds to the product `output` of a matrix with `input` what the adapters of a batch have beside it. Each work's rows, as many as `rows` says, are
/// computed alone, and the rows of works without an adapter stay as they are.
fn adapt(matrix: Role, batch: &[Work<'_>], rows: &[usize], low_rank: &mut LowRankProduct, input: &[f32], output: &mut [f32]) -> Result<()> {
    let mut first = 0;
    for (work, count) in batch.iter().zip(rows) {
        let rows = first..first + count;
        first = rows.end;
        if let Some(own) = work.adapter.and_then(|adapter| adapter.matrix(matrix)) {
            low_rank.add(&own.a, &own.b, own.scale, rows, input, output)?;
        }
    }
    Ok(())
}
