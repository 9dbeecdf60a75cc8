//! The KV cache of one sequence: appended in place, truncatable, its memory taken in steps.

use crate::error::{AiError, Result};

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

    /// Makes room for `additional` positions in every layer, or leaves the contents as they are.
    pub fn reserve(&mut self, additional: usize) -> Result<()> {
        let positions = (self.length + additional).next_multiple_of(STEP);
        let wanted = positions * self.kv_width;
        let grown = self
            .layers
            .iter_mut()
            .flat_map(|layer| [&mut layer.keys, &mut layer.values])
            .all(|numbers| numbers.capacity() >= wanted || numbers.try_reserve_exact(wanted - numbers.len()).is_ok());
        if grown { Ok(()) } else { Err(AiError::out_of_memory("the context (KV cache)", (wanted * self.layers.len() * 8) as u64)) }
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
