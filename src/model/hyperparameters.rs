//! The sizes of a model.

use super::architecture::{MAX_DIMENSION, Metadata};
use crate::error::Result;

/// The sizes of a model, read from its metadata.
#[derive(Debug, Clone, PartialEq)]
pub struct Hyperparameters {
    pub layers: usize,
    /// Width of the residual stream.
    pub width: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads (GQA: fewer than query heads).
    pub kv_heads: usize,
    /// Width of one head.
    pub head_width: usize,
    /// Dimensions of a head that RoPE rotates; the others stay unchanged.
    pub rope_width: usize,
    /// Inner width of the feed-forward network.
    pub ffn_width: usize,
    /// Number of vocabulary entries.
    pub vocabulary: usize,
    /// Context length (tokens) that the model was trained for.
    pub positions: usize,
    pub rms_epsilon: f32,
}

/// More than any model has; every layer costs memory before its weights are read.
const MAX_LAYERS: usize = 1024;

impl Hyperparameters {
    /// Reads and checks the sizes.
    ///
    /// # Errors
    ///
    /// 5004 if a value is missing, out of range or inconsistent.
    pub fn from_metadata(metadata: &Metadata<'_>) -> Result<Self> {
        let (width, heads) = (metadata.size("embedding_length")?, metadata.size("attention.head_count")?);
        let head_width = metadata.size_or("attention.key_length", width / heads)?;
        let vocabulary = metadata.header.array("tokenizer.ggml.tokens").map(<[_]>::len).unwrap_or(0);
        let sizes = Self {
            layers: metadata.size("block_count")?,
            width,
            heads,
            kv_heads: metadata.size_or("attention.head_count_kv", heads)?,
            head_width,
            rope_width: metadata.size_or("rope.dimension_count", head_width)?,
            ffn_width: metadata.size("feed_forward_length")?,
            vocabulary,
            positions: metadata.size("context_length")?,
            rms_epsilon: metadata.number("attention.layer_norm_rms_epsilon").unwrap_or(1e-5) as f32,
        };
        let in_range = |heads: usize| heads.checked_mul(head_width).is_some_and(|width| width as u64 <= MAX_DIMENSION);
        let consistent = heads.is_multiple_of(sizes.kv_heads)
            && in_range(heads)
            && metadata.size_or("attention.value_length", head_width)? == head_width
            && sizes.rope_width.is_multiple_of(2)
            && sizes.rope_width <= head_width
            && vocabulary > 0
            && sizes.layers <= MAX_LAYERS;
        if !consistent {
            return Err(metadata.unusable(&format!(
                "its numbers contradict each other or are too large ({} layers; {heads} heads, {} of keys and values, of {head_width} dimensions, {} of them rotated; {vocabulary} tokens)",
                sizes.layers, sizes.kv_heads, sizes.rope_width
            )));
        }
        Ok(sizes)
    }

    /// Width of the keys (and of the values) of one position, over all KV heads.
    pub fn kv_width(&self) -> usize {
        self.kv_heads * self.head_width
    }

    /// Width of the queries of one position, over all heads.
    pub fn query_width(&self) -> usize {
        self.heads * self.head_width
    }
}
