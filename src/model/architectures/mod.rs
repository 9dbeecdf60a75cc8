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
use crate::error::Result;

/// Completes an [`Architecture`] of these sizes, which is Llama's, with what a family has beyond it.
pub type Family = fn(&Metadata<'_>, &mut Architecture) -> Result<()>;

/// By `general.architecture`.
const FAMILIES: [(&str, Family); 13] = [
    ("llama", llama::complete),
    ("mistral3", mistral::mistral3),
    ("qwen2", qwen::qwen2),
    ("qwen3", qwen::qwen3),
    ("gemma2", gemma::gemma2),
    ("gemma3", gemma::gemma3),
    ("phi3", phi::complete),
    ("granite", granite::complete),
    ("smollm3", smollm::complete),
    ("olmo2", olmo::olmo2),
    ("exaone4", exaone::exaone4),
    ("glm4", glm::glm4),
    ("seed_oss", seed::seed_oss),
];

/// The family of an architecture; `None` if it is not supported.
pub fn family(name: &str) -> Option<Family> {
    FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family)
}

/// The supported architectures.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}
