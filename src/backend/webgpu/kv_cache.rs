//! The KV cache of one sequence on the GPU, in f16. New positions are appended in place, it can be truncated, and its buffers are
//! replaced by larger ones as the context grows.

use super::context::{Context, OwnedBuffer};
use super::scratch::Scratch;
use super::shaders::{Bindings, Pipelines};
use crate::error::{AiError, Result};
use crate::model::{Architecture, Hyperparameters};

/// The keys and values of every layer.
#[derive(Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    length: usize,
    /// Positions that fit into the buffers.
    capacity: usize,
}

/// One layer's buffer, keys `[capacity, kv_width]` followed by values of the same shape, and the bind groups that contain it.
pub struct LayerCache {
    buffer: OwnedBuffer,
    pub rope: wgpu::BindGroup,
    pub attention: wgpu::BindGroup,
}

/// Capacities are multiples of this number of positions.
const STEP: usize = 256;

impl KvCache {
    /// Positions that have been computed.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Positions that fit into the buffers. The capacity identifies the buffers: whenever they are replaced, it changes.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Records that `count` further positions were written to every layer.
    pub fn commit(&mut self, count: usize) {
        self.length += count;
    }

    /// Drops all positions from position `length` on, and returns how many are left. Keeps the buffers.
    pub fn truncate(&mut self, length: usize) -> usize {
        self.length = self.length.min(length);
        self.length
    }

    /// The buffer and bind groups of a layer; `None` before the first `grow`.
    pub fn layer(&self, layer: usize) -> Option<&LayerCache> {
        self.layers.get(layer)
    }

    /// Where the values begin in a layer's buffer, in groups of four f16 numbers.
    pub fn values_offset(&self, p: &Hyperparameters) -> usize {
        self.capacity * p.kv_width() / 4
    }

    /// Makes room for `positions` positions in all.
    ///
    /// # Errors
    ///
    /// 3040 if there is no memory for them, or a layer's buffer would be larger than the adapter allows. The cache is then unchanged.
    pub async fn grow(
        &mut self,
        context: &Context,
        pipelines: &Pipelines,
        scratch: &Scratch,
        architecture: &Architecture,
        positions: usize,
    ) -> Result<()> {
        if positions > self.capacity {
            *self =
                context.checked("the context (KV cache)", || self.larger(context, pipelines, scratch, architecture, positions)).await??;
        }
        Ok(())
    }

    /// A copy with room for `positions` positions. The capacity at least doubles, up to the model's context length, so that growing is
    /// rare.
    fn larger(
        &self,
        context: &Context,
        pipelines: &Pipelines,
        scratch: &Scratch,
        architecture: &Architecture,
        positions: usize,
    ) -> Result<Self> {
        let p = &architecture.sizes;
        let doubled = (2 * self.capacity).min(p.positions);
        let capacity = positions.max(doubled).next_multiple_of(STEP);
        let mut larger = Self { layers: Vec::new(), length: 0, capacity };
        for layer in &architecture.layers {
            let angles = scratch.angles.get(layer.rope).ok_or_else(|| AiError::invalid_data("A layer has no angles."))?;
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            let buffer = context.create_owned_buffer("the context (KV cache)", 2 * bytes(p, capacity), usage)?;
            larger.layers.push(LayerCache {
                rope: pipelines.bind(context, Bindings::Rope, &[&scratch.query, &scratch.key, &scratch.value, angles, &buffer])?,
                attention: pipelines.bind(
                    context,
                    Bindings::Attention,
                    &[&scratch.query, &buffer, &scratch.attended, &scratch.partials],
                )?,
                buffer,
            });
        }
        larger.copy(context, p, self, self.length);
        Ok(larger)
    }

    /// Replaces the content by the first `length` positions of `other`. The capacity must suffice.
    pub fn copy(&mut self, context: &Context, p: &Hyperparameters, other: &KvCache, length: usize) {
        self.length = length.min(other.length);
        if self.length == 0 {
            return;
        }
        let mut encoder = context.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        let size = bytes(p, self.length);
        for (to, from) in self.layers.iter().zip(&other.layers) {
            encoder.copy_buffer_to_buffer(&from.buffer, 0, &to.buffer, 0, size);
            encoder.copy_buffer_to_buffer(&from.buffer, bytes(p, other.capacity), &to.buffer, bytes(p, self.capacity), size);
        }
        context.submit(encoder.finish());
    }
}

/// Bytes of a layer's keys, or of its values, for `positions` positions.
fn bytes(p: &Hyperparameters, positions: usize) -> u64 {
    (positions * p.kv_width() * 2) as u64
}
