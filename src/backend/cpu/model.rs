//! What a model is on the CPU: its weights and its steps, which never change. What changes is in a backend or an encoding, so both can
//! share it.

use super::weights::{CpuWeights, Weights};
use crate::error::{AiError, Result};
use crate::model::{Architecture, RopeFrequencies, Step};
use kernels::kv_cache::{KvCache, MAX_HEAD_WIDTH, Shape};

/// A model in memory.
pub struct CpuModel {
    pub architecture: Architecture,
    pub steps: Vec<Step>,
    pub weights: Weights,
    pub ropes: Vec<RopeFrequencies>,
}

impl CpuModel {
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
        Ok(Self { architecture, steps, weights, ropes })
    }

    /// An empty KV cache.
    pub fn new_cache(&self) -> KvCache {
        let sizes = &self.architecture.sizes;
        KvCache::new(Shape { layers: sizes.layers, kv_heads: sizes.kv_heads, head_width: sizes.head_width })
    }
}
