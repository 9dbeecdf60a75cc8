//! The header of a safetensors file: its length, then JSON with the place of each tensor.

use crate::error::{Error, Result};
use crate::header::{Header, Numbers, Place};
use serde::Deserialize;
use std::collections::BTreeMap;

/// No header of an embedding model is longer.
const MAX_JSON: u64 = 16 << 20;

#[derive(Deserialize)]
struct Entry {
    dtype: String,
    shape: Vec<usize>,
    data_offsets: [u64; 2],
}

/// The header; `None` if `bytes` is not all of it.
///
/// # Errors
///
/// The file is not safetensors, or a tensor of it is not what the header says.
pub fn header(bytes: &[u8]) -> Result<Option<Header>> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
    let length = u64::from_le_bytes(*length);
    if length > MAX_JSON {
        return Err(Error::invalid("the file is neither safetensors nor GGUF: its first bytes are no length of a header"));
    }
    let Some(json) = usize::try_from(length).ok().and_then(|length| rest.get(..length)) else { return Ok(None) };
    let invalid = |reason: &dyn std::fmt::Display| Error::invalid(format!("the file is not valid safetensors: {reason}"));
    let entries: BTreeMap<String, serde_json::Value> = serde_json::from_slice(json).map_err(|error| invalid(&error))?;
    let end = 8 + length;
    let mut places = Vec::new();
    for (name, entry) in entries {
        if name == "__metadata__" {
            continue;
        }
        let entry: Entry = serde_json::from_value(entry).map_err(|error| invalid(&format!("{name}: {error}")))?;
        let Some(name) = name_in_candle(&name) else { continue };
        let (numbers, size) = match entry.dtype.as_str() {
            "F32" => (Numbers::F32, 4),
            "F16" => (Numbers::F16, 2),
            "BF16" => (Numbers::Bf16, 2),
            // Counters and masks of the program that wrote the file.
            _ => continue,
        };
        let [start, stop] = entry.data_offsets;
        let bytes = entry.shape.iter().try_fold(size, |product: usize, dim| product.checked_mul(*dim));
        let bytes = bytes.filter(|bytes| stop.checked_sub(start) == Some(*bytes as u64));
        let bytes = bytes.ok_or_else(|| invalid(&format!("{name} has not the bytes that its shape needs")))?;
        let start = end.checked_add(start).ok_or_else(|| invalid(&format!("{name} has no place in a file")))?;
        places.push(Place { name, numbers, dims: entry.shape, start, bytes });
    }
    places.sort_by_key(|place| place.start);
    if places.windows(2).any(|pair| pair[0].start + pair[0].bytes as u64 > pair[1].start) {
        return Err(invalid(&"two tensors overlap"));
    }
    Ok(Some(Header { places, config: None, tokenizer: None, end }))
}

/// The name that candle's BERT has for a tensor; `None` for one that it does not need.
fn name_in_candle(name: &str) -> Option<String> {
    let name = ["bert.", "roberta."].iter().find_map(|prefix| name.strip_prefix(prefix)).unwrap_or(name);
    if !name.starts_with("embeddings.") && !name.starts_with("encoder.") {
        return None;
    }
    // Names of the first BERT.
    Some(name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias"))
}
