//! The KV cache of one sequence: appended in place, truncatable, its memory taken in steps.

use crate::error::{AiError, Result};
use crate::memory::try_grow;

/// Positions by which the memory grows.
const STEP: usize = 256;

/// Keys and values of every layer, `[position, kv_head, head_width]` each.
pub struct KvCache {
    layers: Vec<LayerCache>,
    kv_width: usize,
    length: usize,
}

/// Keys and values of one layer. While a batch is computed they are longer than the cache says it is.
#[derive(Default)]
pub struct LayerCache {
    pub keys: Vec<f32>,
    pub values: Vec<f32>,
}

impl KvCache {
    pub fn new(layers: usize, kv_width: usize) -> Self {
        Self { layers: (0..layers).map(|_| LayerCache::default()).collect(), kv_width, length: 0 }
    }

    /// Positions that are computed.
    pub fn length(&self) -> usize {
        self.length
    }

    pub fn layer_mut(&mut self, layer: usize) -> &mut LayerCache {
        &mut self.layers[layer]
    }

    /// Every layer got `count` further positions.
    pub fn commit(&mut self, count: usize) {
        self.length += count;
    }

    /// Forgets every position from `length` on. Memory stays for the next positions.
    pub fn truncate(&mut self, length: usize) {
        self.length = self.length.min(length);
        for layer in &mut self.layers {
            layer.keys.truncate(self.length * self.kv_width);
            layer.values.truncate(self.length * self.kv_width);
        }
    }

    /// Makes room for `additional` positions in every layer, or leaves everything as it is.
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        let before = self.capacity();
        if self.length + additional <= before {
            return Ok(());
        }
        let positions = (self.length + additional).next_multiple_of(STEP);
        let (wanted, width) = (positions * self.kv_width, self.kv_width);
        let grown = self.buffers().all(|buffer| try_grow(buffer, wanted - buffer.len()));
        if !grown {
            // What some layers got is of no use without the others, and others may need it.
            self.buffers().for_each(|buffer| buffer.shrink_to(before * width));
            let bytes = (positions - before) * width * self.layers.len() * 2 * size_of::<f32>();
            return Err(AiError::out_of_memory("the context (KV cache)", bytes as u64));
        }
        Ok(())
    }

    /// Positions for which every layer has room.
    fn capacity(&self) -> usize {
        let smallest = self.layers.iter().map(|layer| layer.keys.capacity().min(layer.values.capacity())).min();
        smallest.unwrap_or(0) / self.kv_width.max(1)
    }

    fn buffers(&mut self) -> impl Iterator<Item = &mut Vec<f32>> {
        self.layers.iter_mut().flat_map(|layer| [&mut layer.keys, &mut layer.values])
    }

    /// Holds the first `length` positions of `other` instead of what it held.
    pub fn copy_prefix(&mut self, other: &KvCache, length: usize) -> Result<()> {
        self.truncate(0);
        let length = length.min(other.length);
        self.reserve(length)?;
        for (layer, from) in self.layers.iter_mut().zip(&other.layers) {
            layer.keys.extend_from_slice(&from.keys[..length * self.kv_width]);
            layer.values.extend_from_slice(&from.values[..length * self.kv_width]);
        }
        self.length = length;
        Ok(())
    }
}
