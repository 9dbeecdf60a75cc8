//! The KV cache of one sequence on the GPU: f16, appended in place, truncatable, its buffers replaced by larger ones as the context grows.

use super::context::{Context, OwnedBuffer};
use super::forward::Scratch;
use super::shaders::{Bindings, Pipelines};
use crate::error::Result;
use crate::model::Hyperparameters;

/// Keys and values of every layer.
#[derive(Default)]
pub struct KvCache {
    layers: Vec<LayerCache>,
    length: usize,
    /// Positions that there is room for.
    capacity: usize,
}

/// One layer's buffer: keys `[capacity, kv_width]`, then values; and the bind groups that it stands in.
pub struct LayerCache {
    buffer: OwnedBuffer,
    pub rope: wgpu::BindGroup,
    pub attention: wgpu::BindGroup,
}

/// Positions of a fresh cache, and what it is rounded up to.
const STEP: usize = 256;

impl KvCache {
    /// Positions that are computed.
    pub fn length(&self) -> usize {
        self.length
    }

    /// Positions that there is room for. Other buffers have other room.
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Every layer got `count` further positions.
    pub fn commit(&mut self, count: usize) {
        self.length += count;
    }

    /// Forgets every position from `length` on.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
    }

    pub fn layer(&self, layer: usize) -> Option<&LayerCache> {
        self.layers.get(layer)
    }

    /// Where values begin in a layer's buffer, in groups of four numbers.
    pub fn values_offset(&self, p: &Hyperparameters) -> usize {
        self.capacity * p.kv_width() / 4
    }

    /// Makes room for `positions` positions; without memory for that everything stays as it is.
    pub async fn grow(
        &mut self,
        context: &Context,
        pipelines: &Pipelines,
        scratch: &Scratch,
        p: &Hyperparameters,
        positions: usize,
    ) -> Result<()> {
        if positions > self.capacity {
            *self = context.checked("the context (KV cache)", || self.larger(context, pipelines, scratch, p, positions)).await??;
        }
        Ok(())
    }

    /// A copy with room for `positions` positions. Room at least doubles, so that growing is rare.
    fn larger(&self, context: &Context, pipelines: &Pipelines, scratch: &Scratch, p: &Hyperparameters, positions: usize) -> Result<Self> {
        let doubled = (2 * self.capacity).min(p.positions);
        let capacity = positions.max(doubled).next_multiple_of(STEP);
        let mut larger = Self { layers: Vec::new(), length: 0, capacity };
        for _ in 0..p.layers {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
            let buffer = context.create_owned_buffer("the context (KV cache)", 2 * bytes(p, capacity), usage)?;
            larger.layers.push(LayerCache {
                rope: pipelines.bind(context, Bindings::Rope, &[&scratch.query, &scratch.key, &scratch.value, &scratch.angles, &buffer])?,
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

    /// Takes over the first `length` positions of `other`; there is room for them.
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

/// Bytes of the keys, or of the values, of so many positions of a layer.
fn bytes(p: &Hyperparameters, positions: usize) -> u64 {
    (positions * p.kv_width() * 2) as u64
}
