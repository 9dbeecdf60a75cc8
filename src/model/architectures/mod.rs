//! The families of models: what the metadata of each says beyond the sizes. A new dense family is a file here and a line in `FAMILIES`.

mod granite;
mod llama;
mod qwen;
mod smollm;

use super::architecture::{Architecture, Metadata};
use crate::error::Result;

/// Completes an [`Architecture`] of these sizes, which is Llama's, with what a family has beyond it.
pub type Family = fn(&Metadata<'_>, &mut Architecture) -> Result<()>;

/// By `general.architecture`.
const FAMILIES: [(&str, Family); 5] = [
    ("llama", llama::complete),
    ("qwen2", qwen::qwen2),
    ("qwen3", qwen::qwen3),
    ("granite", granite::complete),
    ("smollm3", smollm::complete),
];

/// The family of an architecture; `None` if it is not supported.
pub fn family(name: &str) -> Option<Family> {
    FAMILIES.iter().find(|(known, _)| *known == name).map(|(_, family)| *family)
}

/// The supported architectures.
pub fn names() -> impl Iterator<Item = &'static str> {
    FAMILIES.iter().map(|(name, _)| *name)
}
