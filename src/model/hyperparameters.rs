//! Sizes and constants of a llama-architecture model.

use super::rope::RopeScaling;
use crate::error::{AiError, Result};
use crate::gguf::Header;

/// Sizes and constants of a llama-architecture model, read from its metadata.
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
    pub rope_base: f64,
    pub rope_scaling: RopeScaling,
}

/// No model has larger sizes; a file that claims a larger one is damaged.
const MAX_DIMENSION: u64 = 1 << 24;

impl Hyperparameters {
    /// Reads and checks the metadata. `name` is the file's name, for messages.
    ///
    /// # Errors
    ///
    /// 5004 if the architecture is not supported, or if a value is missing, out of range or inconsistent.
    pub fn from_header(header: &Header, name: &str) -> Result<Self> {
        let architecture = header.text("general.architecture").unwrap_or("unknown");
        if architecture != "llama" {
            return Err(AiError::invalid_data(format!(
                "{name} has the architecture '{architecture}', which is not supported. Use a GGUF of architecture 'llama' (Llama 2 and 3, Mistral, SmolLM2, TinyLlama …)."
            )));
        }
        let optional = |key: &str| header.integer(&format!("llama.{key}"));
        let required = |key: &str| {
            optional(key).filter(|value| (1..=MAX_DIMENSION).contains(value)).map(|value| value as usize).ok_or_else(|| {
                AiError::invalid_data(format!("{name} cannot be used as a model: 'llama.{key}' is missing or out of range."))
            })
        };
        if optional("expert_count").unwrap_or(0) > 0 {
            return Err(AiError::invalid_data(format!("{name} is a mixture of experts, which is not supported. Use a dense llama model.")));
        }
        let (width, heads) = (required("embedding_length")?, required("attention.head_count")?);
        let head_width = match optional("attention.key_length") {
            Some(_) => required("attention.key_length")?,
            None => width / heads,
        };
        let vocabulary = header.array("tokenizer.ggml.tokens").map(<[_]>::len).unwrap_or(0);
        let parameters = Self {
            layers: required("block_count")?,
            width,
            heads,
            kv_heads: match optional("attention.head_count_kv") {
                Some(_) => required("attention.head_count_kv")?,
                None => heads,
            },
            head_width,
            rope_width: match optional("rope.dimension_count") {
                Some(_) => required("rope.dimension_count")?,
                None => head_width,
            },
            ffn_width: required("feed_forward_length")?,
            vocabulary,
            positions: required("context_length")?,
            rms_epsilon: header.number("llama.attention.layer_norm_rms_epsilon").unwrap_or(1e-5) as f32,
            rope_base: header.number("llama.rope.freq_base").unwrap_or(10_000.0),
            rope_scaling: RopeScaling::from_header(header, name)?,
        };
        let in_range = |heads: usize| heads.checked_mul(parameters.head_width).is_some_and(|width| width as u64 <= MAX_DIMENSION);
        let consistent = parameters.heads.is_multiple_of(parameters.kv_heads)
            && in_range(parameters.heads)
            && parameters.rope_width.is_multiple_of(2)
            && parameters.rope_width <= parameters.head_width
            && parameters.rope_base > 0.0
            && vocabulary > 0;
        if !consistent {
            return Err(AiError::invalid_data(format!(
                "{name} cannot be used as a model: its numbers contradict each other ({} heads, {} of keys and values, of {} dimensions, {} of them rotated, with the base {}; {vocabulary} tokens).",
                parameters.heads, parameters.kv_heads, parameters.head_width, parameters.rope_width, parameters.rope_base
            )));
        }
        Ok(parameters)
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
