//! A real model, all-MiniLM-L6-v2: its vectors beside those that ONNX Runtime computed from the same weights (`tests/fixtures/embeddings.json`),
//! as safetensors and as GGUF.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

use candle_core::quantized::gguf_file::{Value, write};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{DType, Device, Tensor};
use candle_nn::VarBuilder;
use candle_transformers::models::xlm_roberta::{Config as XlmRobertaConfig, XLMRobertaModel};
use serde_json::{Value as Json, json};
use std::collections::HashMap;
use std::io::Cursor;
use std::path::PathBuf;
use std::sync::LazyLock;
use workers_ai_local_embeddings::{Embedder, Pooling, Reader, Result};

fn file(name: &str) -> Vec<u8> {
    let cache = std::env::var("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.unwrap_or_else(|_| PathBuf::from(std::env::var("HOME").unwrap_or_default()).join(".cache"));
    let ours = std::env::var("WORKERS_AI_LOCAL_CACHE").map_or_else(|_| cache.join("workers-ai-local"), PathBuf::from);
    let path = ours.join("all-MiniLM-L6-v2").join(name);
    std::fs::read(&path)
        .unwrap_or_else(|error| panic!("the real model {} is needed ({error}): run `npm test`, which gets it", path.display()))
}

/// Loads in pieces of so many bytes.
fn load(weights: &[u8], piece: usize, config: Option<&[u8]>, tokenizer: Option<&[u8]>) -> Result<Embedder> {
    let mut reader = Reader::new();
    for piece in weights.chunks(piece) {
        reader.push(piece)?;
    }
    reader.finish(config, tokenizer)
}

static MODEL: LazyLock<Embedder> = LazyLock::new(|| {
    let (config, tokenizer) = (file("config.json"), file("tokenizer.json"));
    load(&file("model.safetensors"), 1_000_003, Some(&config), Some(&tokenizer)).expect("the model")
});

struct Case {
    text: String,
    pooling: Pooling,
    expected: Vec<f32>,
}

fn prose() -> String {
    std::fs::read_to_string("../tests/fixtures/prose.txt").expect("the text")
}

fn cases() -> Vec<Case> {
    let fixture = std::fs::read_to_string("../tests/fixtures/embeddings.json").expect("the fixture");
    let cases: Vec<Json> = serde_json::from_str(&fixture).expect("JSON");
    cases
        .iter()
        .map(|case| Case {
            text: case["text"].as_str().map_or_else(|| prose().chars().take(1900).collect(), str::to_owned),
            pooling: if case["pooling"] == "cls" { Pooling::Cls } else { Pooling::Mean },
            expected: numbers(case["onnx"].as_str().expect("a vector")),
        })
        .collect()
}

/// Numbers of single precision as base64.
fn numbers(text: &str) -> Vec<f32> {
    const DIGITS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = text.bytes().filter_map(|byte| DIGITS.iter().position(|digit| *digit == byte));
    let (mut bits, mut held, mut bytes) = (0usize, 0, Vec::new());
    for digit in digits {
        (bits, held) = (bits << 6 | digit, held + 6);
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held & 255) as u8);
        }
    }
    bytes.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    assert_eq!(a.len(), b.len());
    let product = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    product(a, b) / (product(a, a) * product(b, b)).sqrt()
}

/// The least cosine of a model's vectors with the expected ones.
fn least_cosine(model: &Embedder) -> f64 {
    let cosines = cases().into_iter().map(|case| {
        let done = model.embed(&[&case.text], case.pooling).expect("a vector");
        let length: f64 = done.vectors.iter().map(|number| f64::from(*number).powi(2)).sum();
        assert!((length - 1.0).abs() < 1e-5, "unit length");
        cosine(&done.vectors, &case.expected)
    });
    cosines.fold(1.0, f64::min)
}

#[test]
fn vectors_are_those_of_another_implementation() {
    let least = least_cosine(&MODEL);
    assert!(least > 0.999_999, "{least}");
}

#[test]
fn a_batch_of_all_lengths_gives_the_vectors_of_its_texts() {
    let prose = prose();
    let texts: Vec<&str> = (0..40).map(|number| prose[..(number * 37 % 40 + 1) * 30].trim()).collect();
    let together = MODEL.embed(&texts, Pooling::Mean).expect("vectors");
    let mut tokens = 0;
    for (text, vector) in texts.iter().zip(together.vectors.chunks_exact(together.width)) {
        let alone = MODEL.embed(&[text], Pooling::Mean).expect("a vector");
        tokens += alone.tokens;
        assert!(cosine(&alone.vectors, vector) > 0.999_999, "{text}");
    }
    assert_eq!(tokens, together.tokens);
}

#[test]
fn long_texts_are_cut_at_the_last_position() {
    let long = prose().repeat(2);
    let (cut, whole) = (MODEL.embed(&[&long[..6000]], Pooling::Mean), MODEL.embed(&[&long], Pooling::Mean));
    let (cut, whole) = (cut.expect("a vector"), whole.expect("a vector"));
    assert_eq!((cut.tokens, whole.tokens), (512, 512));
    assert_eq!(cut.vectors, whole.vectors);
}

/// The same model as a GGUF of numbers of this type, which says that its tokenizer is of this kind.
fn gguf(numbers: GgmlDType, kind: &str) -> Vec<u8> {
    let tensors = candle_core::safetensors::load_buffer(&file("model.safetensors"), &Device::Cpu).expect("tensors");
    let tokenizer: Json = serde_json::from_slice(&file("tokenizer.json")).expect("JSON");
    let vocabulary = tokenizer["model"]["vocab"].as_object().expect("a vocabulary");
    let mut tokens = vec![String::new(); vocabulary.len()];
    for (token, id) in vocabulary {
        let id = usize::try_from(id.as_u64().expect("a number")).expect("an id");
        tokens[id] = match token.strip_prefix("##") {
            Some(rest) => rest.to_owned(),
            None if token.starts_with('[') && token.ends_with(']') => token.clone(),
            None => format!("\u{2581}{token}"),
        };
    }
    let number = |value: u32| Value::U32(value);
    let metadata: Vec<(&str, Value)> = vec![
        ("general.architecture", Value::String("bert".into())),
        ("bert.block_count", number(6)),
        ("bert.context_length", number(512)),
        ("bert.embedding_length", number(384)),
        ("bert.feed_forward_length", number(1536)),
        ("bert.attention.head_count", number(12)),
        ("bert.attention.layer_norm_epsilon", Value::F32(1e-12)),
        ("tokenizer.ggml.model", Value::String(kind.into())),
        ("tokenizer.ggml.tokens", Value::Array(tokens.into_iter().map(Value::String).collect())),
        ("tokenizer.ggml.cls_token_id", number(101)),
        ("tokenizer.ggml.seperator_token_id", number(102)),
        ("tokenizer.ggml.unknown_token_id", number(100)),
    ];
    let names = HashMap::from([
        ("attention.self.query", "attn_q"),
        ("attention.self.key", "attn_k"),
        ("attention.self.value", "attn_v"),
        ("attention.output.dense", "attn_output"),
        ("attention.output.LayerNorm", "attn_output_norm"),
        ("intermediate.dense", "ffn_up"),
        ("output.dense", "ffn_down"),
        ("output.LayerNorm", "layer_output_norm"),
        ("word_embeddings", "token_embd"),
        ("position_embeddings", "position_embd"),
        ("token_type_embeddings", "token_types"),
        ("LayerNorm", "token_embd_norm"),
    ]);
    let quantised = |tensor: &Tensor| {
        let matrix = tensor.rank() == 2 && tensor.dim(1).expect("columns").is_multiple_of(numbers.block_size());
        QTensor::quantize(tensor, if matrix { numbers } else { GgmlDType::F32 }).expect("a tensor")
    };
    let tensors: Vec<(String, QTensor)> = tensors
        .iter()
        .filter_map(|(name, tensor)| {
            let (path, part) = name.rsplit_once('.')?;
            let (prefix, path) = match path.strip_prefix("encoder.layer.") {
                Some(rest) => rest.split_once('.').map(|(block, path)| (format!("blk.{block}."), path))?,
                None => (String::new(), path.strip_prefix("embeddings.")?),
            };
            Some((format!("{prefix}{}.{part}", names.get(path)?), quantised(&tensor.to_dtype(DType::F32).expect("floats"))))
        })
        .collect();
    let mut out = Cursor::new(Vec::new());
    let metadata: Vec<(&str, &Value)> = metadata.iter().map(|(key, value)| (*key, value)).collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    write(&mut out, &metadata, &tensors).expect("a file");
    out.into_inner()
}

#[test]
fn a_gguf_has_its_tokenizer_and_gives_the_same_vectors() {
    for (numbers, at_least) in [(GgmlDType::F32, 0.999_999), (GgmlDType::F16, 0.999_99), (GgmlDType::Q8_0, 0.999)] {
        let model = load(&gguf(numbers, "bert"), 777_777, None, None).expect("the model");
        let least = least_cosine(&model);
        assert!(least > at_least, "{numbers:?}: {least}");
    }
}

#[test]
fn a_gguf_of_another_tokenizer_needs_its_json() {
    let file_with_t5 = gguf(GgmlDType::F32, "t5");
    let error = load(&file_with_t5, 1 << 20, None, None).err().expect("refused").to_string();
    assert!(error.contains("give { weights, tokenizer }"), "{error}");
    let model = load(&file_with_t5, 1 << 20, None, Some(&file("tokenizer.json"))).expect("the model");
    assert!(least_cosine(&model) > 0.999_999);
}

/// The same weights as those of an XLM-RoBERTa, whose first position has another row: beside candle's own model of that kind.
#[test]
fn roberta_counts_positions_from_the_padding_on() {
    let (weights, tokenizer) = (file("model.safetensors"), file("tokenizer.json"));
    let mut config: Json = serde_json::from_slice(&file("config.json")).expect("JSON");
    config["model_type"] = json!("xlm-roberta");
    config["pad_token_id"] = json!(1);
    let model = load(&weights, 1 << 20, Some(config.to_string().as_bytes()), Some(&tokenizer)).expect("the model");

    let config: XlmRobertaConfig = serde_json::from_value(config).expect("a configuration");
    let variables = VarBuilder::from_buffered_safetensors(weights, DType::F32, &Device::Cpu).expect("weights");
    let other = XLMRobertaModel::new(&config, variables).expect("the other model");
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(tokenizer).expect("a tokenizer");
    tokenizer.with_padding(None);
    tokenizer.with_truncation(None).expect("a tokenizer");
    for text in ["A cat sleeps on the warm stone.", "x", &prose()[..800]] {
        let ids = tokenizer.encode(text, true).expect("tokens").get_ids().to_vec();
        let ids = Tensor::from_vec(ids.clone(), (1, ids.len()), &Device::Cpu).expect("ids");
        let (zeros, ones) = (ids.zeros_like().expect("zeros"), ids.ones_like().expect("ones"));
        let hidden = other.forward(&ids, &ones, &zeros, None, None, None).expect("vectors");
        let mean: Vec<f32> = hidden.mean(1).and_then(|mean| mean.flatten_all()?.to_vec1()).expect("a mean");
        let own = model.embed(&[text], Pooling::Mean).expect("a vector").vectors;
        assert!(cosine(&own, &mean) > 0.999_999, "{text}");
        let bert = MODEL.embed(&[text], Pooling::Mean).expect("a vector").vectors;
        assert!(cosine(&bert, &mean) < 0.9999, "the positions have an influence");
    }
    let long = model.embed(&[prose().repeat(2)], Pooling::Mean).expect("a vector");
    assert_eq!(long.tokens, 510);
}

#[test]
fn files_that_do_not_belong_together_are_errors() {
    let (weights, config, tokenizer) = (file("model.safetensors"), file("config.json"), file("tokenizer.json"));
    let refused =
        |weights: &[u8], config: &[u8]| load(weights, 1 << 20, Some(config), Some(&tokenizer)).err().expect("refused").to_string();
    assert!(refused(&weights[..40_000_000], &config).contains("ends before the tensor"));
    let other = |from: &str, to: &str| String::from_utf8_lossy(&config).replace(from, to);
    assert!(refused(&weights, other("384", "768").as_bytes()).contains("shape mismatch"));
    assert!(refused(&weights, other("\"num_hidden_layers\": 6", "\"num_hidden_layers\": 7").as_bytes()).contains("layer.6"));
    assert!(refused(&weights, other("30522", "30000").as_bytes()).contains("30522 tokens"));
}
