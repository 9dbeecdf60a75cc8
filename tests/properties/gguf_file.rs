//! GGUF files as their parts, which need not fit together.

use crate::inputs::text;
use candle_core::quantized::gguf_file::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;

const ALIGNMENT: usize = 32;

/// A file. Counts and offsets say what the parts say, unless a [`Damage`] changes them.
#[derive(Debug, Clone)]
pub struct File {
    pub version: u32,
    pub entries: Vec<(String, Entry)>,
    pub tensors: Vec<Tensor>,
    pub data: Vec<u8>,
    /// Added to the numbers of tensors and of entries.
    more: (u64, u64),
}

#[derive(Debug, Clone)]
pub enum Entry {
    Valid(Value),
    /// A type of value, and bytes that need not be one.
    Bytes(u32, Vec<u8>),
}

#[derive(Debug, Clone)]
pub struct Tensor {
    pub name: String,
    /// Columns first.
    pub dims: Vec<u64>,
    pub dtype: u32,
    pub offset: u64,
}

impl File {
    pub fn new(version: u32, entries: Vec<(String, Entry)>) -> Self {
        Self { version, entries, tensors: Vec::new(), data: Vec::new(), more: (0, 0) }
    }

    /// Adds a tensor behind the others.
    pub fn add(&mut self, name: impl Into<String>, dims: Vec<u64>, dtype: u32, data: &[u8]) {
        self.tensors.push(Tensor { name: name.into(), dims, dtype, offset: self.data.len() as u64 });
        self.data.extend_from_slice(data);
        self.data.resize(self.data.len().next_multiple_of(ALIGNMENT), 0);
    }

    /// The files that llama.cpp's `gguf-split` makes of it, with so many tensors each; the last one has the others.
    pub fn split(&self, counts: &[usize]) -> Vec<File> {
        let mut ends: Vec<usize> = counts.to_vec();
        for index in 1..ends.len() {
            ends[index] += ends[index - 1];
        }
        ends.push(self.tensors.len());
        let part = |index: usize| {
            let mut entries = if index == 0 { self.entries.clone() } else { Vec::new() };
            entries.push(("split.no".into(), Entry::Valid(Value::U16(index as u16))));
            entries.push(("split.count".into(), Entry::Valid(Value::U16(ends.len() as u16))));
            entries.push(("split.tensors.count".into(), Entry::Valid(Value::I32(self.tensors.len() as i32))));
            let mut file = File::new(self.version, entries);
            for number in if index == 0 { 0 } else { ends[index - 1] }..ends[index] {
                let tensor = &self.tensors[number];
                let end = self.tensors.get(number + 1).map_or(self.data.len(), |next| next.offset as usize);
                file.add(tensor.name.clone(), tensor.dims.clone(), tensor.dtype, &self.data[tensor.offset as usize..end]);
            }
            file
        };
        (0..ends.len()).map(part).collect()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = Writer { bytes: b"GGUF".to_vec(), long: self.version != 1 };
        out.u32(self.version);
        out.length((self.tensors.len() as u64).wrapping_add(self.more.0));
        out.length((self.entries.len() as u64).wrapping_add(self.more.1));
        for (key, entry) in &self.entries {
            out.text(key);
            match entry {
                Entry::Valid(value) => {
                    out.u32(kind_of(value));
                    out.value(value);
                }
                Entry::Bytes(kind, bytes) => {
                    out.u32(*kind);
                    out.bytes.extend_from_slice(bytes);
                }
            }
        }
        for tensor in &self.tensors {
            out.text(&tensor.name);
            out.u32(tensor.dims.len() as u32);
            for dim in &tensor.dims {
                out.length(*dim);
            }
            out.u32(tensor.dtype);
            out.bytes.extend(tensor.offset.to_le_bytes());
        }
        out.bytes.resize(out.bytes.len().next_multiple_of(ALIGNMENT), 0);
        out.bytes.extend_from_slice(&self.data);
        out.bytes
    }
}

struct Writer {
    bytes: Vec<u8>,
    /// Lengths have 64 bits; in version 1 they have 32.
    long: bool,
}

impl Writer {
    fn u32(&mut self, number: u32) {
        self.bytes.extend(number.to_le_bytes());
    }

    fn length(&mut self, length: u64) {
        let bytes = length.to_le_bytes();
        self.bytes.extend_from_slice(if self.long { &bytes } else { &bytes[..4] });
    }

    fn text(&mut self, text: &str) {
        self.length(text.len() as u64);
        self.bytes.extend_from_slice(text.as_bytes());
    }

    fn value(&mut self, value: &Value) {
        match value {
            Value::U8(value) => self.bytes.push(*value),
            Value::I8(value) => self.bytes.extend(value.to_le_bytes()),
            Value::U16(value) => self.bytes.extend(value.to_le_bytes()),
            Value::I16(value) => self.bytes.extend(value.to_le_bytes()),
            Value::U32(value) => self.bytes.extend(value.to_le_bytes()),
            Value::I32(value) => self.bytes.extend(value.to_le_bytes()),
            Value::U64(value) => self.bytes.extend(value.to_le_bytes()),
            Value::I64(value) => self.bytes.extend(value.to_le_bytes()),
            Value::F32(value) => self.bytes.extend(value.to_le_bytes()),
            Value::F64(value) => self.bytes.extend(value.to_le_bytes()),
            Value::Bool(value) => self.bytes.push(u8::from(*value)),
            Value::String(text) => self.text(text),
            Value::Array(values) => {
                self.u32(values.first().map_or(4, kind_of));
                self.length(values.len() as u64);
                values.iter().for_each(|value| self.value(value));
            }
        }
    }
}

fn kind_of(value: &Value) -> u32 {
    match value {
        Value::U8(_) => 0,
        Value::I8(_) => 1,
        Value::U16(_) => 2,
        Value::I16(_) => 3,
        Value::U32(_) => 4,
        Value::I32(_) => 5,
        Value::F32(_) => 6,
        Value::Bool(_) => 7,
        Value::String(_) => 8,
        Value::Array(_) => 9,
        Value::U64(_) => 10,
        Value::I64(_) => 11,
        Value::F64(_) => 12,
    }
}

pub fn string(text: &str) -> Entry {
    Entry::Valid(Value::String(text.to_owned()))
}

pub fn number(number: u32) -> Entry {
    Entry::Valid(Value::U32(number))
}

pub fn list(values: impl IntoIterator<Item = Value>) -> Entry {
    Entry::Valid(Value::Array(values.into_iter().collect()))
}

// ── Random parts ─────────────────────────────────────────────────────────────────────────────────────────────

const NUMBERS: &[u64] =
    &[0, 1, 2, 3, 7, 31, 32, 33, 64, 255, 256, 65_535, 65_536, 1 << 24, (1 << 24) + 1, (1 << 31) - 1, 1 << 31, u32::MAX as u64];
const LONG_NUMBERS: &[u64] = &[0, 1, 2, 32, 33, 256, 1 << 24, 1 << 31, 1 << 32, 1 << 53, (1 << 63) - 1, 1 << 63, u64::MAX];
const FLOATS: &[f32] = &[0.0, -0.0, 1.0, -1.0, 1e-45, 1e-5, 1e30, f32::MAX, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
const TEXTS: &[&str] = &[
    "",
    "llama",
    "gpt2",
    "bert",
    "none",
    "linear",
    "yarn",
    "default",
    "llama-bpe",
    "tekken",
    "qwen2",
    "deepseek-coder",
    "\0",
    "é",
    "日本",
    "{% for m in messages %}{{ m }}{% endfor %}",
    "{% if %}",
    "{{ 1 // 0 }}",
    "{{ messages[0].content }}",
];
/// Entries that the loader reads if they are there.
const KEYS: &[&str] = &[
    "",
    "general.alignment",
    "general.architecture",
    "split.count",
    "split.no",
    "split.tensors.count",
    "llama.context_length",
    "llama.rope.freq_base",
    "llama.rope.scaling.type",
    "llama.rope.scaling.factor",
    "llama.expert_count",
    "llama.attention.key_length",
    "llama.rope.dimension_count",
    "tokenizer.ggml.pre",
    "tokenizer.ggml.scores",
    "tokenizer.ggml.unknown_token_id",
    "tokenizer.ggml.eot_token_id",
    "tokenizer.ggml.add_bos_token",
    "tokenizer.ggml.add_space_prefix",
    "tokenizer.chat_template",
    "tokenizer.chat_template.tool_use",
    "tokenizer.ggml.model",
    "tokenizer.ggml.merges",
];
const NAMES: &[&str] = &[
    "",
    "x",
    "output.weight",
    "rope_freqs.weight",
    "token_embd.weight",
    "blk.1.attn_q.weight",
    "blk.99999999999.attn_q.weight",
    "blk.0.attn_q.bias",
    "blk.0.ffn_up.weight",
];

/// A value of any type, with lists in lists.
pub fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        1 => any::<u8>().prop_map(Value::U8),
        1 => any::<i8>().prop_map(Value::I8),
        1 => any::<u16>().prop_map(Value::U16),
        1 => any::<i16>().prop_map(Value::I16),
        3 => select(NUMBERS).prop_map(|number| Value::U32(number as u32)),
        1 => any::<i32>().prop_map(Value::I32),
        2 => select(LONG_NUMBERS).prop_map(Value::U64),
        1 => select(LONG_NUMBERS).prop_map(|number| Value::I64(number as i64)),
        2 => select(FLOATS).prop_map(Value::F32),
        1 => any::<f64>().prop_map(Value::F64),
        1 => any::<bool>().prop_map(Value::Bool),
        2 => select(TEXTS).prop_map(|text| Value::String(text.into())),
        1 => text().prop_map(Value::String),
    ];
    // The elements of a list have one type.
    leaf.prop_recursive(3, 12, 4, |inner| {
        (inner, vec(any::<u8>(), 0..4)).prop_map(|(element, more)| {
            Value::Array(std::iter::once(element.clone()).chain(more.iter().map(|_| element.clone())).collect())
        })
    })
}

/// One change of a file, at a random place.
#[derive(Debug, Clone)]
pub enum Damage {
    Value(Index, Value),
    RemoveEntry(Index),
    CopyEntry(Index, Value),
    Key(Index, &'static str),
    Insert(Index, &'static str, Value),
    /// A list that says to have other elements, or more of them.
    List(Index, u32, u64),
    /// The bytes of a value as those of another type.
    Kind(Index, u32),
    Dims(Index, Vec<u64>),
    Dim(Index, Index, u64),
    Type(Index, u32),
    Offset(Index, u64),
    RemoveTensor(Index),
    CopyTensor(Index),
    Name(Index, &'static str),
    Swap(Index, Index),
    Version(u32),
    Counts(u64, u64),
    Byte(Index, u8),
    /// A byte of the first ones, where counts and lengths are.
    EarlyByte(Index, u8),
    Cut(Index),
}

pub fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    let size = || prop_oneof![select(LONG_NUMBERS), select(NUMBERS), 0..100u64];
    let byte = || prop_oneof![select(vec![0, 1, 2, 0x7f, 0x80, 0xff]), any::<u8>()];
    prop_oneof![
        4 => (at(), value()).prop_map(|(at, value)| Damage::Value(at, value)),
        1 => at().prop_map(Damage::RemoveEntry),
        1 => (at(), value()).prop_map(|(at, value)| Damage::CopyEntry(at, value)),
        1 => (at(), select(KEYS)).prop_map(|(at, key)| Damage::Key(at, key)),
        3 => (at(), select(KEYS), value()).prop_map(|(at, key, value)| Damage::Insert(at, key, value)),
        1 => (at(), 0..14u32, size()).prop_map(|(at, element, count)| Damage::List(at, element, count)),
        1 => (at(), 0..15u32).prop_map(|(at, kind)| Damage::Kind(at, kind)),
        1 => (at(), vec(size(), 0..6)).prop_map(|(at, dims)| Damage::Dims(at, dims)),
        2 => (at(), at(), size()).prop_map(|(at, dim, size)| Damage::Dim(at, dim, size)),
        2 => (at(), prop_oneof![0..16u32, select(vec![20, 21, 23, 30, 39, 255, u32::MAX])]).prop_map(|(at, dtype)| Damage::Type(at, dtype)),
        2 => (at(), prop_oneof![size(), (0..2000u64).prop_map(|place| 32 * place)]).prop_map(|(at, offset)| Damage::Offset(at, offset)),
        1 => at().prop_map(Damage::RemoveTensor),
        1 => at().prop_map(Damage::CopyTensor),
        1 => (at(), select(NAMES)).prop_map(|(at, name)| Damage::Name(at, name)),
        1 => (at(), at()).prop_map(|(a, b)| Damage::Swap(a, b)),
        1 => (0..5u32).prop_map(Damage::Version),
        1 => (select(vec![0, 1, u64::MAX, 1 << 40]), select(vec![0, 1, u64::MAX, 1 << 40])).prop_map(|(tensors, entries)| Damage::Counts(tensors, entries)),
        2 => (at(), byte()).prop_map(|(at, byte)| Damage::Byte(at, byte)),
        2 => (at(), byte()).prop_map(|(at, byte)| Damage::EarlyByte(at, byte)),
        1 => at().prop_map(Damage::Cut),
    ]
}

/// The bytes of a file with these damages. Those of parts come before those of bytes.
pub fn damaged(mut file: File, damages: &[Damage]) -> Vec<u8> {
    for damage in damages {
        apply(&mut file, damage);
    }
    let mut bytes = file.bytes();
    for damage in damages {
        let early = bytes.len().min(200);
        match damage {
            Damage::Byte(at, byte) if !bytes.is_empty() => *at.get_mut(&mut bytes) = *byte,
            Damage::EarlyByte(at, byte) if early > 0 => bytes[at.index(early)] = *byte,
            Damage::Cut(at) if !bytes.is_empty() => bytes.truncate(at.index(bytes.len())),
            _ => {}
        }
    }
    bytes
}

fn apply(file: &mut File, damage: &Damage) {
    let (entries, tensors) = (&mut file.entries, &mut file.tensors);
    let entry = |at: &Index, entries: &[_]| (!entries.is_empty()).then(|| at.index(entries.len()));
    let tensor = |at: &Index, tensors: &[_]| (!tensors.is_empty()).then(|| at.index(tensors.len()));
    match damage {
        Damage::Version(version) => file.version = *version,
        Damage::Counts(of_tensors, of_entries) => file.more = (*of_tensors, *of_entries),
        Damage::Insert(at, key, value) => entries.insert(at.index(entries.len() + 1), ((*key).to_owned(), Entry::Valid(value.clone()))),
        Damage::Value(at, _)
        | Damage::RemoveEntry(at)
        | Damage::CopyEntry(at, _)
        | Damage::Key(at, _)
        | Damage::List(at, ..)
        | Damage::Kind(at, _) => {
            let Some(at) = entry(at, entries) else { return };
            match damage {
                Damage::Value(_, value) => entries[at].1 = Entry::Valid(value.clone()),
                Damage::CopyEntry(_, value) => entries.push((entries[at].0.clone(), Entry::Valid(value.clone()))),
                Damage::Key(_, key) => entries[at].0 = (*key).to_owned(),
                Damage::List(_, element, count) => {
                    entries[at].1 = Entry::Bytes(9, [&element.to_le_bytes()[..], &count.to_le_bytes()].concat())
                }
                Damage::Kind(_, kind) => {
                    let bytes = match &entries[at].1 {
                        Entry::Bytes(_, bytes) => bytes.clone(),
                        Entry::Valid(value) => {
                            let mut out = Writer { bytes: Vec::new(), long: file.version != 1 };
                            out.value(value);
                            out.bytes
                        }
                    };
                    entries[at].1 = Entry::Bytes(*kind, bytes);
                }
                _ => drop(entries.remove(at)),
            }
        }
        Damage::Dims(at, _)
        | Damage::Dim(at, ..)
        | Damage::Type(at, _)
        | Damage::Offset(at, _)
        | Damage::RemoveTensor(at)
        | Damage::CopyTensor(at)
        | Damage::Name(at, _)
        | Damage::Swap(at, _) => {
            let Some(at) = tensor(at, tensors) else { return };
            match damage {
                Damage::Dims(_, dims) => tensors[at].dims.clone_from(dims),
                Damage::Dim(_, dim, size) if !tensors[at].dims.is_empty() => *dim.get_mut(&mut tensors[at].dims) = *size,
                Damage::Type(_, dtype) => tensors[at].dtype = *dtype,
                Damage::Offset(_, offset) => tensors[at].offset = *offset,
                Damage::CopyTensor(_) => tensors.push(tensors[at].clone()),
                Damage::Name(_, name) => tensors[at].name = (*name).to_owned(),
                Damage::Swap(_, other) => {
                    let other = other.index(tensors.len());
                    tensors.swap(at, other);
                }
                Damage::RemoveTensor(_) => drop(tensors.remove(at)),
                _ => {}
            }
        }
        // Of bytes, after the parts are written.
        Damage::Byte(..) | Damage::EarlyByte(..) | Damage::Cut(_) => {}
    }
}

/// So many bytes, always the same for a seed.
pub fn random_bytes(seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    Pcg64Mcg::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}
