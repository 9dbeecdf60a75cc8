//! LoRA adapters (Hu et al. 2021): beside a matrix `W` of the model, two small ones, with which a product becomes `W·x + scale · B·(A·x)`.
//!
//! `peft` and `gguf` read the two forms in which people have adapters, `safetensors` the file format of the first; `load` checks an adapter
//! against its model and reads its numbers. The backends compute with an [`Adapter`]; the model's own weights are never changed.

mod gguf;
mod listing;
mod load;
mod peft;
mod safetensors;

pub use load::load;

use crate::error::{AiError, ErrorCode};
use crate::gguf::Source;
use crate::model::Role;
use kernels::packed::Packed;
use std::collections::HashMap;
use std::rc::Rc;

/// The largest rank of an adapter.
pub const MAX_RANK: usize = 64;

/// Identifies an adapter. Keys and values that are computed with another one are others, also for the same tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AdapterId(pub u64);

/// The files of an adapter.
#[derive(Clone)]
pub enum AdapterFiles {
    /// What llama.cpp's `convert_lora_to_gguf.py` writes.
    Gguf(Rc<dyn Source>),
    /// What the Python library PEFT writes: `adapter_config.json` and `adapter_model.safetensors`.
    Peft { config: Rc<dyn Source>, weights: Rc<dyn Source> },
}

/// An adapter of one model's matrices.
pub struct Adapter {
    pub id: AdapterId,
    /// As requests name it.
    pub name: String,
    matrices: HashMap<Role, LowRank>,
}

impl Adapter {
    pub fn new(id: AdapterId, name: String, matrices: HashMap<Role, LowRank>) -> Self {
        Self { id, name, matrices }
    }

    /// What is added to the product with this matrix of the model, if the adapter has it.
    pub fn matrix(&self, role: Role) -> Option<&LowRank> {
        self.matrices.get(&role)
    }

    /// Every adapted matrix, with its role.
    pub fn matrices(&self) -> impl Iterator<Item = (Role, &LowRank)> {
        self.matrices.iter().map(|(role, matrix)| (*role, matrix))
    }
}

impl std::fmt::Debug for Adapter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Adapter").field("id", &self.id).field("name", &self.name).finish_non_exhaustive()
    }
}

/// A matrix `[outputs, inputs]` of low rank: `scale · B·A`.
pub struct LowRank {
    /// `[rank, inputs]`. Matrices that are one tensor in the adapter share it.
    pub a: Rc<Packed>,
    /// `[outputs, rank]`, with the rows in the order of the model's matrix in memory.
    pub b: Packed,
    pub scale: f32,
}

impl LowRank {
    pub fn rank(&self) -> usize {
        self.a.rows
    }
}

/// 5005: an adapter that cannot be used.
pub(crate) fn unsupported(text: impl Into<String>) -> AiError {
    AiError::new(ErrorCode::LoraUnsupported, text)
}
