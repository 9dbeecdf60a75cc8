//! The header of a safetensors file: eight bytes with its length, then JSON with the place of every tensor. Format:
//! <https://github.com/huggingface/safetensors#format>.

use super::listing::{Tensor, read_bytes};
use super::unsupported;
use crate::error::Result;
use crate::gguf::Reader;
use kernels::Format;
use serde_json::Value;

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
    let mut tensors = Vec::new();
    for (tensor, entry) in &listed {
        if tensor == "__metadata__" {
            continue;
        }
        let Some(place) = place(entry, start) else { return Err(damaged(&format!("the entry of '{tensor}' makes no sense"))) };
        let Place { format, shape, offset, length } = place;
        let Some(format) = format else {
            return Err(unsupported(format!("its tensor '{tensor}' is of type {}, but must be F32, F16 or BF16.", entry["dtype"])));
        };
        tensors.push(Tensor { name: tensor.clone(), format, shape, offset, length });
    }
    Ok(tensors)
}

/// What the header says of a tensor. `format`: `None` for a type that is not supported.
struct Place {
    format: Option<Format>,
    shape: Vec<usize>,
    offset: u64,
    length: u64,
}

/// What an entry of the header says; `None` if it contradicts itself.
fn place(entry: &Value, start: u64) -> Option<Place> {
    let format = match entry.get("dtype")?.as_str()? {
        "F32" => Some(Format::F32),
        "F16" => Some(Format::F16),
        "BF16" => Some(Format::Bf16),
        _ => None,
    };
    let [first, end] = &entry.get("data_offsets")?.as_array()?[..] else { return None };
    let (first, length) = (first.as_u64()?, end.as_u64()?.checked_sub(first.as_u64()?)?);
    let (mut shape, mut bytes) = (Vec::new(), format.map_or(1, Format::file_bytes) as u64);
    for dimension in entry.get("shape")?.as_array()? {
        let dimension = dimension.as_u64()?;
        bytes = bytes.checked_mul(dimension)?;
        shape.push(usize::try_from(dimension).ok()?);
    }
    (format.is_none() || bytes == length).then_some(Place { format, shape, offset: start.checked_add(first)?, length })
}
