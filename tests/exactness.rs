//! Accuracy of each type of weights, compared with f32 arithmetic over the same weights: perplexity and forced top-1 over
//! 2,000 tokens of text. `npm run test:long` runs it for two types; for all:
//!
//! `RUSTFLAGS="-C target-cpu=native" cargo test --release --test exactness -- --ignored --nocapture`
//!
//! `TYPES=Q4_K,Q8_0` limits the run to these types. The reference is candle's stock model over F32.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::quantized::GgmlDType;
use candle_core::{Device, IndexOp, Tensor};
use common::{best, dequantised, load, logits_of, quantised_to_iq4, real_model, requantised, stock_model};
use kernels::Format;
use workers_ai_local::backend::{Backend, CacheId, Input, Wanted, Work};

/// The text is split into this many sequences, computed in one batch so that they share each pass over the weights.
const SEQUENCES: usize = 8;
/// Tokens per sequence.
const LENGTH: usize = 250;

#[test]
#[ignore = "long: takes many minutes; the top of this file says how to run it alone"]
fn perplexity_and_top_1_of_every_type() {
    let types = std::env::var("TYPES").ok();
    let original = real_model();
    let (mut failures, mut compared) = (Vec::new(), 0);
    let files = |dtype| {
        let file = if dtype == GgmlDType::Q4_1 { original.clone() } else { requantised(&original, dtype) };
        let exact = dequantised(&file);
        [file, exact]
    };
    for name in ["Q4_1", "Q4_0", "Q8_0", "Q4_K", "Q6_K", "Q5_K", "Q5_0", "Q5_1", "Q3_K", "Q2_K", "IQ4_NL", "IQ4_XS", "F16", "BF16", "F32"] {
        if types.as_ref().is_some_and(|types| !types.split(',').any(|wanted| wanted == name)) {
            continue;
        }
        let [file, exact] = match name {
            "Q4_1" => files(GgmlDType::Q4_1),
            "Q4_0" => files(GgmlDType::Q4_0),
            "Q8_0" => files(GgmlDType::Q8_0),
            "Q4_K" => files(GgmlDType::Q4K),
            "Q6_K" => files(GgmlDType::Q6K),
            "Q5_K" => files(GgmlDType::Q5K),
            "Q5_0" => files(GgmlDType::Q5_0),
            "Q5_1" => files(GgmlDType::Q5_1),
            "Q3_K" => files(GgmlDType::Q3K),
            "Q2_K" => files(GgmlDType::Q2K),
            "IQ4_NL" => quantised_to_iq4(&original, Format::Iq4Nl),
            "IQ4_XS" => quantised_to_iq4(&original, Format::Iq4Xs),
            "F16" => files(GgmlDType::F16),
            "BF16" => files(GgmlDType::BF16),
            _ => files(GgmlDType::F32),
        };
        let (perplexity, exact, agreed, count) = compare(file, &exact);
        compared += 1;
        let change = 100.0 * (perplexity / exact - 1.0);
        println!(
            "{name}: perplexity {perplexity:.4}, in f32 {exact:.4} ({change:+.2} %); top-1 {agreed}/{count} ({:.1} %)",
            100.0 * agreed as f64 / count as f64
        );
        if change.abs() > 0.5 {
            failures.push(format!("{name}: perplexity differs by {change:.2} %"));
        }
        if agreed * 100 < count * 98 {
            failures.push(format!("{name}: top-1 agrees for {agreed} of {count}"));
        }
    }
    assert!(failures.is_empty(), "{failures:?}");
    assert!(compared > 0, "TYPES names no type");
}

/// Compares ours over `file` with the reference over `exact`, the same weights as F32:
/// `(our perplexity, the reference's, number of tokens with the same top-1, number of tokens)`.
fn compare(file: Vec<u8>, exact: &[u8]) -> (f64, f64, usize, usize) {
    let mut stock = stock_model(exact);
    let (mut ours, tokenizer) = load(file);
    let tokens = tokenizer.encode(include_str!("fixtures/prose.txt")).expect("tokens");
    assert!(tokens.len() >= SEQUENCES * LENGTH, "the text has {} tokens", tokens.len());
    let rows: Vec<&[u32]> = tokens.chunks_exact(LENGTH).take(SEQUENCES).collect();
    let caches: Vec<CacheId> = rows.iter().map(|_| ours.create_cache().expect("a cache")).collect();
    let (mut loss, mut exact_loss, mut agreed, mut count) = (0.0, 0.0, 0, 0);
    for position in 0..LENGTH - 1 {
        let step: Vec<[u32; 1]> = rows.iter().map(|row| [row[position]]).collect();
        let batch: Vec<Work<'_>> = step
            .iter()
            .zip(&caches)
            .map(|(tokens, cache)| Work { cache: *cache, input: Input::Tokens(tokens), wanted: Wanted::Logits, adapter: None })
            .collect();
        let logits = pollster::block_on(ours.forward(&batch)).expect("logits");
        let input = Tensor::new(step.as_flattened(), &Device::Cpu).and_then(|tokens| tokens.unsqueeze(1)).expect("a tensor");
        let exact = stock.forward(&input, position).expect("logits");
        for (index, (row, logits)) in rows.iter().zip(logits.into_iter().map(logits_of)).enumerate() {
            let exact: Vec<f32> = exact.i(index).and_then(|row| row.to_vec1()).expect("a row");
            let next = row[position + 1] as usize;
            loss += negative_log_likelihood(&logits, next);
            exact_loss += negative_log_likelihood(&exact, next);
            agreed += usize::from(best(&logits) == best(&exact));
            count += 1;
        }
    }
    ((loss / count as f64).exp(), (exact_loss / count as f64).exp(), agreed, count)
}

/// `−ln p` of a token.
fn negative_log_likelihood(logits: &[f32], token: usize) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|logit| (f64::from(*logit) - largest).exp()).sum();
    sum.ln() + largest - f64::from(logits[token])
}
