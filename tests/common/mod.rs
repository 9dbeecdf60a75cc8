//! Shared by the integration tests: the real model, small models made by code, and candle's stock model as reference.
#![allow(dead_code, reason = "each test binary uses only a part")]

pub mod adapters;

use candle_core::quantized::gguf_file::{Content, Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use half::f16;
use kernels::Format;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::cell::RefCell;
use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::rc::Rc;
use workers_ai_local::ai::{Ai, BackendChoice, Choices, Config, Nonce};
use workers_ai_local::backend::Answer;
use workers_ai_local::backend::cpu::{CpuBackend, CpuModel, CpuWeights};
use workers_ai_local::engine::{FinishReason, Limits};
use workers_ai_local::error::Result;
use workers_ai_local::gguf::{BytesSource, LocalFuture, OpenedSource, Others, Parts, Source, SourceError};
use workers_ai_local::input::TextGenerationRequest;
use workers_ai_local::model::{Architecture, load_weights};
use workers_ai_local::output::{Part, Progress};
use workers_ai_local::tokenizer::Tokenizer;

pub const LLAMA2: &str = "@cf/meta/llama-2-7b-chat-int8";
pub const LLAMA31: &str = "@cf/meta/llama-3.1-8b-instruct";

/// The bytes of the real model, SmolLM2-135M-Instruct Q4_1. `npm test` sets its path in `WORKERS_AI_LOCAL_MODEL`.
pub fn real_model() -> Vec<u8> {
    let file = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let cache = || {
        let home = std::env::var("XDG_CACHE_HOME").map(PathBuf::from);
        home.unwrap_or_else(|_| PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".cache")).join("workers-ai-local").join(file)
    };
    let path = std::env::var("WORKERS_AI_LOCAL_MODEL").map(PathBuf::from).unwrap_or_else(|_| cache());
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("the real model {} is needed ({error}): run `npm test`, which gets it", path.display()))
}

/// An `Ai` with the given file as default model, and the list of its warnings so far.
pub fn ai_with(bytes: Vec<u8>, limits: Limits) -> (Ai, Rc<RefCell<Vec<String>>>) {
    ai_from(Rc::new(BytesSource::new("test.gguf", bytes)), limits)
}

/// Like [`ai_with`], but reads the file from a source.
pub fn ai_from(source: Rc<dyn Source>, limits: Limits) -> (Ai, Rc<RefCell<Vec<String>>>) {
    let warnings = Rc::new(RefCell::new(Vec::new()));
    let seen = Rc::clone(&warnings);
    let config = Config {
        models: HashMap::new(),
        loras: HashMap::new(),
        default: Some(source),
        strict: false,
        limits,
        backend: BackendChoice::Cpu,
        memory: Rc::default(),
        on_progress: None,
        on_warning: Rc::new(move |text| seen.borrow_mut().push(text.to_owned())),
        substitute: None,
        embeddings: None,
        default_embeddings: None,
    };
    (Ai::new(config), warnings)
}

/// A model in several files, as a list in any order.
pub struct Listed(pub Vec<Rc<dyn Source>>);

impl Source for Listed {
    fn name(&self) -> String {
        self.0[0].name()
    }

    fn others(&self) -> Others {
        Others { sources: self.0[1..].to_vec(), listed: true }
    }

    fn open(&self, offset: u64) -> LocalFuture<'_, std::result::Result<OpenedSource, SourceError>> {
        self.0[0].open(offset)
    }
}

/// Starts a request given as JSON.
pub async fn start(ai: &Ai, model: &str, input: serde_json::Value) -> Result<Choices> {
    ai.generate(model, TextGenerationRequest::from_value(input)?, Nonce::default()).await
}

/// The complete text of an answer. Panics at a call.
pub async fn text_of(choices: &mut Choices) -> Result<String> {
    Ok(text_and_end(choices).await?.0)
}

/// The complete text of an answer, and why it ended.
pub async fn text_and_end(choices: &mut Choices) -> Result<(String, Option<FinishReason>)> {
    let (mut text, mut end) = (String::new(), None);
    while let Some(progress) = choices.next().await? {
        match progress {
            Progress::Part { part: Part::Text(piece), .. } => text.push_str(&piece),
            Progress::Part { part, .. } => panic!("text was expected, not {part:?}"),
            Progress::Finished { reason, .. } => end = Some(reason),
        }
    }
    Ok((text, end))
}

/// A model's CPU backend and tokenizer, without the layers above them.
pub fn load(bytes: Vec<u8>) -> (CpuBackend, Tokenizer) {
    pollster::block_on(async {
        let (header, mut reader) = Parts::open(Rc::new(BytesSource::new("test.gguf", bytes)), Rc::new(|_| {})).await?;
        let architecture = Architecture::from_header(&header, "test.gguf")?;
        let tokenizer = Tokenizer::from_header(&header, "test.gguf")?;
        let mut weights = CpuWeights::default();
        load_weights(&header.into_tensors(), &architecture, &mut reader, &mut weights).await?;
        Ok::<_, workers_ai_local::error::AiError>((CpuBackend::new(CpuModel::new(architecture, weights)?), tokenizer))
    })
    .expect("a model")
}

/// The logits of a backend's answer. Panics at candidates.
pub fn logits_of(answer: Answer) -> Vec<f32> {
    match answer {
        Answer::Logits(logits) => logits,
        Answer::Candidates(_) => panic!("logits were wanted"),
    }
}

/// The token with the largest logit.
pub fn best(logits: &[f32]) -> usize {
    (0..logits.len()).max_by(|a, b| logits[*a].total_cmp(&logits[*b])).expect("logits")
}

/// A small model with random weights.
#[derive(Clone)]
pub struct TinyModel {
    pub architecture: &'static str,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// `None`: the width of the model divided by the number of heads.
    pub head_width: Option<usize>,
    /// Whether query, key and value have biases.
    pub biases: bool,
    /// Whether the heads of query and key have norms.
    pub head_norms: bool,
    /// Whether all heads together of query and of key have norms.
    pub whole_norms: bool,
    /// Whether attention and the feed-forward network have norms before, and behind.
    pub norms_before: bool,
    pub norms_after: bool,
    /// Whether query, key and value are one tensor, and gate and up another one.
    pub fused: bool,
    /// The name of the norm before the feed-forward network.
    pub ffn_norm: &'static str,
    /// Matrices that are multiplied by a number, by the part of their name.
    pub scales: Vec<(&'static str, f32)>,
    pub ffn_width: usize,
    pub layers: usize,
    pub dtype: GgmlDType,
    /// Whether the embedding is also the output matrix.
    pub tied: bool,
    /// Contents of `rope_freqs.weight`, if the file has it.
    pub rope_divisors: Option<Vec<f32>>,
    /// Replaces or adds metadata.
    pub metadata: Vec<(String, Value)>,
}

impl Default for TinyModel {
    fn default() -> Self {
        Self {
            architecture: "llama",
            width: 256,
            heads: 4,
            kv_heads: 2,
            head_width: None,
            biases: false,
            head_norms: false,
            whole_norms: false,
            norms_before: true,
            norms_after: false,
            fused: false,
            ffn_norm: "ffn_norm",
            scales: Vec::new(),
            ffn_width: 512,
            layers: 2,
            dtype: GgmlDType::F32,
            tied: false,
            rope_divisors: None,
            metadata: Vec::new(),
        }
    }
}

/// Number of tokens in the tiny vocabulary: the 256 bytes, then `<s>`, `</s>` and two more.
pub const TINY_VOCABULARY: usize = 260;

impl TinyModel {
    fn head_width(&self) -> usize {
        self.head_width.unwrap_or(self.width / self.heads)
    }

    /// The model as a GGUF file.
    pub fn gguf(&self) -> Vec<u8> {
        let mut rng = Pcg64Mcg::seed_from_u64(7);
        let mut random = |count: usize, scale: f32| -> Vec<f32> {
            // A sum of uniform numbers is close enough to a normal distribution.
            let mut one = || (0..4).map(|_| (rng.next_u32() as f32 / u32::MAX as f32) - 0.5).sum::<f32>() * scale;
            (0..count).map(|_| one()).collect()
        };
        let device = Device::Cpu;
        let mut tensors: Vec<(String, QTensor)> = Vec::new();
        let mut add = |name: &str, shape: &[usize], dtype: GgmlDType, values: Vec<f32>| {
            let scale = self.scales.iter().find(|(part, _)| name.contains(part)).map_or(1.0, |(_, scale)| *scale);
            let values: Vec<f32> = values.into_iter().map(|value| value * scale).collect();
            let tensor = Tensor::from_vec(values, shape, &device).expect("a tensor");
            tensors.push((name.to_owned(), QTensor::quantize(&tensor, dtype).expect("quantised")));
        };
        let (width, ffn) = (self.width, self.ffn_width);
        let head_width = self.head_width();
        let (query_width, kv_width) = (self.heads * head_width, self.kv_heads * head_width);
        add("token_embd.weight", &[TINY_VOCABULARY, width], self.dtype, random(TINY_VOCABULARY * width, 1.0));
        let near_one = |values: Vec<f32>| values.into_iter().map(|value| 1.0 + value).collect::<Vec<f32>>();
        for layer in 0..self.layers {
            let name = |part: &str| format!("blk.{layer}.{part}.weight");
            let mut matrix = |part: &str, rows: usize, columns: usize| {
                add(&name(part), &[rows, columns], self.dtype, random(rows * columns, 2.0 / (columns as f32).sqrt()));
            };
            if self.fused {
                matrix("attn_qkv", query_width + 2 * kv_width, width);
            } else {
                matrix("attn_q", query_width, width);
                matrix("attn_k", kv_width, width);
                matrix("attn_v", kv_width, width);
            }
            matrix("attn_output", width, query_width);
            if self.fused {
                matrix("ffn_up", 2 * ffn, width);
            } else {
                matrix("ffn_gate", ffn, width);
                matrix("ffn_up", ffn, width);
            }
            matrix("ffn_down", width, ffn);
            let before: &[&str] = if self.norms_before { &["attn_norm", self.ffn_norm] } else { &[] };
            let after: &[&str] = if self.norms_after { &["post_attention_norm", "post_ffw_norm"] } else { &[] };
            for part in before.iter().chain(after) {
                add(&name(part), &[width], GgmlDType::F32, near_one(random(width, 0.2)));
            }
            if self.whole_norms {
                for (part, width) in [("attn_q_norm", query_width), ("attn_k_norm", kv_width)] {
                    add(&name(part), &[width], GgmlDType::F32, near_one(random(width, 0.5)));
                }
            }
            if self.biases {
                for (part, width) in [("attn_q", query_width), ("attn_k", kv_width), ("attn_v", kv_width)] {
                    add(&format!("blk.{layer}.{part}.bias"), &[width], GgmlDType::F32, random(width, 0.5));
                }
            }
            if self.head_norms {
                for part in ["attn_q_norm", "attn_k_norm"] {
                    add(&name(part), &[head_width], GgmlDType::F32, near_one(random(head_width, 0.5)));
                }
            }
        }
        add("output_norm.weight", &[width], GgmlDType::F32, near_one(random(width, 0.2)));
        if !self.tied {
            add("output.weight", &[TINY_VOCABULARY, width], self.dtype, random(TINY_VOCABULARY * width, 0.2));
        }
        if let Some(divisors) = &self.rope_divisors {
            add("rope_freqs.weight", &[divisors.len()], GgmlDType::F32, divisors.clone());
        }

        let mut metadata: Vec<(String, Value)> = tiny_metadata(self);
        for (key, value) in &self.metadata {
            metadata.retain(|(other, _)| other != key);
            metadata.push((key.clone(), value.clone()));
        }
        let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
        let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        let mut file = Cursor::new(Vec::new());
        write(&mut file, &metadata, &tensors).expect("a file in memory");
        file.into_inner()
    }
}

fn tiny_metadata(model: &TinyModel) -> Vec<(String, Value)> {
    let number = |value: usize| Value::U32(value as u32);
    let text = |value: &str| Value::String(value.to_owned());
    let llama = |key: &str| format!("{}.{key}", model.architecture);
    let mut tokens: Vec<Value> = (0..=255u8).map(|byte| Value::String(char_of_byte(byte).to_string())).collect();
    tokens.extend(["<s>", "</s>", "<a>", "he"].map(text));
    let mut kinds = vec![Value::I32(1); 256];
    kinds.extend([3, 3, 4, 1].map(Value::I32));
    vec![
        ("general.architecture".into(), text(model.architecture)),
        // Makes candle's Qwen 3 compute in F32.
        ("general.dtype".into(), number(0)),
        (llama("block_count"), number(model.layers)),
        (llama("context_length"), number(512)),
        (llama("embedding_length"), number(model.width)),
        (llama("feed_forward_length"), number(model.ffn_width)),
        (llama("attention.head_count"), number(model.heads)),
        (llama("attention.head_count_kv"), number(model.kv_heads)),
        (llama("attention.key_length"), number(model.head_width())),
        (llama("attention.value_length"), number(model.head_width())),
        (llama("rope.dimension_count"), number(model.head_width())),
        (llama("rope.freq_base"), Value::F32(10_000.0)),
        (llama("attention.layer_norm_rms_epsilon"), Value::F32(1e-5)),
        ("tokenizer.ggml.model".into(), text("gpt2")),
        ("tokenizer.ggml.tokens".into(), Value::Array(tokens)),
        ("tokenizer.ggml.token_type".into(), Value::Array(kinds)),
        ("tokenizer.ggml.merges".into(), Value::Array(vec![text("h e")])),
        ("tokenizer.ggml.bos_token_id".into(), number(256)),
        ("tokenizer.ggml.eos_token_id".into(), number(257)),
    ]
}

/// The character that represents a byte in GPT-2's vocabulary.
pub fn char_of_byte(byte: u8) -> char {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    if printable(byte) {
        return char::from(byte);
    }
    let before = (0..byte).filter(|earlier| !printable(*earlier)).count() as u32;
    char::from_u32(0x100 + before).expect("below U+0144")
}

/// Candle's stock model of an architecture.
pub enum StockModel {
    Llama(candle_transformers::models::quantized_llama::ModelWeights),
    Qwen2(candle_transformers::models::quantized_qwen2::ModelWeights),
    Qwen3(candle_transformers::models::quantized_qwen3::ModelWeights),
}

impl StockModel {
    /// The logits after the last token of each row of `input`; the first tokens have position `position`.
    pub fn forward(&mut self, input: &Tensor, position: usize) -> candle_core::Result<Tensor> {
        match self {
            Self::Llama(model) => model.forward(input, position),
            Self::Qwen2(model) => model.forward(input, position),
            Self::Qwen3(model) => model.forward(input, position),
        }
    }
}

/// Candle's stock model over the same file.
pub fn stock_model(bytes: &[u8]) -> StockModel {
    use candle_transformers::models::{quantized_llama, quantized_qwen2, quantized_qwen3};
    let mut file = Cursor::new(bytes);
    let content = Content::read(&mut file).expect("a header");
    let architecture = content.metadata["general.architecture"].to_string().expect("a text").clone();
    let model = match architecture.as_str() {
        "qwen2" => quantized_qwen2::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).map(StockModel::Qwen2),
        "qwen3" => quantized_qwen3::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).map(StockModel::Qwen3),
        _ => quantized_llama::ModelWeights::from_gguf(content, &mut file, &Device::Cpu).map(StockModel::Llama),
    };
    model.expect("a model")
}

/// The stock model's logits after the last of these tokens; the first has position `position`.
pub fn stock_logits(model: &mut StockModel, tokens: &[u32], position: usize) -> Vec<f32> {
    let input = Tensor::new(tokens, &Device::Cpu).and_then(|tokens| tokens.unsqueeze(0)).expect("a tensor");
    model.forward(&input, position).and_then(|logits| logits.squeeze(0)).and_then(|logits| logits.to_vec1()).expect("logits")
}

/// The model with every tensor dequantised to F32. Over F32 the stock model does not round activations to 8 bits, so two
/// implementations can be compared to the precision of the arithmetic.
pub fn dequantised(bytes: &[u8]) -> Vec<u8> {
    requantised(bytes, GgmlDType::F32)
}

/// The model with every matrix quantised again to `dtype`. Matrices whose rows do not consist of whole blocks of that type
/// become Q8_0; llama.cpp's quantiser falls back in a similar way. Other tensors become F32.
pub fn requantised(bytes: &[u8], dtype: GgmlDType) -> Vec<u8> {
    let mut file = Cursor::new(bytes);
    let content = Content::read(&mut file).expect("a header");
    let requantise = |info: &candle_core::quantized::gguf_file::TensorInfo, file: &mut Cursor<&[u8]>| {
        let tensor = info.read(file, content.tensor_data_offset, &Device::Cpu).expect("a tensor");
        let tensor = tensor.dequantize(&Device::Cpu).expect("numbers");
        let columns = *tensor.dims().last().expect("a shape");
        let dtype = match tensor.dims() {
            [_, _] if columns.is_multiple_of(dtype.block_size()) => dtype,
            [_, _] => GgmlDType::Q8_0,
            _ => GgmlDType::F32,
        };
        QTensor::quantize(&tensor, dtype).expect("quantised")
    };
    let tensors: Vec<(&String, QTensor)> = content.tensor_infos.iter().map(|(name, info)| (name, requantise(info, &mut file))).collect();
    let metadata: Vec<(&str, &Value)> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    let mut out = Cursor::new(Vec::new());
    write(&mut out, &metadata, &tensors).expect("a file in memory");
    out.into_inner()
}

/// The model with every matrix quantised to IQ4_NL or IQ4_XS, and the same model with the weights that these blocks stand for as F32.
/// Candle does not know the two types. Matrices whose rows do not consist of whole blocks of IQ4_XS become IQ4_NL, as by llama.cpp's
/// quantiser. Other tensors become F32.
pub fn quantised_to_iq4(bytes: &[u8], format: Format) -> [Vec<u8>; 2] {
    let mut file = Cursor::new(bytes);
    let content = Content::read(&mut file).expect("a header");
    let (mut quantised, mut exact) = (Vec::new(), Vec::new());
    for (name, info) in &content.tensor_infos {
        let tensor = info.read(&mut file, content.tensor_data_offset, &Device::Cpu).and_then(|tensor| tensor.dequantize(&Device::Cpu));
        let tensor = tensor.expect("a tensor");
        let values: Vec<f32> = tensor.flatten_all().and_then(|all| all.to_vec1()).expect("numbers");
        let shape = tensor.dims().to_vec();
        let f32_bytes = |values: &[f32]| -> Vec<u8> { values.iter().flat_map(|value| value.to_le_bytes()).collect() };
        let (number, data, values) = match shape[..] {
            [_, columns] if format == Format::Iq4Xs && columns.is_multiple_of(256) => concat(23, values.chunks_exact(256).map(iq4_xs)),
            [_, _] => concat(20, values.chunks_exact(32).map(iq4_nl)),
            _ => (0, f32_bytes(&values), values),
        };
        exact.push((name.as_str(), shape.clone(), 0, f32_bytes(&values)));
        quantised.push((name.as_str(), shape, number, data));
    }
    let metadata: Vec<(&str, &Value)> = content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    [quantised, exact].map(|tensors| file_of(&metadata, &tensors))
}

/// A type's number, and the bytes and the weights of its blocks.
fn concat(number: u32, blocks: impl Iterator<Item = (Vec<u8>, Vec<f32>)>) -> (u32, Vec<u8>, Vec<f32>) {
    let (bytes, weights): (Vec<_>, Vec<_>) = blocks.unzip();
    (number, bytes.concat(), weights.concat())
}

/// A GGUF file of any types. Per tensor: name, shape, number of its type, and bytes.
fn file_of(metadata: &[(&str, &Value)], tensors: &[(&str, Vec<usize>, u32, Vec<u8>)]) -> Vec<u8> {
    // Candle writes the metadata of a file without tensors, and zeros after it.
    let end = Value::String("end".into());
    let mut file = Cursor::new(Vec::new());
    write(&mut file, &[metadata, &[("test.end", &end)]].concat(), &[]).expect("a file in memory");
    let mut out = file.into_inner();
    while out.last() == Some(&0) {
        out.pop();
    }
    out[8..16].copy_from_slice(&(tensors.len() as u64).to_le_bytes());
    let mut offset = 0;
    for (name, shape, number, data) in tensors {
        out.extend((name.len() as u64).to_le_bytes());
        out.extend(name.as_bytes());
        out.extend((shape.len() as u32).to_le_bytes());
        out.extend(shape.iter().rev().flat_map(|dim| (*dim as u64).to_le_bytes()));
        out.extend(number.to_le_bytes());
        out.extend((offset as u64).to_le_bytes());
        offset += data.len().next_multiple_of(32);
    }
    for (.., data) in tensors {
        out.resize(out.len().next_multiple_of(32), 0);
        out.extend(data);
    }
    out
}

/// ggml's `kvalues_iq4nl`.
const IQ4_VALUES: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// The scale with which the largest of these weights becomes −127, the table's largest magnitude.
fn iq4_scale(weights: &[f32]) -> f32 {
    let largest = weights.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs())).expect("weights");
    largest / -127.0
}

/// The 16 bytes of 32 weights at a scale, and the weights that they stand for.
fn iq4_codes(weights: &[f32], scale: f32) -> (Vec<u8>, Vec<f32>) {
    let distance = |index: u8, weight: f32| (scale * f32::from(IQ4_VALUES[usize::from(index)]) - weight).abs();
    let nearest = |weight: &f32| (0..16u8).min_by(|a, b| distance(*a, *weight).total_cmp(&distance(*b, *weight))).expect("an index");
    let indices: Vec<u8> = weights.iter().map(nearest).collect();
    let bytes = (0..16).map(|place| indices[place] | indices[place + 16] << 4).collect();
    (bytes, indices.iter().map(|index| scale * f32::from(IQ4_VALUES[usize::from(*index)])).collect())
}

/// A block of 32 weights as IQ4_NL.
fn iq4_nl(weights: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let scale = f16::from_f32(iq4_scale(weights));
    let (bytes, weights) = iq4_codes(weights, scale.to_f32());
    ([scale.to_le_bytes().to_vec(), bytes].concat(), weights)
}

/// A block of 256 weights as IQ4_XS.
fn iq4_xs(weights: &[f32]) -> (Vec<u8>, Vec<f32>) {
    let scales: Vec<f32> = weights.chunks_exact(32).map(iq4_scale).collect();
    let scale = f16::from_f32(scales.iter().fold(0f32, |largest, scale| largest.max(scale.abs())) / 31.0);
    let (mut upper, mut lower, mut codes, mut exact) = (0u16, [0u8; 4], Vec::new(), Vec::new());
    for (part, (weights, own)) in weights.chunks_exact(32).zip(&scales).enumerate() {
        let multiple = (own / scale.to_f32().max(f32::MIN_POSITIVE)).round().clamp(-32.0, 31.0);
        let bits = (multiple as i32 + 32) as u8;
        upper |= u16::from(bits >> 4) << (2 * part);
        lower[part / 2] |= (bits & 15) << (4 * (part % 2));
        let (bytes, weights) = iq4_codes(weights, scale.to_f32() * multiple);
        codes.extend(bytes);
        exact.extend(weights);
    }
    ([&scale.to_le_bytes()[..], &upper.to_le_bytes(), &lower, &codes].concat(), exact)
}
