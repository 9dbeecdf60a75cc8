//! The header of GGUF files and their table of tensors ([`Header`]).

use crate::gguf_file::{Damage, Entry, File, damage, damaged, number, string, value};
use crate::inputs::text;
use crate::memory::most_of;
use crate::trial::{ANSWER, Outcome, check};
use candle_core::quantized::gguf_file::Value;
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use std::rc::Rc;
use workers_ai_local::error::{AiError, ErrorCode};
use workers_ai_local::gguf::{BytesSource, Header, Reader};

/// GGML's number of a type, elements and bytes of its blocks.
pub const TYPES: &[(u32, u64, u64)] = &[
    (0, 1, 4),
    (1, 1, 2),
    (30, 1, 2),
    (2, 32, 18),
    (3, 32, 20),
    (6, 32, 22),
    (7, 32, 24),
    (8, 32, 34),
    (10, 256, 84),
    (11, 256, 110),
    (12, 256, 144),
    (13, 256, 176),
    (14, 256, 210),
    (20, 32, 18),
    (23, 256, 136),
];

/// Memory of a header, for each byte of the file and besides. A byte of a list becomes a value of 32 bytes, and lists grow by half.
const MOST_PER_BYTE: usize = 128;
const MOST_BESIDES: usize = 1 << 20;

/// The value as it is read: candle removes zeros at the end of texts.
fn as_read(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.trim_end_matches('\0').to_owned()),
        Value::Array(values) => Value::Array(values.iter().map(as_read).collect()),
        other => other.clone(),
    }
}

/// A small file with entries of any type and a table of tensors. It has no data; nobody reads it.
fn file() -> impl Strategy<Value = File> {
    let dims = vec(prop_oneof![1..4u64, select(vec![32, 256, 512])], 1..=4);
    let tensors = vec((text(), dims, select(TYPES)), 0..4);
    let version = select(vec![3, 3, 2, 1]);
    (version, btree_map(text(), value(), 0..6), tensors).prop_map(|(version, entries, tensors)| {
        let entries = entries.into_iter().map(|(key, value)| (format!("{key}."), Entry::Valid(value))).collect();
        let mut file = File::new(version, entries);
        for (index, (name, mut dims, (dtype, elements, bytes))) in tensors.into_iter().enumerate() {
            dims[0] = dims[0].next_multiple_of(elements);
            let length = dims.iter().product::<u64>() / elements * bytes;
            // Names are keys of a table.
            file.add(format!("{name}.{index}"), dims, dtype, &vec![0; (length as usize).min(100)]);
        }
        file
    })
}

fn read(bytes: Vec<u8>) -> Result<Header, AiError> {
    let mut reader = Reader::new(Rc::new(BytesSource { chunk: 700, ..BytesSource::new("test.gguf", bytes) }), Box::new(|_| {}));
    pollster::block_on(Header::read(&mut reader))
}

#[test]
fn what_was_written_is_read() {
    check("gguf::what_was_written_is_read", 2000, file(), |file| {
        let header = read(file.bytes()).map_err(|error| TestCaseError::fail(error.to_string()))?;
        for (key, entry) in &file.entries {
            let Entry::Valid(written) = entry else { continue };
            // As text, because a number may be NaN.
            prop_assert_eq!(format!("{:?}", header.get(key)), format!("{:?}", Some(as_read(written))));
        }
        prop_assert_eq!(header.tensors.len(), file.tensors.len());
        let start = file.bytes().len() - file.data.len();
        for (read, written) in header.tensors.iter().zip(&file.tensors) {
            let (_, elements, bytes) = TYPES.iter().find(|(dtype, ..)| *dtype == written.dtype).expect("a known type");
            let dims: Vec<usize> = written.dims.iter().rev().map(|dim| *dim as usize).collect();
            prop_assert_eq!((&read.name, &read.shape, read.offset), (&written.name, &dims, start as u64 + written.offset));
            prop_assert_eq!(read.length, written.dims.iter().product::<u64>() / elements * bytes);
        }
        Ok(ANSWER.into())
    });
}

/// Reading ends with a header or a documented error, and takes memory in proportion to the file.
fn reads_or_says_why(file: File, damages: &[Damage]) -> Outcome {
    let bytes = damaged(file, damages);
    let length = bytes.len();
    let (result, most) = most_of(|| read(bytes));
    let bound = MOST_BESIDES + MOST_PER_BYTE * length;
    prop_assert!(most <= bound, "{most} bytes of memory for a file of {length} bytes");
    match result {
        Ok(_) => Ok(ANSWER.into()),
        Err(error) => {
            prop_assert_eq!(error.code, ErrorCode::InvalidData);
            prop_assert!(error.text.contains("test.gguf"), "{}", error);
            Ok(error.to_string())
        }
    }
}

#[test]
fn a_damaged_header_is_read_or_an_error() {
    let model = || {
        let mut file = File::new(
            3,
            vec![
                ("general.architecture".into(), string("llama")),
                ("general.alignment".into(), number(32)),
                ("llama.block_count".into(), number(1)),
            ],
        );
        file.add("token_embd.weight", vec![32, 4], 8, &[0; 136]);
        file.add("output_norm.weight", vec![32], 0, &[0; 128]);
        file
    };
    let inputs = (prop_oneof![file(), Just(()).prop_map(move |()| model())], vec(damage(), 1..4));
    check("gguf::a_damaged_header_is_read_or_an_error", 6000, inputs, |(file, damages)| reads_or_says_why(file, &damages));
}
