//! The families of models: what the metadata of each says beyond the sizes. A new dense family is a file here and a line in `FAMILIES`.

mod exaone;
mod gemma;
mod glm;
mod granite;
mod llama;
mod mistral;
mod olmo;
mod phi;
mod qwen;
mod seed;
mod smollm;

use super::architecture::{Architecture, Metadata};
use super::{Hyperparameters, Rope, YarnNumbers};
use crate::error::{AiError, Result};
use crate::gguf::Header;

/// Completes an [`Architecture`] of these sizes, which is Llama's, with what a family has beyond it.
pub type Family = fn(&Metadata<'_>, &mut Architecture) -> Result<()>;

/// By `general.architecture`.
const FAMILIES: [(&str, Family); 14] = [
    ("llama", llama::complete),
    ("mistral3", mistral::mistral3),
    ("qwen2", qwen::qwen2),
    ("qwen3", qwen::qwen3),
    ("gemma2", gemma::gemma2),
    ("gemma3", gemma::gemma3),
    ("gemma-embedding", gemma::embedding),
    ("phi3", phi::complete),
    ("granite", granite::complete),
    ("smollm3", smollm::complete),
    ("olmo2", olmo::olmo2),
    ("exaone4", exaone::exaone4),
    ("glm4", glm::glm4),
    ("seed_oss", seed::seed_oss),
];

impl Architecture {
    /// Reads and checks the metadata. `name` is the file's name, for messages.
    ///
    /// # Errors
    ///
    /// 5004 if the architecture is not supported, or if a value is missing, out of range or inconsistent.
    pub fn from_header(header: &Header, name: &str) -> Result<Self> {
        let kind = header.text("general.architecture").unwrap_or("unknown");
        let Some((known, family)) = FAMILIES.iter().find(|(known, _)| *known == kind) else {
            return Err(AiError::invalid_data(format!(
                "{name} has the architecture '{kind}', which is not supported. Use a GGUF of one of these: {}.",
                FAMILIES.map(|(known, _)| known).join(", ")
            )));
        };
        let metadata = Metadata { header, prefix: kind, name };
        if metadata.integer("expert_count").unwrap_or(0) > 0 {
            return Err(AiError::invalid_data(format!(
                "{name} is a mixture of experts, which is not supported. Use a dense {kind} model."
            )));
        }
        let mut architecture = Self::new(Hyperparameters::from_metadata(&metadata)?);
        architecture.family = known;
        architecture.ropes = vec![Rope::from_metadata(&metadata, YarnNumbers::default())?];
        architecture.biases = metadata.has_tensor("blk.0.attn_q.bias") || metadata.has_tensor("blk.0.attn_qkv.bias");
        architecture.symmetric = metadata.flag("attention.causal") == Some(false);
        architecture.embedding = metadata.embedding(architecture.sizes.width)?;
        family(&metadata, &mut architecture)?;
        if architecture.symmetric && architecture.embedding.is_none() {
            return Err(metadata.unusable("its attention is not causal, and it has no kind of pooling ('pooling_type')"));
        }
        Ok(architecture)
    }
}
