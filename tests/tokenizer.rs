//! SentencePiece vocabularies compared with a straightforward implementation of SentencePiece's algorithm.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::quantized::gguf_file::Value;
use common::TinyModel;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use std::collections::HashMap;
use std::rc::Rc;
use workers_ai_local::gguf::{BytesSource, Header, Reader};
use workers_ai_local::tokenizer::Tokenizer;

/// A random vocabulary, `(tokens, scores)`: `<unk>`, `<s>`, `</s>`, the 256 bytes, then pieces with scores.
fn vocabulary(rng: &mut Pcg64Mcg) -> (Vec<String>, Vec<f32>) {
    let mut tokens: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).to_vec();
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    let mut scores = vec![0.0; tokens.len()];
    let letters = ["▁", "a", "b", "c", "é", "中"];
    let mut pieces: Vec<String> = letters.map(str::to_owned).to_vec();
    // Longer pieces are joins of earlier ones, as in a trained vocabulary.
    while pieces.len() < 60 {
        let mut pick = || pieces[rng.next_u32() as usize % pieces.len()].clone();
        let joined = pick() + &pick();
        if joined.chars().count() <= 6 && !pieces.contains(&joined) {
            pieces.push(joined);
        }
    }
    for (rank, piece) in pieces.into_iter().enumerate() {
        tokens.push(piece);
        scores.push(-(rank as f32));
    }
    (tokens, scores)
}

fn tokenizer(tokens: &[String], scores: &[f32]) -> Tokenizer {
    let kinds = (0..tokens.len()).map(|id| {
        Value::I32(if id == 0 {
            2
        } else if id < 3 {
            3
        } else if id < 259 {
            6
        } else {
            1
        })
    });
    let metadata: Vec<(String, Value)> = vec![
        ("tokenizer.ggml.model".into(), Value::String("llama".into())),
        ("tokenizer.ggml.tokens".into(), Value::Array(tokens.iter().cloned().map(Value::String).collect())),
        ("tokenizer.ggml.scores".into(), Value::Array(scores.iter().copied().map(Value::F32).collect())),
        ("tokenizer.ggml.token_type".into(), Value::Array(kinds.collect())),
        ("tokenizer.ggml.unknown_token_id".into(), Value::U32(0)),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(1)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(2)),
    ];
    let file = TinyModel { width: 32, heads: 1, kv_heads: 1, ffn_width: 32, layers: 1, metadata, ..TinyModel::default() }.gguf();
    pollster::block_on(async {
        let mut reader = Reader::new(Rc::new(BytesSource::new("spm.gguf", file)), Box::new(|_| {}));
        let header = Header::read(&mut reader).await?;
        Tokenizer::from_header(&header, "spm.gguf")
    })
    .expect("a tokenizer")
}

/// The reference implementation: repeatedly joins the neighbours whose union has the highest score (the leftmost ones among
/// equals), then writes parts that are not in the vocabulary as bytes.
fn reference_encode(tokens: &[String], scores: &[f32], text: &str) -> Vec<u32> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().skip(259).map(|(id, token)| (token.as_str(), id)).collect();
    let mut parts: Vec<String> = format!("▁{}", text.replace(' ', "▁")).chars().map(String::from).collect();
    loop {
        let joins = parts.windows(2).enumerate().filter_map(|(at, pair)| Some((at, *ids.get(pair.concat().as_str())?)));
        let Some((at, _)) = joins.max_by(|a, b| scores[a.1].total_cmp(&scores[b.1]).then(b.0.cmp(&a.0))) else { break };
        let right = parts.remove(at + 1);
        parts[at].push_str(&right);
    }
    let encoded = parts.iter().flat_map(|part| match ids.get(part.as_str()) {
        Some(id) => vec![*id as u32],
        None => part.bytes().map(|byte| 3 + u32::from(byte)).collect(),
    });
    std::iter::once(1).chain(encoded).collect()
}

#[test]
fn pieces_are_joined_as_sentencepiece_joins_them() {
    let mut rng = Pcg64Mcg::seed_from_u64(21);
    for _ in 0..20 {
        let (tokens, scores) = vocabulary(&mut rng);
        let tokenizer = tokenizer(&tokens, &scores);
        for _ in 0..40 {
            let alphabet = ["a", "b", "c", "é", "中", " ", "z", "👍"];
            let text: String = (0..1 + rng.next_u32() % 30).map(|_| alphabet[rng.next_u32() as usize % alphabet.len()]).collect();
            let encoded = tokenizer.encode(&text).expect("tokens");
            assert_eq!(encoded, reference_encode(&tokens, &scores, &text), "{text:?}");
            assert_eq!(tokenizer.decode(&encoded), text);
        }
    }
}
