//! The header of a GGUF file: read up to its end; then candle parses the metadata.
//!
//! The header's length is not stored in the file, so its structure is walked first, without allocating for the lengths in it. That finds
//! the end of the header and the table of tensors, and rejects damaged lengths before anything is allocated for them.

use super::reader::Reader;
use crate::error::{AiError, Result};
use candle_core::quantized::gguf_file::{Content, Value};
use kernels::Format;
use std::collections::HashMap;
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

/// Largest dimension of a tensor, which fits into the 32-bit `usize` of WebAssembly.
const MAX_DIMENSION: u64 = u32::MAX as u64 >> 1;

/// Distance between aligned tensors, in bytes, if the metadata has none, and the largest.
const DEFAULT_ALIGNMENT: u64 = 32;
const MAX_ALIGNMENT: u64 = 1 << 20;

/// One tensor of the model.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorEntry {
    pub name: String,
    /// The file that it is in, counted from 0: of a model that is not split, always 0.
    pub part: usize,
    pub format: Format,
    /// `[rows, columns]`: slowest dimension first.
    pub shape: Vec<usize>,
    /// Position in bytes from the start of its file.
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
}

/// Metadata and the table of tensors.
pub struct Header {
    metadata: HashMap<String, Value>,
    /// In the order of their files and of their offsets. If a damaged file has a name twice, both are here.
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
        let Walked { table, tensor_count, end } = loop {
            let mut at_end = false;
            while bytes.len() < wanted && !at_end {
                let chunk = reader.next(wanted - bytes.len()).await?;
                at_end = chunk.is_empty();
                bytes.try_reserve(chunk.len()).map_err(|_| AiError::out_of_memory("reading the model's header", chunk.len() as u64))?;
                bytes.extend_from_slice(chunk);
            }
            match extent(&bytes) {
                Extent::Complete(walked) => break walked,
                Extent::Invalid(reason) => return Err(unusable(reader, &reason)),
                Extent::Incomplete if at_end => return Err(reader.truncated(bytes.len() as u64 + 1)),
                Extent::Incomplete if bytes.len() >= MAX_HEADER => {
                    return Err(unusable(reader, &format!("its header is larger than {} MiB", MAX_HEADER >> 20)));
                }
                Extent::Incomplete => wanted = (bytes.len() * 2).min(MAX_HEADER),
            }
        };
        let metadata = metadata(&mut bytes, tensor_count).map_err(|error| unusable(reader, &error.to_string()))?;
        // The walk has checked that no alignment is 0.
        let alignment = metadata.get("general.alignment").and_then(integer).unwrap_or(DEFAULT_ALIGNMENT).max(1);
        let start = (end as u64).next_multiple_of(alignment);
        let tensors = tensor_entries(&bytes, &table, start).map_err(|reason| unusable(reader, &reason))?;
        // Bytes beyond the header belong to tensors and must be read again.
        reader.rewind(bytes);
        Ok(Self { metadata, tensors })
    }

    /// Returns the table of tensors and frees the metadata.
    pub fn into_tensors(self) -> Vec<TensorEntry> {
        self.tensors
    }

    /// The metadata value of a key. This and the getters below return `None` if the key is missing or has another type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
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

/// The metadata of a whole header, parsed by candle. `tensor_count` is where the header has the number of tensors. It is set to 0 while candle
/// reads the header, because candle rejects types of tensors that only the kernels know.
fn metadata(bytes: &mut [u8], tensor_count: Range<usize>) -> candle_core::Result<HashMap<String, Value>> {
    let kept = bytes[tensor_count.clone()].to_vec();
    bytes[tensor_count.clone()].fill(0);
    let content = Content::read(&mut Cursor::new(&*bytes));
    bytes[tensor_count].copy_from_slice(&kept);
    Ok(content?.metadata)
}

/// The table of tensors, in the order of their offsets. `start` is the position of the first tensor, which offsets are relative to.
fn tensor_entries(bytes: &[u8], table: &[TableEntry], start: u64) -> std::result::Result<Vec<TensorEntry>, String> {
    let mut entries = Vec::with_capacity(table.len());
    for TableEntry { name, shape, format, offset } in table {
        let name = text(&bytes[name.clone()]);
        let (block, block_bytes) = (format.columns() as u64, format.file_bytes() as u64);
        let elements = shape.iter().try_fold(1u64, |product, dim| product.checked_mul(*dim as u64));
        let length =
            elements.filter(|elements| elements.is_multiple_of(block)).and_then(|elements| (elements / block).checked_mul(block_bytes));
        let offset = start.checked_add(*offset);
        let end = offset.and_then(|offset| offset.checked_add(length?));
        let (Some(length), Some(offset), Some(_)) = (length, offset, end) else {
            return Err(format!("tensor '{name}' has an impossible shape {shape:?} for its type {}", format.name()));
        };
        entries.push(TensorEntry { name, part: 0, format: *format, shape: shape.clone(), offset, length });
    }
    // By names too: a damaged header may give two tensors one place, and each reading must give one order.
    entries.sort_by(|a, b| (a.offset, &a.name).cmp(&(b.offset, &b.name)));
    Ok(entries)
}

/// A text of the header, as candle reads texts. In some files they are not UTF-8.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(without_zeros(bytes)).into_owned()
}

/// The bytes of a text. Some files end texts with zeros.
fn without_zeros(bytes: &[u8]) -> &[u8] {
    let length = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &bytes[..length]
}

/// Whether a prefix of a file contains the whole header.
enum Extent {
    Complete(Walked),
    Incomplete,
    Invalid(String),
}

/// What the walk over a whole header has found.
struct Walked {
    /// The table of tensors, in the order of the header.
    table: Vec<TableEntry>,
    /// Where the number of tensors is.
    tensor_count: Range<usize>,
    /// Where the header ends.
    end: usize,
}

/// An entry of the table of tensors.
struct TableEntry {
    /// Where its name is in the header.
    name: Range<usize>,
    /// Slowest dimension first.
    shape: Vec<usize>,
    format: Format,
    /// Position in bytes from the first tensor.
    offset: u64,
}

/// Whether `bytes` hold a whole header.
fn extent(bytes: &[u8]) -> Extent {
    let mut walk = HeaderWalk { bytes, position: 0, long_lengths: true, elements: 0 };
    match walk.header() {
        Ok(walked) => Extent::Complete(walked),
        Err(WalkError::EndOfBytes) => Extent::Incomplete,
        Err(WalkError::Invalid(reason)) => Extent::Invalid(reason),
    }
}

/// Why a walk stopped before the end of the header.
enum WalkError {
    EndOfBytes,
    Invalid(String),
}

/// A walk over the header's structure. It counts the bytes of the metadata and collects the table of tensors.
struct HeaderWalk<'a> {
    bytes: &'a [u8],
    position: usize,
    /// Whether lengths have 64 bits; version 1 has 32.
    long_lengths: bool,
    /// Elements of all lists so far.
    elements: usize,
}

impl HeaderWalk<'_> {
    fn header(&mut self) -> std::result::Result<Walked, WalkError> {
        let magic = self.u32()?;
        if magic != u32::from_le_bytes(*b"GGUF") {
            return Err(WalkError::Invalid("it is not a GGUF file (the magic number is wrong)".into()));
        }
        let version = self.u32()?;
        if !(1..=3).contains(&version) {
            return Err(WalkError::Invalid(format!("GGUF version {version} is not known (1 to 3 are)")));
        }
        self.long_lengths = version > 1;
        let start = self.position;
        let tensors = self.length()?;
        let tensor_count = start..self.position;
        if tensors > MAX_TENSORS {
            return Err(WalkError::Invalid(format!("its header gives {tensors} tensors, at most {MAX_TENSORS} are supported")));
        }
        let entries = self.length()?;
        for _ in 0..entries {
            let key = self.string()?;
            let value_type = self.u32()?;
            let start = self.position;
            self.value(value_type, 0)?;
            if without_zeros(&self.bytes[key]) == b"general.alignment" {
                check_alignment(value_type, &self.bytes[start..self.position])?;
            }
        }
        let mut table = Vec::new();
        for _ in 0..tensors {
            table.push(self.table_entry()?);
        }
        Ok(Walked { table, tensor_count, end: self.position })
    }

    fn table_entry(&mut self) -> std::result::Result<TableEntry, WalkError> {
        let name = self.string()?;
        let dims = self.u32()?;
        let invalid = |reason: String| WalkError::Invalid(format!("tensor '{}' has {reason}", text(&self.bytes[name.clone()])));
        if dims > 4 {
            return Err(invalid(format!("{dims} dimensions")));
        }
        let mut shape = Vec::new();
        for _ in 0..dims {
            let low = u64::from(self.u32()?);
            let dimension = if self.long_lengths { low | u64::from(self.u32()?) << 32 } else { low };
            if dimension > MAX_DIMENSION {
                return Err(invalid(format!("a dimension of {dimension}")));
            }
            shape.insert(0, dimension as usize);
        }
        let number = self.u32()?;
        let Some(format) = Format::from_ggml_type(number) else {
            return Err(invalid(format!(
                "type {number}, which is not supported. Use a file quantised as Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2_K to Q6_K, IQ4_NL, IQ4_XS, F16, BF16 or F32"
            )));
        };
        let offset = u64::from(self.u32()?) | u64::from(self.u32()?) << 32;
        Ok(TableEntry { name, shape, format, offset })
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
    use candle_core::quantized::gguf_file::write;
    use candle_core::quantized::{GgmlDType, QTensor};
    use candle_core::{DType, Device, Tensor};

    #[test]
    fn blocks_are_as_large_as_candle_says() {
        use GgmlDType::*;
        let dtypes = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K];
        for (format, dtype) in Format::ALL.into_iter().zip(dtypes) {
            assert_eq!((format.columns(), format.file_bytes()), (dtype.block_size(), dtype.type_size()), "{dtype:?}");
        }
        // Candle does not have these; the sizes are those of `ggml-common.h`.
        for (format, columns, bytes) in [(Format::Iq4Nl, 32, 18), (Format::Iq4Xs, 256, 136)] {
            assert_eq!((format.columns(), format.file_bytes()), (columns, bytes), "{format:?}");
        }
    }

    /// candle, which divides by the alignment, finds it under a key that ends with zeros too.
    #[test]
    fn an_alignment_of_zero_is_invalid_whatever_its_key_ends_with() {
        for key in ["general.alignment", "general.alignment\0\0"] {
            let length = (key.len() as u64).to_le_bytes();
            let counts = [0u64, 1].map(u64::to_le_bytes).concat();
            let entry = [&length[..], key.as_bytes(), &4u32.to_le_bytes(), &0u32.to_le_bytes()].concat();
            let file = [&b"GGUF\x03\0\0\0"[..], &counts, &entry].concat();
            assert!(matches!(extent(&file), Extent::Invalid(reason) if reason.contains("general.alignment")), "{key:?}");
        }
    }

    /// The table of tensors of a file that candle has written, with one tensor of each type that it knows.
    #[test]
    fn types_have_the_numbers_that_candle_writes() {
        use GgmlDType::*;
        let dtypes = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K];
        let zeros = Tensor::zeros((1, 256), DType::F32, &Device::Cpu).expect("a tensor");
        let tensors: Vec<_> =
            dtypes.iter().map(|dtype| (format!("{dtype:?}"), QTensor::quantize(&zeros, *dtype).expect("quantised"))).collect();
        let tensors: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut file = Cursor::new(Vec::new());
        write(&mut file, &[], &tensors).expect("a file in memory");
        let Extent::Complete(walked) = extent(file.get_ref()) else { panic!("a whole header") };
        assert_eq!(walked.table.iter().map(|entry| entry.format).collect::<Vec<_>>(), Format::ALL[..dtypes.len()]);
        // Those that candle does not have, by the numbers of `ggml.h`, and no others.
        assert_eq!([20, 23].map(Format::from_ggml_type), [Some(Format::Iq4Nl), Some(Format::Iq4Xs)]);
        assert_eq!((0..1000).filter_map(Format::from_ggml_type).count(), Format::ALL.len());
    }
}
