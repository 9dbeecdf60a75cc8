//! Files that are damaged, cut off, of an unknown kind or hard to read: each results in a documented error, never in a panic.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::Device;
use candle_core::quantized::gguf_file::{Content, Value, write};
use common::{LLAMA2, Listed, TinyModel, ai_from, start, text_of};
use serde_json::json;
use std::cell::Cell;
use std::io::Cursor;
use std::rc::Rc;
use workers_ai_local::engine::Limits;
use workers_ai_local::error::{AiError, ErrorCode};
use workers_ai_local::gguf::{ByteStream, BytesSource, LocalFuture, OpenedSource, Source, SourceError};

fn outcome(source: Rc<dyn Source>) -> Result<String, AiError> {
    let (ai, _) = ai_from(source, Limits::default());
    pollster::block_on(async {
        let mut generation = start(&ai, LLAMA2, json!({"prompt": "he", "raw": true, "temperature": 0, "max_tokens": 3})).await?;
        text_of(&mut generation).await
    })
}

fn of_bytes(bytes: Vec<u8>) -> Result<String, AiError> {
    outcome(Rc::new(BytesSource { chunk: 1000, ..BytesSource::new("test.gguf", bytes) }))
}

/// A model small enough to be loaded hundreds of times.
fn small() -> TinyModel {
    TinyModel { width: 32, heads: 2, kv_heads: 1, ffn_width: 32, layers: 1, ..TinyModel::default() }
}

#[test]
fn a_file_that_is_cut_off_anywhere_is_5004() {
    let file = small().gguf();
    assert!(of_bytes(file.clone()).is_ok());
    // The last bytes may be padding after the last tensor.
    for length in (0..file.len() - 64).step_by(101) {
        let error = of_bytes(file[..length].to_vec()).expect_err("cut off");
        assert_eq!(error.code, ErrorCode::InvalidData, "at {length}: {error}");
    }
}

#[test]
fn unsupported_files_are_5004_with_the_reason() {
    let with = |key: &str, value: Value| TinyModel { metadata: vec![(key.into(), value)], ..small() }.gguf();
    let text = |text: &str| Value::String(text.into());
    let mut wrong_magic = small().gguf();
    wrong_magic[..4].copy_from_slice(b"PK\x03\x04");
    let mut wrong_version = small().gguf();
    wrong_version[4] = 9;
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("magic", wrong_magic),
        ("version 9", wrong_version),
        ("architecture 'mamba'", with("general.architecture", text("mamba"))),
        ("tokenizer", with("tokenizer.ggml.model", text("bert"))),
        ("block_count", with("llama.block_count", Value::U32(0))),
        ("no tensor 'blk.1.attn_norm.weight'", with("llama.block_count", Value::U32(2))),
        ("must be", with("llama.feed_forward_length", Value::U32(64))),
        ("contradict", with("llama.attention.head_count_kv", Value::U32(3))),
        ("'dynamic'", with("llama.rope.scaling.type", text("dynamic"))),
        ("mixture of experts", with("llama.expert_count", Value::U32(8))),
        ("general.alignment", with("general.alignment", Value::U32(0))),
        ("contradict", with("llama.attention.key_length", Value::U32(1 << 24))),
        ("not a GGUF", b"<!DOCTYPE html><html>sign in first</html>".to_vec()),
    ];
    for (says, bytes) in cases {
        let error = of_bytes(bytes).expect_err(says);
        assert_eq!(error.code, ErrorCode::InvalidData, "{error}");
        assert!(error.text.contains(says), "{says}: {error}");
    }
}

#[test]
fn an_unknown_tensor_type_is_named() {
    let file = small().gguf();
    let name = b"output_norm.weight";
    let at = file.windows(name.len()).position(|window| window == name).expect("the tensor") + name.len() + 4 + 8;
    let mut patched = file;
    patched[at] = 39;
    let error = of_bytes(patched).expect_err("unknown");
    assert!(error.text.contains("output_norm.weight") && error.text.contains("39"), "{error}");
}

/// A file over a connection that is lost after every `every` bytes.
struct Flaky {
    file: Rc<Vec<u8>>,
    every: usize,
    reports_size: bool,
    opened: Rc<Cell<usize>>,
}

struct FlakyStream {
    rest: Vec<u8>,
    /// Bytes until the connection is lost.
    left: usize,
}

impl Source for Flaky {
    fn name(&self) -> String {
        "flaky.gguf".into()
    }

    fn open(&self, offset: u64) -> LocalFuture<'_, Result<OpenedSource, SourceError>> {
        self.opened.set(self.opened.get() + 1);
        let size = self.reports_size.then_some(self.file.len() as u64);
        let stream = Box::new(FlakyStream { rest: self.file[offset as usize..].to_vec(), left: self.every });
        Box::pin(std::future::ready(Ok(OpenedSource { size, stream })))
    }
}

impl ByteStream for FlakyStream {
    fn next(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, SourceError>> {
        let length = self.left.min(self.rest.len()).min(777);
        if length == 0 && !self.rest.is_empty() {
            return Box::pin(std::future::ready(Err(SourceError::Interrupted("connection reset".into()))));
        }
        self.left -= length;
        let chunk: Vec<u8> = self.rest.drain(..length).collect();
        Box::pin(std::future::ready(Ok((!chunk.is_empty()).then_some(chunk))))
    }
}

/// The files of a split model, with so many tensors each; the last one has the others.
fn split(file: &[u8], counts: &[usize]) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(file);
    let content = Content::read(&mut cursor).expect("a header");
    let mut tensors: Vec<_> = content
        .tensor_infos
        .iter()
        .map(|(name, info)| (name, info.read(&mut cursor, content.tensor_data_offset, &Device::Cpu).expect("a tensor")))
        .collect();
    tensors.sort_by_key(|(name, _)| content.tensor_infos[*name].offset);
    let part = |index: usize| {
        let start: usize = counts[..index].iter().sum();
        let end = counts.get(index).map_or(tensors.len(), |count| start + count);
        let numbers = [
            ("split.no", Value::U16(index as u16)),
            ("split.count", Value::U16(counts.len() as u16 + 1)),
            ("split.tensors.count", Value::I32(tensors.len() as i32)),
        ];
        let mut metadata: Vec<(&str, &Value)> = numbers.iter().map(|(key, value)| (*key, value)).collect();
        if index == 0 {
            metadata.extend(content.metadata.iter().map(|(key, value)| (key.as_str(), value)));
        }
        let tensors: Vec<_> = tensors[start..end].iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut out = Cursor::new(Vec::new());
        write(&mut out, &metadata, &tensors).expect("a file in memory");
        out.into_inner()
    };
    (0..=counts.len()).map(part).collect()
}

fn listed(parts: &[Vec<u8>]) -> Rc<dyn Source> {
    let file = |(index, bytes): (usize, &Vec<u8>)| {
        Rc::new(BytesSource { chunk: 1000, ..BytesSource::new(format!("file {index}"), bytes.clone()) }) as Rc<dyn Source>
    };
    Rc::new(Listed(parts.iter().enumerate().map(file).collect()))
}

#[test]
fn a_split_model_gives_the_text_of_the_whole_file() {
    let file = small().gguf();
    let expected = of_bytes(file.clone());
    assert!(expected.is_ok());
    for counts in [&[1][..], &[0, 3], &[9], &[1; 8]] {
        let mut parts = split(&file, counts);
        assert_eq!(outcome(listed(&parts)), expected, "{counts:?}");
        parts.reverse();
        assert_eq!(outcome(listed(&parts)), expected, "{counts:?} reversed");
        let flaky = |bytes: Vec<u8>| {
            let source = Flaky { file: Rc::new(bytes), every: 9_000, reports_size: counts.len() > 1, opened: Rc::default() };
            Rc::new(source) as Rc<dyn Source>
        };
        assert_eq!(outcome(Rc::new(Listed(parts.into_iter().map(flaky).collect()))), expected, "{counts:?} over lost connections");
    }
}

#[test]
fn a_part_that_is_cut_off_anywhere_is_5004() {
    let parts = split(&small().gguf(), &[3, 4]);
    for part in 0..parts.len() {
        for length in (0..parts[part].len() - 64).step_by(501) {
            let mut cut = parts.clone();
            cut[part].truncate(length);
            let error = outcome(listed(&cut)).expect_err("cut off");
            assert_eq!(error.code, ErrorCode::InvalidData, "part {part} at {length}: {error}");
            assert!(error.text.contains(&format!("file {part} is cut off")), "part {part} at {length}: {error}");
        }
    }
}

#[test]
fn a_template_that_cannot_be_used_leaves_the_file_usable() {
    let broken = Value::String("{% if %}".into());
    let file = TinyModel { metadata: vec![("tokenizer.chat_template".into(), broken)], ..small() }.gguf();
    let plain = of_bytes(small().gguf()).expect("an answer");
    assert_eq!(of_bytes(file).expect("an answer"), plain, "in the format that the vocabulary shows");
}

#[test]
fn a_lost_connection_is_resumed_where_it_was_lost() {
    let file = Rc::new(small().gguf());
    let expected = of_bytes(file.to_vec()).expect("text");
    for reports_size in [true, false] {
        let opened = Rc::new(Cell::new(0));
        let source = Flaky { file: Rc::clone(&file), every: 20_000, reports_size, opened: Rc::clone(&opened) };
        assert_eq!(outcome(Rc::new(source)), Ok(expected.clone()));
        assert!(opened.get() > 2, "{} connections", opened.get());
    }
}

#[test]
fn a_connection_without_any_data_is_3008_and_a_missing_file_3042() {
    let opened = Rc::new(Cell::new(0));
    let source = Flaky { file: Rc::new(small().gguf()), every: 0, reports_size: true, opened: Rc::clone(&opened) };
    assert_eq!(outcome(Rc::new(source)).expect_err("no byte").code, ErrorCode::Aborted);
    assert_eq!(opened.get(), 4, "three more attempts");

    struct Failing(SourceError);
    impl Source for Failing {
        fn name(&self) -> String {
            "https://example.com/model.gguf".into()
        }
        fn open(&self, _: u64) -> LocalFuture<'_, Result<OpenedSource, SourceError>> {
            Box::pin(std::future::ready(Err(self.0.clone())))
        }
    }
    for (error, code) in [
        (SourceError::NotFound("HTTP 404".into()), ErrorCode::NotFound),
        (SourceError::Refused("HTTP 403".into()), ErrorCode::BadInput),
        (SourceError::Interrupted("reset".into()), ErrorCode::Aborted),
    ] {
        assert_eq!(outcome(Rc::new(Failing(error))).expect_err("fails").code, code);
    }
}

#[test]
fn a_failed_load_does_not_affect_the_next_request() {
    struct SecondTime(BytesSource, Cell<bool>);
    impl Source for SecondTime {
        fn name(&self) -> String {
            self.0.name()
        }
        fn open(&self, offset: u64) -> LocalFuture<'_, Result<OpenedSource, SourceError>> {
            if !self.1.replace(true) {
                return Box::pin(std::future::ready(Err(SourceError::NotFound("not yet".into()))));
            }
            self.0.open(offset)
        }
    }
    let (ai, _) = ai_from(Rc::new(SecondTime(BytesSource::new("late.gguf", small().gguf()), Cell::new(false))), Limits::default());
    pollster::block_on(async {
        let input = json!({"prompt": "he", "max_tokens": 2});
        assert!(start(&ai, LLAMA2, input.clone()).await.is_err());
        assert!(start(&ai, LLAMA2, input).await.is_ok());
    });
}

#[test]
fn weights_that_do_not_fit_into_memory_are_3040() {
    use kernels::Format;
    use workers_ai_local::backend::cpu::CpuWeights;
    use workers_ai_local::model::{Role, Tensor, WeightSink};
    for format in [Format::F32, Format::Q4_0, Format::Q6K, Format::Iq4Xs] {
        let (rows, columns) = (1 << 26, 1 << 24);
        let tensor = Tensor { role: Role::Output, name: "output.weight", format, rows, columns, is_matrix: true };
        let error = CpuWeights::default().begin(&tensor).expect_err("more than is available");
        assert_eq!(error.code, ErrorCode::OutOfCapacity, "{error}");
    }
}
