//! The header of a GGUF file: read up to its end, then parsed by candle.
//!
//! The header's length is not stored in the file, so its structure is walked first, without allocating. That finds the end
//! of the header, and rejects damaged lengths before anything is allocated for them.

use super::reader::Reader;
use crate::error::{AiError, Result};
use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::{Content, Value};
use kernels::Format;
use std::io::Cursor;
use std::ops::Range;

/// Bytes above which a header counts as damaged. Vocabularies of 256 k tokens with their merges stay below 32 MiB.
const MAX_HEADER: usize = 256 << 20;

/// Elements of all metadata lists above which a header counts as damaged: each takes some 30 bytes of memory. The lists of a vocabulary of 256 k
/// tokens have less than two million.
const MAX_ELEMENTS: usize = 8 << 20;

/// Tensors above which a header, or the headers of a split model together, count as damaged. Models with hundreds of experts in tensors of their
/// own have some 50,000.
pub(super) const MAX_TENSORS: usize = 1 << 17;

/// Largest dimension of a tensor. The parser keeps dimensions in 32 bits.
const MAX_DIMENSION: u64 = u32::MAX as u64 >> 1;

/// Largest distance between aligned tensors, in bytes.
const MAX_ALIGNMENT: u64 = 1 << 20;

/// One tensor of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorEntry {
    pub name: String,
    /// The file that it is in, counted from 0: of a model that is not split, always 0.
    pub part: usize,
    pub dtype: GgmlDType,
    /// `[rows, columns]`, candle's order: slowest dimension first.
    pub shape: Vec<usize>,
    /// Position in bytes from the start of its file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

impl TensorEntry {
    /// The format of its blocks; `None` for types that weights do not have (Q8_1 and Q8_K are for activations).
    pub fn format(&self) -> Option<Format> {
        format_of(self.dtype)
    }
}

fn format_of(dtype: GgmlDType) -> Option<Format> {
    Some(match dtype {
        GgmlDType::F32 => Format::F32,
        GgmlDType::F16 => Format::F16,
        GgmlDType::BF16 => Format::Bf16,
        GgmlDType::Q4_0 => Format::Q4_0,
        GgmlDType::Q4_1 => Format::Q4_1,
        GgmlDType::Q5_0 => Format::Q5_0,
        GgmlDType::Q5_1 => Format::Q5_1,
        GgmlDType::Q8_0 => Format::Q8_0,
        GgmlDType::Q2K => Format::Q2K,
        GgmlDType::Q3K => Format::Q3K,
        GgmlDType::Q4K => Format::Q4K,
        GgmlDType::Q5K => Format::Q5K,
        GgmlDType::Q6K => Format::Q6K,
        GgmlDType::Q8_1 | GgmlDType::Q8K => return None,
    })
}

/// Metadata and the table of tensors.
pub struct Header {
    content: Content,
    /// In the order of their files and of their offsets.
    pub tensors: Vec<TensorEntry>,
}

impl Header {
    /// Reads the header from the start of a file. Afterwards the reader is at the start of the file again, with everything that has been
    /// read in its buffer.
    ///
    /// # Errors
    ///
    /// 5004 if the header is damaged, cut off or not supported; 3040 if there is no memory for it; the errors of `reader`.
    pub async fn read(reader: &mut Reader) -> Result<Self> {
        let mut bytes = Vec::new();
        let mut wanted = 64 << 10;
        loop {
            let mut at_end = false;
            while bytes.len() < wanted && !at_end {
                let chunk = reader.next(wanted - bytes.len()).await?;
                at_end = chunk.is_empty();
                bytes.try_reserve(chunk.len()).map_err(|_| AiError::out_of_memory("reading the model's header", chunk.len() as u64))?;
                bytes.extend_from_slice(chunk);
            }
            match extent(&bytes) {
                Extent::Complete => break,
                Extent::Invalid(reason) => return Err(unusable(reader, &reason)),
                Extent::Incomplete if at_end => return Err(reader.truncated(bytes.len() as u64 + 1)),
                Extent::Incomplete if bytes.len() >= MAX_HEADER => {
                    return Err(unusable(reader, &format!("its header is larger than {} MiB", MAX_HEADER >> 20)));
                }
                Extent::Incomplete => wanted = (bytes.len() * 2).min(MAX_HEADER),
            }
        }
        let content = Content::read(&mut Cursor::new(&bytes)).map_err(|error| unusable(reader, &error.to_string()))?;
        let tensors = tensor_entries(&content).map_err(|reason| unusable(reader, &reason))?;
        // Bytes beyond the header belong to tensors and must be read again.
        reader.rewind(bytes);
        Ok(Self { content, tensors })
    }

    /// Returns the table of tensors and frees the metadata.
    pub fn into_tensors(self) -> Vec<TensorEntry> {
        self.tensors
    }

    /// The metadata value of a key. This and the getters below return `None` if the key is missing or has another type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.content.metadata.get(key)
    }

    /// A string.
    pub fn text(&self, key: &str) -> Option<&str> {
        match self.get(key)? {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    /// A non-negative integer of any width.
    pub fn integer(&self, key: &str) -> Option<u64> {
        integer(self.get(key)?)
    }

    /// A number of any type.
    pub fn number(&self, key: &str) -> Option<f64> {
        match self.get(key)? {
            Value::F32(value) => Some(f64::from(*value)),
            Value::F64(value) => Some(*value),
            other => integer(other).map(|value| value as f64),
        }
    }

    /// A boolean.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match self.get(key)? {
            Value::Bool(value) => Some(*value),
            _ => None,
        }
    }

    /// An array.
    pub fn array(&self, key: &str) -> Option<&[Value]> {
        match self.get(key)? {
            Value::Array(values) => Some(values),
            _ => None,
        }
    }
}

/// A non-negative integer of any width.
pub(crate) fn integer(value: &Value) -> Option<u64> {
    match value {
        Value::U8(value) => Some(u64::from(*value)),
        Value::U16(value) => Some(u64::from(*value)),
        Value::U32(value) => Some(u64::from(*value)),
        Value::U64(value) => Some(*value),
        Value::I8(value) => u64::try_from(*value).ok(),
        Value::I16(value) => u64::try_from(*value).ok(),
        Value::I32(value) => u64::try_from(*value).ok(),
        Value::I64(value) => u64::try_from(*value).ok(),
        _ => None,
    }
}

fn unusable(reader: &Reader, reason: &str) -> AiError {
    AiError::invalid_data(format!("{} cannot be used as a model: {reason}.", reader.name()))
}

fn tensor_entries(content: &Content) -> std::result::Result<Vec<TensorEntry>, String> {
    let mut entries = Vec::with_capacity(content.tensor_infos.len());
    for (name, info) in &content.tensor_infos {
        let shape = info.shape.dims().to_vec();
        let (block, block_bytes) = (info.ggml_dtype.block_size() as u64, info.ggml_dtype.type_size() as u64);
        let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim as u64));
        let length =
            elements.filter(|elements| elements.is_multiple_of(block)).and_then(|elements| (elements / block).checked_mul(block_bytes));
        let offset = content.tensor_data_offset.checked_add(info.offset);
        let end = offset.and_then(|offset| offset.checked_add(length?));
        let (Some(length), Some(offset), Some(_)) = (length, offset, end) else {
            return Err(format!("tensor '{name}' has an impossible shape {shape:?} for its type {:?}", info.ggml_dtype));
        };
        entries.push(TensorEntry { name: name.clone(), part: 0, dtype: info.ggml_dtype, shape, offset, length });
    }
    // By names too: a damaged header may give two tensors one place, and each reading must give one order.
    entries.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    Ok(entries)
}

/// Whether a prefix of a file contains the whole header.
enum Extent {
    Complete,
    Incomplete,
    Invalid(String),
}

/// Whether `bytes` hold a whole header.
fn extent(bytes: &[u8]) -> Extent {
    let mut walk = HeaderWalk { bytes, position: 0, long_lengths: true, elements: 0 };
    match walk.header() {
        Ok(()) => Extent::Complete,
        Err(WalkError::EndOfBytes) => Extent::Incomplete,
        Err(WalkError::Invalid(reason)) => Extent::Invalid(reason),
    }
}

/// Why a walk stopped before the end of the header.
enum WalkError {
    EndOfBytes,
    Invalid(String),
}

/// A walk over the header's structure that only counts bytes.
struct HeaderWalk<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Whether lengths have 64 bits; version 1 has 32.
    long_lengths: bool,
    /// Elements of all lists so far.
    elements: usize,
}

impl HeaderWalk<'_> {
    fn header(&mut self) -> std::result::Result<(), WalkError> {
        let magic = self.u32()?;
        if magic != u32::from_le_bytes(*b"GGUF") {
            return Err(WalkError::Invalid("it is not a GGUF file (the magic number is wrong)".into()));
        }
        let version = self.u32()?;
        if !(1..=3).contains(&version) {
            return Err(WalkError::Invalid(format!("GGUF version {version} is not known (1 to 3 are)")));
        }
        self.long_lengths = version > 1;
        let tensors = self.length()?;
        if tensors > MAX_TENSORS {
            return Err(WalkError::Invalid(format!("its header gives {tensors} tensors, at most {MAX_TENSORS} are supported")));
        }
        let entries = self.length()?;
        for _ in 0..entries {
            let key = self.string()?;
            let value_type = self.u32()?;
            let start = self.position;
            self.value(value_type, 0)?;
            if &self.bytes[key] == b"general.alignment" {
                check_alignment(value_type, &self.bytes[start..self.position])?;
            }
        }
        for _ in 0..tensors {
            let name = self.string()?;
            let dims = self.u32()?;
            let name = String::from_utf8_lossy(&self.bytes[name]).into_owned();
            if dims > 4 {
                return Err(WalkError::Invalid(format!("tensor '{name}' has {dims} dimensions")));
            }
            for _ in 0..dims {
                let low = u64::from(self.u32()?);
                let dimension = if self.long_lengths { low | u64::from(self.u32()?) << 32 } else { low };
                if dimension > MAX_DIMENSION {
                    return Err(WalkError::Invalid(format!("tensor '{name}' has a dimension of {dimension}")));
                }
            }
            let dtype = self.u32()?;
            if !matches!(dtype, 0..=3 | 6..=15 | 30) {
                return Err(WalkError::Invalid(format!(
                    "tensor '{name}' has type {dtype}, which is not supported. Use a file quantised as Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, F16, BF16 or F32"
                )));
            }
            self.skip(8)?;
        }
        Ok(())
    }

    fn value(&mut self, value_type: u32, depth: usize) -> std::result::Result<(), WalkError> {
        match value_type {
            0 | 1 | 7 => self.skip(1),
            2 | 3 => self.skip(2),
            4..=6 => self.skip(4),
            10..=12 => self.skip(8),
            8 => self.string().map(|_| ()),
            9 if depth < 4 => {
                let element = self.u32()?;
                let count = self.length()?;
                self.elements = self.elements.saturating_add(count);
                if self.elements > MAX_ELEMENTS {
                    return Err(WalkError::Invalid(format!("the lists in its metadata have more than {MAX_ELEMENTS} elements")));
                }
                match element {
                    8 | 9 => {
                        for _ in 0..count {
                            self.value(element, depth + 1)?;
                        }
                        Ok(())
                    }
                    _ => {
                        let width = match element {
                            0 | 1 | 7 => 1,
                            2 | 3 => 2,
                            4..=6 => 4,
                            10..=12 => 8,
                            other => return Err(WalkError::Invalid(format!("metadata of type {other} is not known"))),
                        };
                        self.skip(count.saturating_mul(width))
                    }
                }
            }
            9 => Err(WalkError::Invalid("its metadata is nested too deeply".into())),
            other => Err(WalkError::Invalid(format!("metadata of type {other} is not known"))),
        }
    }

    /// The range of bytes of a string.
    fn string(&mut self) -> std::result::Result<Range<usize>, WalkError> {
        let length = self.length()?;
        let start = self.position;
        self.skip(length)?;
        Ok(start..self.position)
    }

    fn length(&mut self) -> std::result::Result<usize, WalkError> {
        if !self.long_lengths {
            return Ok(self.u32()? as usize);
        }
        let low = u64::from(self.u32()?);
        let high = u64::from(self.u32()?);
        let length = low | high << 32;
        if length > MAX_HEADER as u64 {
            return Err(WalkError::Invalid(format!("its header gives a length of {length}")));
        }
        Ok(length as usize)
    }

    fn u32(&mut self) -> std::result::Result<u32, WalkError> {
        let start = self.position;
        self.skip(4)?;
        let bytes = &self.bytes[start..self.position];
        Ok(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
    }

    fn skip(&mut self, count: usize) -> std::result::Result<(), WalkError> {
        let end = self.position.checked_add(count).ok_or(WalkError::EndOfBytes)?;
        if end > self.bytes.len() {
            return Err(WalkError::EndOfBytes);
        }
        self.position = end;
        Ok(())
    }
}

/// The parser divides by the alignment.
fn check_alignment(value_type: u32, bytes: &[u8]) -> std::result::Result<(), WalkError> {
    let mut wide = [0; 8];
    let is_integer = matches!(value_type, 0..=5 | 10 | 11);
    if is_integer && bytes.len() <= wide.len() {
        wide[..bytes.len()].copy_from_slice(bytes);
    }
    let alignment = u64::from_le_bytes(wide);
    if (1..=MAX_ALIGNMENT).contains(&alignment) {
        return Ok(());
    }
    Err(WalkError::Invalid("its 'general.alignment' is missing or out of range".into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_as_large_as_candle_says() {
        use GgmlDType::*;
        for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
            let format = format_of(dtype).expect("a type of weights");
            assert_eq!((format.columns(), format.file_bytes()), (dtype.block_size(), dtype.type_size()), "{dtype:?}");
        }
    }
}
