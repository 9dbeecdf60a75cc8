//! The CPU backend compared with candle's stock quantised Llama, over the same files.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use common::{TINY_VOCABULARY, TinyModel, best, dequantised, load, logits_of, quantised_to_iq4, real_model, stock_logits, stock_model};
use kernels::Format;
use workers_ai_local::backend::cpu::CpuBackend;
use workers_ai_local::backend::{Answer, Backend, CacheId, Input, Wanted, Work};

fn forward(backend: &mut CpuBackend, cache: CacheId, tokens: &[u32]) -> Vec<f32> {
    let batch = [Work { cache, input: Input::Tokens(tokens), wanted: Wanted::Logits, adapter: None }];
    logits_of(pollster::block_on(backend.forward(&batch)).expect("logits").remove(0))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// Accumulates the root mean square of the difference between two models' logits.
#[derive(Default)]
struct Distance {
    squares: f64,
    count: usize,
}

impl Distance {
    fn add(&mut self, a: &[f32], b: &[f32]) {
        self.squares += a.iter().zip(b).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
        self.count += a.len();
    }

    fn root_mean_square(&self) -> f64 {
        (self.squares / self.count as f64).sqrt()
    }
}

#[test]
fn the_real_model_agrees_with_the_stock_model_over_40_forced_tokens() {
    compare_with_stock_model(40);
}

#[test]
#[ignore = "long: takes minutes"]
fn the_real_model_agrees_with_the_stock_model_over_200_forced_tokens() {
    compare_with_stock_model(200);
}

/// Runs four models over the `count` tokens that the stock model generates over F32 weights (exact arithmetic): ours and the
/// stock model, each over the real file and over the same weights as F32.
///
/// Over F32 the models differ in the order of additions, and ours rounds keys to 13 bits and values to 12, so logits must agree
/// closely. Over Q4_1 ours rounds activations to 15 bits, the stock model to 8, so ours must be much closer to exact arithmetic.
fn compare_with_stock_model(count: usize) {
    let file = real_model();
    let exact_file = dequantised(&file);
    let (mut stock, mut exact_stock) = (stock_model(&file), stock_model(&exact_file));
    let ((mut ours, tokenizer), (mut exact_ours, _)) = (load(file), load(exact_file));
    let prompt = "<|im_start|>user\nTell me about the history of the printing press.<|im_end|>\n<|im_start|>assistant\n";
    let mut tokens = tokenizer.encode(prompt).expect("tokens");
    let (cache, exact_cache) = (ours.create_cache().expect("a cache"), exact_ours.create_cache().expect("a cache"));

    let (mut agreed, mut agreed_quantised, mut agreed_stock, mut difference) = (0, 0, 0, 0f32);
    let (mut distance, mut stock_distance) = (Distance::default(), Distance::default());
    let mut position = 0;
    for _ in 0..count {
        let exact_theirs = stock_logits(&mut exact_stock, &tokens, position);
        let theirs = stock_logits(&mut stock, &tokens, position);
        let exact_mine = forward(&mut exact_ours, exact_cache, &tokens);
        let mine = forward(&mut ours, cache, &tokens);
        position += tokens.len();

        agreed += usize::from(best(&exact_mine) == best(&exact_theirs));
        difference = difference.max(largest_difference(&exact_mine, &exact_theirs));
        distance.add(&mine, &exact_theirs);
        stock_distance.add(&theirs, &exact_theirs);
        agreed_quantised += usize::from(best(&mine) == best(&exact_theirs));
        agreed_stock += usize::from(best(&theirs) == best(&exact_theirs));
        tokens = vec![best(&exact_theirs) as u32];
    }
    let (distance, stock_distance) = (distance.root_mean_square(), stock_distance.root_mean_square());
    println!("F32: top-1 {agreed}/{count}, largest difference {difference}");
    println!(
        "Q4_1: top-1 {agreed_quantised}/{count}, the stock model's {agreed_stock}; distance {distance:.4}, the stock model's {stock_distance:.4}"
    );
    assert!(agreed >= count * 99 / 100, "top-1 agreement over F32 is {agreed}/{count}");
    assert!(difference < 0.05, "logits over F32 differ by {difference}");
    assert!(distance <= 0.1 * stock_distance, "ours is {distance} from exact arithmetic, the stock model {stock_distance}");
    assert!(agreed_quantised >= count * 99 / 100, "top-1 agreement over Q4_1 is {agreed_quantised}/{count}");
}

#[test]
fn every_type_of_block_agrees_with_the_stock_model() {
    use GgmlDType::*;
    for dtype in [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K] {
        let bytes = TinyModel { dtype, ..TinyModel::default() }.gguf();
        assert_agrees(&format!("{dtype:?}"), bytes);
    }
}

/// The stock model has no IQ4, so it computes the same weights as F32. Ours must then be as exact as over F32 itself, except for activations
/// of 14 bits and a sign.
#[test]
fn blocks_of_iq4_agree_with_the_stock_model_over_the_same_weights() {
    for (format, tied) in [(Format::Iq4Nl, false), (Format::Iq4Nl, true), (Format::Iq4Xs, false), (Format::Iq4Xs, true)] {
        let [file, exact] = quantised_to_iq4(&TinyModel { tied, ..TinyModel::default() }.gguf(), format);
        let (distance, largest) = distance_from_exact(file, &exact);
        let (over_f32, _) = distance_from_exact(exact.clone(), &exact);
        println!("{}, tied: {tied}: {distance:.6} from exact arithmetic, over F32 {over_f32:.6}, of {largest}", format.name());
        assert!(distance <= 2.0 * over_f32, "{}: {distance} from exact arithmetic, over F32 {over_f32}", format.name());
    }
}

/// The root mean square distance of our logits from the stock model's over `exact`, and the largest logit.
fn distance_from_exact(file: Vec<u8>, exact: &[u8]) -> (f64, f32) {
    let mut exact = stock_model(exact);
    let (mut backend, _) = load(file);
    let cache = backend.create_cache().expect("a cache");
    let (mut distance, mut position, mut largest) = (Distance::default(), 0, 0f32);
    for tokens in [&forced_prompt()[..], &[5], &[201], &[77]] {
        let exact = stock_logits(&mut exact, tokens, position);
        largest = exact.iter().fold(largest, |largest, logit| largest.max(logit.abs()));
        distance.add(&forward(&mut backend, cache, tokens), &exact);
        position += tokens.len();
    }
    (distance.root_mean_square(), largest)
}

fn forced_prompt() -> Vec<u32> {
    (0..24).map(|i| (i * 37 + 11) % TINY_VOCABULARY as u32).collect()
}

#[test]
fn head_counts_and_tied_output_agree_with_the_stock_model() {
    for (heads, kv_heads, tied) in [(4, 4, false), (4, 1, true), (8, 2, true), (2, 2, false)] {
        let bytes = TinyModel { heads, kv_heads, tied, ..TinyModel::default() }.gguf();
        assert_agrees(&format!("{heads} heads, {kv_heads} KV heads, tied: {tied}"), bytes);
    }
}

#[test]
fn other_families_agree_with_the_stock_model() {
    let qwen2 = TinyModel { architecture: "qwen2", biases: true, ..TinyModel::default() };
    let qwen3 = TinyModel { architecture: "qwen3", head_norms: true, ..TinyModel::default() };
    for (what, model) in [
        ("Qwen 2", qwen2.clone()),
        ("Qwen 2, tied, one KV head", TinyModel { tied: true, kv_heads: 1, ..qwen2.clone() }),
        ("Qwen 2, Q4_0", TinyModel { dtype: GgmlDType::Q4_0, ..qwen2.clone() }),
        ("Qwen 2, Q6_K", TinyModel { dtype: GgmlDType::Q6K, ..qwen2 }),
        ("Qwen 3", qwen3.clone()),
        ("Qwen 3, wider heads", TinyModel { head_width: Some(96), ..qwen3.clone() }),
        ("Qwen 3, Q4_K", TinyModel { dtype: GgmlDType::Q4K, ..qwen3.clone() }),
        ("Qwen 3, Q8_0", TinyModel { dtype: GgmlDType::Q8_0, ..qwen3 }),
    ] {
        assert_agrees(what, model.gguf());
    }
}

/// Granite's scales, beside a Llama whose weights have them.
#[test]
fn the_scales_of_granite_are_those_of_weights() {
    let number = |key: &str, value: f32| (format!("granite.{key}"), Value::F32(value));
    let granite = TinyModel {
        architecture: "granite",
        metadata: vec![
            number("embedding_scale", 12.0),
            number("residual_scale", 0.22),
            number("attention.scale", 0.05),
            number("logit_scale", 8.0),
        ],
        ..TinyModel::default()
    };
    // 64 dimensions: scores are divided by 8.
    let scales =
        vec![("token_embd", 12.0), ("attn_output", 0.22), ("ffn_down", 0.22), ("attn_q", 0.05 * 8.0), ("output.weight", 1.0 / 8.0)];
    let llama = TinyModel { scales, ..TinyModel::default() };
    let ((mut ours, _), (mut same, _)) = (load(granite.gguf()), load(llama.gguf()));
    let caches = [ours.create_cache().expect("a cache"), same.create_cache().expect("a cache")];
    for tokens in [&[5, 7, 201, 33, 90][..], &[5], &[77]] {
        let (a, b) = (forward(&mut ours, caches[0], tokens), forward(&mut same, caches[1], tokens));
        let largest = b.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
        assert!(largest_difference(&a, &b) < 2e-3 * largest, "{} of {largest}", largest_difference(&a, &b));
        assert_eq!(best(&a), best(&b));
    }
}

/// Asserts that ours is much closer to exact arithmetic over the same weights than the stock model. The stock model rounds
/// activations to 8 bits in blocks of up to 256; ours rounds them to 15 bits, keys to 13 and values to 12.
fn assert_agrees(what: &str, bytes: Vec<u8>) {
    const KEYS_AND_VALUES: f64 = 5e-4;
    let (mut stock, mut exact) = (stock_model(&bytes), stock_model(&dequantised(&bytes)));
    let (mut backend, _) = load(bytes);
    let cache = backend.create_cache().expect("a cache");
    let prompt = forced_prompt();
    let (mut distance, mut stock_distance) = (Distance::default(), Distance::default());
    let (mut position, mut largest) = (0, 0f32);
    for tokens in [&prompt[..], &[5], &[201], &[77]] {
        let exact = stock_logits(&mut exact, tokens, position);
        largest = exact.iter().fold(largest, |largest, logit| largest.max(logit.abs()));
        distance.add(&forward(&mut backend, cache, tokens), &exact);
        stock_distance.add(&stock_logits(&mut stock, tokens, position), &exact);
        position += tokens.len();
    }
    let (distance, stock_distance) = (distance.root_mean_square(), stock_distance.root_mean_square());
    println!("{what}: {distance:.5} from exact arithmetic, the stock model {stock_distance:.5}");
    assert!(
        distance <= 0.1 * stock_distance + KEYS_AND_VALUES * f64::from(largest),
        "{what}: {distance} from exact arithmetic, the stock model {stock_distance}"
    );
}

/// Llama 3's scaling is stored as a tensor of divisors. Dividing every frequency by 4 is the same as linear scaling by 4, which
/// maps position 4p to p.
#[test]
fn linear_rope_scaling_and_equal_divisors_give_the_same_logits() {
    let linear = TinyModel {
        metadata: vec![
            ("llama.rope.scaling.type".into(), Value::String("linear".into())),
            ("llama.rope.scaling.factor".into(), Value::F32(4.0)),
        ],
        ..TinyModel::default()
    };
    let divisors = TinyModel { rope_divisors: Some(vec![4.0; 32]), ..TinyModel::default() };
    let prompt: Vec<u32> = (0..40).collect();
    let logits = |model: &TinyModel| {
        let (mut backend, _) = load(model.gguf());
        let cache = backend.create_cache().expect("a cache");
        forward(&mut backend, cache, &prompt)
    };
    let plain = logits(&TinyModel::default());
    assert!(largest_difference(&logits(&linear), &logits(&divisors)) < 1e-4);
    assert!(largest_difference(&logits(&linear), &plain) > 1e-2, "scaling changes something");
}

/// Logits are equal to the last bit, whether a sequence is computed whole, in chunks, in a batch, or after truncating or copying its
/// cache.
#[test]
fn logits_are_bit_identical_however_the_cache_was_filled() {
    let (mut backend, _) = load(TinyModel { dtype: GgmlDType::Q4_1, ..TinyModel::default() }.gguf());
    let prompt: Vec<u32> = (0..50).map(|i| (i * 31 + 5) % TINY_VOCABULARY as u32).collect();
    let whole = backend.create_cache().expect("a cache");
    let expected = forward(&mut backend, whole, &prompt);

    let pieces = backend.create_cache().expect("a cache");
    for chunk in prompt[..49].chunks(7) {
        forward(&mut backend, pieces, chunk);
    }
    assert_eq!(forward(&mut backend, pieces, &prompt[49..]), expected, "in chunks");

    backend.truncate_cache(pieces, 20);
    assert_eq!(forward(&mut backend, pieces, &prompt[20..]), expected, "truncated and computed again");

    let copy = backend.create_cache().expect("a cache");
    pollster::block_on(backend.copy_prefix(whole, copy, 33)).expect("a copy");
    assert_eq!(forward(&mut backend, copy, &prompt[33..]), expected, "copied and continued");

    let (a, b) = (backend.create_cache().expect("a cache"), backend.create_cache().expect("a cache"));
    let batch = [
        Work { cache: a, input: Input::Tokens(&prompt), wanted: Wanted::Logits, adapter: None },
        Work { cache: b, input: Input::Tokens(&prompt[..10]), wanted: Wanted::Nothing, adapter: None },
    ];
    let logits = pollster::block_on(backend.forward(&batch)).expect("logits");
    assert_eq!(logits, [Answer::Logits(expected)], "in one batch with another");
}

#[test]
fn a_failed_batch_leaves_the_caches_as_they_were() {
    let (mut backend, _) = load(TinyModel::default().gguf());
    let cache = backend.create_cache().expect("a cache");
    let fresh = backend.create_cache().expect("a cache");
    forward(&mut backend, cache, &[1, 2, 3]);
    let bad = [Work { cache, input: Input::Tokens(&[4, 99_999]), wanted: Wanted::Logits, adapter: None }];
    assert!(pollster::block_on(backend.forward(&bad)).is_err());
    let twice = [
        Work { cache, input: Input::Tokens(&[4]), wanted: Wanted::Logits, adapter: None },
        Work { cache, input: Input::Tokens(&[4]), wanted: Wanted::Logits, adapter: None },
    ];
    assert!(pollster::block_on(backend.forward(&twice)).is_err());
    assert_eq!(forward(&mut backend, cache, &[4]), forward(&mut backend, fresh, &[1, 2, 3, 4]));
}
