//! The header of a safetensors file: eight bytes with its length, then JSON with the place of every tensor. Format:
//! <https://github.com/huggingface/safetensors#format>.

use super::load::{Tensor, read_bytes};
use super::unsupported;
use crate::error::Result;
use crate::gguf::Reader;
use kernels::Format;
use serde_json::{Map, Value};

/// Bytes above which a header counts as damaged. Those of adapters have some hundred kilobytes.
const MAX_HEADER: u64 = 16 << 20;

/// The tensors of the file that the reader is at the start of, in any order.
///
/// # Errors
///
/// 5005 if the header is damaged or lists a tensor of another type than F32, F16 and BF16; the errors of `reader`.
pub async fn tensors(reader: &mut Reader) -> Result<Vec<Tensor>> {
    let name = reader.name();
    let damaged = |reason: &str| unsupported(format!("{name} is not a safetensors file, or damaged: {reason}."));
    let length: [u8; 8] = read_bytes(reader, 0, 8).await?.try_into().unwrap_or_default();
    let length = u64::from_le_bytes(length);
    if length > MAX_HEADER {
        return Err(damaged(&format!("its header would have {length} bytes, at most {MAX_HEADER} are supported")));
    }
    let start = 8 + length;
    let header = read_bytes(reader, 8, length).await?;
    let Ok(Value::Object(listed)) = serde_json::from_slice(&header) else { return Err(damaged("its header is not a JSON object")) };
    let tensors = listed.iter().filter(|(name, _)| *name != "__metadata__");
    tensors
        .map(|(tensor, entry)| {
            entry
                .as_object()
                .and_then(|entry| place(tensor, entry, start))
                .unwrap_or_else(|| Err(damaged(&format!("the entry of '{tensor}' makes no sense"))))
        })
        .collect()
}

/// A tensor from its entry in the header; `None` if the entry contradicts itself.
fn place(name: &str, entry: &Map<String, Value>, start: u64) -> Option<Result<Tensor>> {
    let format = match entry.get("dtype")?.as_str()? {
        "F32" => Format::F32,
        "F16" => Format::F16,
        "BF16" => Format::Bf16,
        other => return Some(Err(unsupported(format!("its tensor '{name}' is of type {other}, but must be F32, F16 or BF16.")))),
    };
    let numbers = |key: &str| entry.get(key)?.as_array()?.iter().map(Value::as_u64).collect::<Option<Vec<u64>>>();
    let shape = numbers("shape")?;
    let [first, end] = numbers("data_offsets")?.try_into().ok()?;
    let elements = shape.iter().try_fold(1u64, |product, dimension| product.checked_mul(*dimension))?;
    let length = elements.checked_mul(format.file_bytes() as u64)?;
    if end.checked_sub(first)? != length {
        return None;
    }
    let shape = shape.into_iter().map(|dimension| usize::try_from(dimension).ok()).collect::<Option<_>>()?;
    Some(Ok(Tensor { name: name.to_owned(), format, shape, offset: start.checked_add(first)?, length }))
}
