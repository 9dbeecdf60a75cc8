//! What an adapter's files have, before it is compared with a model.

use crate::error::{AiError, Result};
use crate::gguf::Reader;
use crate::model::Role;
use kernels::Format;
use kernels::memory::try_grow;

/// A tensor of an adapter's file.
pub struct Tensor {
    pub name: String,
    pub format: Format,
    /// Slowest dimension first.
    pub shape: Vec<usize>,
    /// Position in bytes from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Which of the two matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// `[rank, inputs]`
    A,
    /// `[outputs, rank]`
    B,
}

/// One of the two tensors beside a matrix of the model.
pub struct Half {
    /// The matrix, as the adapter names it.
    pub matrix: String,
    /// Its roles in the model; none if the model has no such matrix.
    pub roles: Vec<Role>,
    pub side: Side,
    pub tensor: Tensor,
}

/// The order of the rows of query and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// That of the model's GGUF file.
    Gguf,
    /// That of the model that PEFT trained.
    Peft,
}

/// What an adapter's files have.
pub struct Listing {
    pub halves: Vec<Half>,
    pub order: Order,
    /// The factor of a matrix (as the adapter names it) with a rank.
    pub scale: ScaleOf,
}

pub type ScaleOf = Box<dyn Fn(&str, usize) -> Result<f32>>;

/// Bytes `offset..offset + length` of a file, which the reader has not read yet.
///
/// # Errors
///
/// 3040 if there is no memory for them, 5004 if the file ends before; the errors of [`Reader::next`].
pub async fn read_bytes(reader: &mut Reader, offset: u64, length: u64) -> Result<Vec<u8>> {
    let end = offset.saturating_add(length);
    // An incomplete file is found before anything is allocated for it.
    if reader.size().is_some_and(|size| end > size) {
        return Err(reader.truncated(end));
    }
    reader.skip_to(offset).await?;
    let mut bytes = Vec::new();
    if !usize::try_from(length).is_ok_and(|length| try_grow(&mut bytes, length)) {
        return Err(AiError::out_of_memory("loading a LoRA adapter", length));
    }
    while (bytes.len() as u64) < length {
        let missing = usize::try_from(length).unwrap_or(usize::MAX) - bytes.len();
        bytes.extend_from_slice(reader.next_of(end, missing).await?);
    }
    Ok(bytes)
}
