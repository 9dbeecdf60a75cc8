//! Compares the WebGPU backend with the CPU backend over the same files. Needs a Vulkan adapter; a software adapter is enough.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use common::adapters::TinyAdapter;
use common::{TINY_VOCABULARY, TinyModel, best, dequantised, load, logits_of, quantised_to_iq4, real_model, stock_logits, stock_model};
use kernels::Format;
use std::rc::Rc;
use workers_ai_local::backend::webgpu::{Choice, Context, Options, WebGpuBackend, WebGpuWeights};
use workers_ai_local::backend::{Answer, Backend, CacheId, Input, Wanted, Work};
use workers_ai_local::error::AiError;
use workers_ai_local::gguf::{BytesSource, Parts};
use workers_ai_local::lora::Adapter;
use workers_ai_local::model::{Architecture, load_weights};
use workers_ai_local::tokenizer::Tokenizer;

/// Uses the shaders meant for hardware, on any adapter.
fn hardware() -> Choice {
    Choice { as_hardware: true, ..Choice::default() }
}

fn context(choice: Choice) -> Context {
    let choice = Choice { software: true, named: std::env::var("WORKERS_AI_LOCAL_ADAPTER").ok(), ..choice };
    let context = pollster::block_on(Context::request(&choice)).unwrap_or_else(|error| {
        panic!(
            "these tests need a Vulkan adapter ({error}): install one (Debian: mesa-vulkan-drivers), or point VK_DRIVER_FILES to Chromium's \
             vk_swiftshader_icd.json"
        )
    });
    println!("{}: f16 {}, subgroups {}, serial {}", context.name, context.f16, context.subgroups, context.serial);
    context
}

fn load_gpu(context: &Context, bytes: Vec<u8>, options: Options) -> Result<WebGpuBackend, AiError> {
    pollster::block_on(async {
        let (header, mut reader) = Parts::open(Rc::new(BytesSource::new("test.gguf", bytes)), Rc::new(|_| {})).await?;
        let architecture = Architecture::from_header(&header, "test.gguf")?;
        Tokenizer::from_header(&header, "test.gguf")?;
        let mut weights = WebGpuWeights::new(context);
        load_weights(&header.into_tensors(), &architecture, &mut reader, &mut weights).await?;
        let mut backend = WebGpuBackend::new(architecture, weights, options, &|_, _| ()).await?;
        backend.self_check(&|_, _| ()).await?;
        Ok(backend)
    })
}

fn gpu(bytes: Vec<u8>) -> WebGpuBackend {
    load_gpu(&context(hardware()), bytes, Options::default()).expect("a model")
}

fn forward(backend: &mut dyn Backend, cache: CacheId, tokens: &[u32]) -> Vec<f32> {
    let batch = [Work { cache, input: Input::Tokens(tokens), wanted: Wanted::Logits, adapter: None }];
    logits_of(pollster::block_on(backend.forward(&batch)).expect("logits").remove(0))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn largest(logits: &[f32]) -> f32 {
    logits.iter().fold(0.0, |largest, logit| largest.max(logit.abs()))
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 37 + 11) % TINY_VOCABULARY as u32).collect()
}

/// Compares logits with the CPU backend over the same weights as F32. That rounds only keys and values, as the GPU does, so the logits must
/// agree closely.
fn agrees(what: &str, bytes: Vec<u8>, gpu: &mut WebGpuBackend) {
    agrees_with(what, dequantised(&bytes), gpu);
}

/// Like [`agrees`], with the file of the weights as F32.
fn agrees_with(what: &str, exact: Vec<u8>, gpu: &mut WebGpuBackend) {
    let (mut cpu, _) = load(exact);
    let (ours, theirs) = (gpu.create_cache().expect("a cache"), cpu.create_cache().expect("a cache"));
    let (mut difference, mut scale) = (0f32, 0f32);
    for tokens in [&prompt(24)[..], &[5], &[201], &[77, 3], &prompt(9)] {
        let expected = forward(&mut cpu, theirs, tokens);
        scale = scale.max(largest(&expected));
        difference = difference.max(largest_difference(&forward(gpu, ours, tokens), &expected));
    }
    gpu.release_cache(ours);
    println!("{what}: logits up to {scale} differ by {difference}");
    assert!(difference < 2e-3 * scale, "{what}: {difference} of {scale}");
}

#[test]
fn every_type_of_weights_agrees_with_the_cpu() {
    use GgmlDType::*;
    let contexts = [context(hardware()), context(Choice::default())];
    let candles = [F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4K, Q5K, Q6K].into_iter().map(|dtype| {
        let bytes = TinyModel { dtype, ..TinyModel::default() }.gguf();
        let exact = dequantised(&bytes);
        (format!("{dtype:?}"), [bytes, exact])
    });
    let floats = TinyModel::default().gguf();
    let iq4 = [Format::Iq4Nl, Format::Iq4Xs].map(|format| (format.name().to_owned(), quantised_to_iq4(&floats, format)));
    for (what, [bytes, exact]) in candles.chain(iq4) {
        for context in &contexts {
            let mut backend = load_gpu(context, bytes.clone(), Options::default()).expect("a model");
            agrees_with(&format!("{what}, serial {}", context.serial), exact.clone(), &mut backend);
            if context.packed_dot {
                backend.pack(true);
                agrees_with(&format!("{what}, packed"), exact.clone(), &mut backend);
            }
        }
    }
}

#[test]
fn other_families_agree_with_the_cpu() {
    let contexts = [context(hardware()), context(Choice::default())];
    let granite = |key: &str, value: f32| (format!("granite.{key}"), Value::F32(value));
    let entries = |entries: &[(&str, Value)]| entries.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect::<Vec<_>>();
    // The prompts of `agrees` reach beyond this window.
    const WINDOW: Value = Value::U32(9);
    let behind = TinyModel { norms_before: false, norms_after: true, ..TinyModel::default() };
    let gemma = TinyModel { norms_after: true, layers: 6, tied: true, ..TinyModel::default() };
    for (what, model) in [
        (
            "Ministral 3",
            TinyModel {
                architecture: "mistral3",
                metadata: entries(&[
                    ("mistral3.rope.scaling.type", Value::String("yarn".into())),
                    ("mistral3.rope.scaling.factor", Value::F32(16.0)),
                    ("mistral3.rope.scaling.original_context_length", Value::U32(8)),
                    ("mistral3.attention.temperature_scale", Value::F32(0.1)),
                ]),
                ..TinyModel::default()
            },
        ),
        (
            "Phi-4-mini",
            TinyModel {
                architecture: "phi3",
                fused: true,
                dtype: GgmlDType::Q4K,
                metadata: entries(&[("phi3.rope.dimension_count", Value::U32(48)), ("phi3.rope.scaling.attn_factor", Value::F32(1.2))]),
                ..TinyModel::default()
            },
        ),
        (
            "Gemma 2",
            TinyModel { architecture: "gemma2", metadata: entries(&[("gemma2.attention.sliding_window", WINDOW)]), ..gemma.clone() },
        ),
        (
            "Gemma 3",
            TinyModel {
                architecture: "gemma3",
                head_norms: true,
                dtype: GgmlDType::Q4_0,
                metadata: entries(&[
                    ("gemma3.attention.sliding_window", WINDOW),
                    ("gemma3.rope.freq_base", Value::F32(1e6)),
                    ("gemma3.rope.scaling.factor", Value::F32(8.0)),
                ]),
                ..gemma
            },
        ),
        ("OLMo 2", TinyModel { architecture: "olmo2", whole_norms: true, ..behind.clone() }),
        (
            "OLMo 3",
            TinyModel {
                architecture: "olmo2",
                whole_norms: true,
                layers: 4,
                metadata: entries(&[("olmo2.attention.sliding_window", WINDOW)]),
                ..behind.clone()
            },
        ),
        ("EXAONE 4", TinyModel { architecture: "exaone4", head_norms: true, ..behind.clone() }),
        (
            "EXAONE 4 with windows",
            TinyModel {
                architecture: "exaone4",
                head_norms: true,
                layers: 64,
                width: 64,
                ffn_width: 64,
                // So many layers add up what is rounded.
                scales: vec![("post_", 0.3)],
                metadata: entries(&[("exaone4.attention.sliding_window", WINDOW)]),
                ..behind
            },
        ),
        (
            "GLM-4",
            TinyModel {
                architecture: "glm4",
                fused: true,
                norms_after: true,
                metadata: entries(&[("glm4.rope.dimension_count", Value::U32(32))]),
                ..TinyModel::default()
            },
        ),
        ("Seed-OSS", TinyModel { architecture: "seed_oss", biases: true, ffn_norm: "post_attention_norm", ..TinyModel::default() }),
        ("Qwen 2", TinyModel { architecture: "qwen2", biases: true, ..TinyModel::default() }),
        (
            "Qwen 3",
            TinyModel { architecture: "qwen3", head_norms: true, head_width: Some(128), dtype: GgmlDType::Q4K, ..TinyModel::default() },
        ),
        ("SmolLM3", TinyModel { architecture: "smollm3", layers: 5, ..TinyModel::default() }),
        (
            "Granite",
            TinyModel {
                architecture: "granite",
                metadata: vec![granite("embedding_scale", 12.0), granite("residual_scale", 0.22), granite("attention.scale", 0.05)],
                ..TinyModel::default()
            },
        ),
    ] {
        for context in &contexts {
            let mut backend = load_gpu(context, model.gguf(), Options::default()).expect("a model");
            agrees(&format!("{what}, serial {}", context.serial), model.gguf(), &mut backend);
        }
    }
}

/// Which kind of product is faster, and how many rows take a quarter of a second, depends on the adapter. This checks only that they are timed,
/// that results still agree afterwards, and that products are not timed where there is no choice.
#[test]
fn tune_times_products_where_there_is_a_choice_and_rows_always() {
    /// Each size of a step is timed once or twice: 64, 128 and 256 rows.
    const MOST_FOR_ROWS: u64 = 6;
    let bytes = TinyModel { dtype: GgmlDType::Q4_1, ..TinyModel::default() }.gguf();
    let context = context(hardware());
    assert!(context.packed_dot, "{} has no packed dot products", context.name);
    let submissions = |backend: &mut WebGpuBackend| {
        let before = backend.counters().submissions;
        pollster::block_on(backend.tune()).expect("a choice");
        println!("packed: {}, rows: {}", backend.is_packed(), backend.rows_per_step());
        assert!([32, 64, 128, 256].contains(&backend.rows_per_step()));
        backend.counters().submissions - before
    };
    let mut backend = load_gpu(&context, bytes.clone(), Options::default()).expect("a model");
    assert!(submissions(&mut backend) > MOST_FOR_ROWS);
    agrees("tuned", bytes, &mut backend);

    let floats = TinyModel { dtype: GgmlDType::F16, ..TinyModel::default() }.gguf();
    let mut backend = load_gpu(&context, floats, Options::default()).expect("a model");
    assert!((1..=MOST_FOR_ROWS).contains(&submissions(&mut backend)));
    assert!(!backend.is_packed());
}

#[test]
fn head_counts_and_tied_output_agree_with_the_cpu() {
    let context = context(hardware());
    for (heads, kv_heads, tied) in [(4, 4, false), (4, 1, true), (8, 2, true), (2, 2, false)] {
        let bytes = TinyModel { heads, kv_heads, tied, dtype: GgmlDType::Q4_1, ..TinyModel::default() }.gguf();
        let mut backend = load_gpu(&context, bytes.clone(), Options::default()).expect("a model");
        agrees(&format!("{heads} heads, {kv_heads} KV heads, tied: {tied}"), bytes, &mut backend);
    }
}

#[test]
fn rope_divisors_and_split_matrices_agree_with_the_cpu() {
    let bytes = TinyModel { rope_divisors: Some(vec![4.0; 32]), ..TinyModel::default() }.gguf();
    agrees("divisors", bytes.clone(), &mut gpu(bytes));
    // A larger model with the smallest binding limit that is accepted: gate, up and down are split.
    let bytes = TinyModel { width: 512, ffn_width: 1024, heads: 8, layers: 1, ..TinyModel::default() }.gguf();
    let context = context(Choice { max_binding: Some(1 << 20), ..hardware() });
    let mut backend = load_gpu(&context, bytes.clone(), Options { chunk_rows: 32 }).expect("a model");
    agrees("split", bytes, &mut backend);
}

#[test]
fn types_without_shaders_are_an_error() {
    for dtype in [GgmlDType::Q2K, GgmlDType::Q3K] {
        let bytes = TinyModel { dtype, ..TinyModel::default() }.gguf();
        let error = load_gpu(&context(hardware()), bytes, Options::default()).err().expect("an error");
        assert!(error.text.contains("which the GPU does not compute"), "{error}");
    }
}

/// Splitting, batching, truncating or copying a sequence changes its logits only by the order of additions.
#[test]
fn logits_do_not_depend_on_how_the_cache_was_filled() {
    let context = context(hardware());
    let bytes = TinyModel { dtype: GgmlDType::Q4_1, ..TinyModel::default() }.gguf();
    let mut backend = load_gpu(&context, bytes, Options { chunk_rows: 48 }).expect("a model");
    let prompt = prompt(300);
    let whole = backend.create_cache().expect("a cache");
    let expected = forward(&mut backend, whole, &prompt);
    let scale = largest(&expected);
    let same = |what: &str, logits: &[f32]| {
        let difference = largest_difference(logits, &expected);
        println!("{what}: {difference} of {scale}");
        assert!(difference < 1e-3 * scale, "{what}: {difference} of {scale}");
    };

    let single = backend.create_cache().expect("a cache");
    let mut last = Vec::new();
    for token in &prompt {
        last = forward(&mut backend, single, &[*token]);
    }
    same("token by token, across a cache that grows", &last);

    backend.truncate_cache(single, 20);
    same("truncated and computed again", &forward(&mut backend, single, &prompt[20..]));

    let copy = backend.create_cache().expect("a cache");
    pollster::block_on(backend.copy_prefix(whole, copy, 277)).expect("a copy");
    same("copied and continued", &forward(&mut backend, copy, &prompt[277..]));
    pollster::block_on(backend.copy_prefix(whole, copy, 299)).expect("a copy");
    same("copied over", &forward(&mut backend, copy, &prompt[299..]));

    let (a, b) = (backend.create_cache().expect("a cache"), backend.create_cache().expect("a cache"));
    pollster::block_on(backend.copy_prefix(whole, a, 290)).expect("a copy");
    let batch = [
        Work { cache: b, input: Input::Tokens(&prompt[..10]), wanted: Wanted::Nothing, adapter: None },
        Work { cache: a, input: Input::Tokens(&prompt[290..]), wanted: Wanted::Logits, adapter: None },
    ];
    same("in one batch with another", &logits_of(pollster::block_on(backend.forward(&batch)).expect("logits").remove(0)));
}

#[test]
fn sequences_in_a_batch_agree_with_the_same_ones_computed_one_by_one() {
    let mut backend = gpu(TinyModel { dtype: GgmlDType::Q8_0, ..TinyModel::default() }.gguf());
    // More sequences than a submission has room for, of different lengths; then each one continues by one token.
    let prompts: Vec<Vec<u32>> = (0..11).map(|i| (0..5 + 13 * i).map(|j| (j * 31 + 7 * i) % TINY_VOCABULARY as u32).collect()).collect();
    let new = |backend: &mut WebGpuBackend| -> Vec<CacheId> { prompts.iter().map(|_| backend.create_cache().expect("a cache")).collect() };
    let (together, alone) = (new(&mut backend), new(&mut backend));
    for round in 0..2 {
        let tokens = |i: usize| if round == 0 { prompts[i].clone() } else { vec![i as u32] };
        let tokens: Vec<Vec<u32>> = (0..prompts.len()).map(tokens).collect();
        let batch: Vec<Work> = together
            .iter()
            .zip(&tokens)
            .map(|(cache, tokens)| Work { cache: *cache, input: Input::Tokens(tokens), wanted: Wanted::Logits, adapter: None })
            .collect();
        let logits = pollster::block_on(backend.forward(&batch)).expect("logits");
        for ((cache, tokens), logits) in alone.iter().zip(&tokens).zip(logits) {
            let expected = forward(&mut backend, *cache, tokens);
            let difference = largest_difference(&logits_of(logits), &expected);
            assert!(difference < 1e-3 * largest(&expected), "round {round}: {difference}");
        }
    }
}

#[test]
fn candidates_are_the_largest_logits() {
    let mut backend = gpu(TinyModel { dtype: GgmlDType::Q4_0, ..TinyModel::default() }.gguf());
    let caches: Vec<CacheId> = (0..4).map(|_| backend.create_cache().expect("a cache")).collect();
    let prompt = prompt(30);
    let wanted = [Wanted::Candidates(1), Wanted::Logits, Wanted::Candidates(40), Wanted::Nothing];
    let batch: Vec<Work> = caches
        .iter()
        .zip(wanted)
        .map(|(cache, wanted)| Work { cache: *cache, input: Input::Tokens(&prompt), wanted, adapter: None })
        .collect();
    let answers = pollster::block_on(backend.forward(&batch)).expect("answers");
    let [_, Answer::Logits(logits), _] = &answers[..] else { panic!("{answers:?}") };
    let mut sorted: Vec<(u32, f32)> = (0..).zip(logits.iter().copied()).collect();
    sorted.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
    assert_eq!(answers[0], Answer::Candidates(sorted[..1].to_vec()));
    assert_eq!(answers[2], Answer::Candidates(sorted[..40].to_vec()));
}

#[test]
fn a_failed_batch_leaves_the_caches_unchanged() {
    let mut backend = gpu(TinyModel::default().gguf());
    let (cache, fresh) = (backend.create_cache().expect("a cache"), backend.create_cache().expect("a cache"));
    forward(&mut backend, cache, &[1, 2, 3]);
    let bad = [Work { cache, input: Input::Tokens(&[4, 99_999]), wanted: Wanted::Logits, adapter: None }];
    assert!(pollster::block_on(backend.forward(&bad)).is_err());
    let twice = [
        Work { cache, input: Input::Tokens(&[4]), wanted: Wanted::Logits, adapter: None },
        Work { cache, input: Input::Tokens(&[4]), wanted: Wanted::Logits, adapter: None },
    ];
    assert!(pollster::block_on(backend.forward(&twice)).is_err());
    let (a, b) = (forward(&mut backend, cache, &[4]), forward(&mut backend, fresh, &[1, 2, 3, 4]));
    assert!(largest_difference(&a, &b) < 1e-3 * largest(&b));
}

#[test]
fn a_lost_device_is_an_error_and_does_not_block() {
    let mut backend = gpu(TinyModel::default().gguf());
    let cache = backend.create_cache().expect("a cache");
    forward(&mut backend, cache, &[1, 2, 3]);
    backend.context().device.destroy();
    let batch = [Work { cache, input: Input::Tokens(&[4]), wanted: Wanted::Logits, adapter: None }];
    let error = pollster::block_on(backend.forward(&batch)).expect_err("the device is gone");
    assert!(error.text.contains("GPU was lost"), "{error}");
    assert!(backend.is_lost());
}

/// The real model under forced decoding, along the tokens that the stock model generates in exact arithmetic. Also checks the submissions,
/// buffers, dispatches and bytes per token.
#[test]
fn the_real_model_agrees_with_exact_arithmetic_and_submits_once_per_token() {
    const COUNT: usize = 24;
    let file = real_model();
    let mut exact = stock_model(&dequantised(&file));
    let (_, tokenizer) = load(file.clone());
    let started = std::time::Instant::now();
    // On a software adapter this uses the shaders meant for it, because it is slow enough with those.
    let mut backend = load_gpu(&context(Choice::default()), file, Options::default()).expect("a model");
    println!("loaded and compiled in {:.1?}", started.elapsed());
    let layers = backend.hyperparameters().layers as u64;
    let text = "<|im_start|>user\nTell me about the history of the printing press.<|im_end|>\n<|im_start|>assistant\n";
    let mut tokens = tokenizer.encode(text).expect("tokens");
    let cache = backend.create_cache().expect("a cache");
    let (mut agreed, mut difference, mut position) = (0, 0f32, 0);
    let started = std::time::Instant::now();
    for index in 0..COUNT {
        let theirs = stock_logits(&mut exact, &tokens, position);
        let before = backend.counters();
        position += tokens.len();
        if index % 3 == 2 {
            // As in sampling.
            let batch = [Work { cache, input: Input::Tokens(&tokens), wanted: Wanted::Candidates(40), adapter: None }];
            let answers = pollster::block_on(backend.forward(&batch)).expect("candidates");
            let [Answer::Candidates(candidates)] = &answers[..] else { panic!("{answers:?}") };
            agreed += usize::from(candidates[0].0 as usize == best(&theirs));
            assert!(backend.counters().bytes_read_back - before.bytes_read_back <= 4096);
        } else {
            let ours = forward(&mut backend, cache, &tokens);
            agreed += usize::from(best(&ours) == best(&theirs));
            difference = difference.max(largest_difference(&ours, &theirs));
        }
        if index > 0 {
            let after = backend.counters();
            assert_eq!(after.submissions - before.submissions, 1);
            assert_eq!(after.buffers_created, before.buffers_created);
            let dispatches = after.dispatches - before.dispatches;
            // 6: the embedding, the last norm, the output matrix, and up to three passes that select candidates.
            assert!(dispatches <= 12 * layers + 6, "{dispatches} dispatches for {layers} layers");
            if index == COUNT - 1 {
                println!(
                    "a token: {dispatches} dispatches, {} bytes up, {} bytes back",
                    after.bytes_uploaded - before.bytes_uploaded,
                    after.bytes_read_back - before.bytes_read_back
                );
            }
        }
        tokens = vec![best(&theirs) as u32];
    }
    println!("top-1 {agreed}/{COUNT}, largest difference {difference}, {:.1?} in all", started.elapsed());
    assert!(agreed >= COUNT - 1, "top-1 agreement is {agreed}/{COUNT}");
    assert!(difference < 0.1, "logits differ by {difference}");
}

/// Logits after a prompt and some tokens, computed with an adapter.
fn logits_with(backend: &mut dyn Backend, adapter: Option<&Rc<Adapter>>) -> Vec<Vec<f32>> {
    let cache = backend.create_cache().expect("a cache");
    if let Some(adapter) = adapter {
        pollster::block_on(backend.prepare_adapter(adapter)).expect("an adapter");
    }
    let mut forward = |tokens: &[u32]| {
        let batch = [Work { cache, input: Input::Tokens(tokens), wanted: Wanted::Logits, adapter: adapter.map(Rc::as_ref) }];
        logits_of(pollster::block_on(backend.forward(&batch)).expect("logits").remove(0))
    };
    let all = [&prompt(40)[..], &[5], &[201], &[77, 3], &prompt(9)].map(&mut forward).to_vec();
    backend.release_cache(cache);
    all
}

#[test]
fn adapters_agree_with_models_in_which_they_are_merged() {
    let llama = ("Llama", TinyModel { layers: 1, ..TinyModel::default() }, 8);
    let phi = ("Phi-3", TinyModel { architecture: "phi3", fused: true, layers: 1, ..TinyModel::default() }, 64);
    let gemma = ("Gemma 2", TinyModel { architecture: "gemma2", norms_after: true, tied: true, ..TinyModel::default() }, 3);
    for (context, models) in [(context(hardware()), vec![&llama, &phi, &gemma]), (context(Choice::default()), vec![&gemma])] {
        for (what, model, rank) in models {
            let mut backend = load_gpu(&context, model.gguf(), Options { chunk_rows: 32 }).expect("a model");
            let plain = logits_with(&mut backend, None);
            for part in [".", "ffn_up", "attn_q"] {
                let adapter = TinyAdapter::of(model, &[part], *rank, 3);
                let (mut merged, _) = load(adapter.merged(&model.gguf()));
                let expected = logits_with(&mut merged, None);
                let ours = logits_with(&mut backend, Some(&adapter.loaded(model)));
                for ((ours, expected), plain) in ours.iter().zip(&expected).zip(&plain) {
                    let (difference, effect) = (largest_difference(ours, expected), largest_difference(plain, expected));
                    assert!(difference < 2e-3 * largest(expected), "{what}, {part}: {difference} of {}", largest(expected));
                    assert!(difference < 0.1 * effect, "{what}, {part}: {difference}, the adapter changes {effect}");
                }
            }
            assert_eq!(logits_with(&mut backend, None), plain, "{what}: without an adapter, not a bit changes");
        }
    }
}

#[test]
fn sequences_with_different_adapters_share_a_batch() {
    let model = TinyModel { dtype: GgmlDType::Q4_1, ..TinyModel::default() };
    let mut backend = gpu(model.gguf());
    let adapters =
        [Some(TinyAdapter::of(&model, &["."], 16, 1).loaded(&model)), None, Some(TinyAdapter::of(&model, &["attn"], 5, 2).loaded(&model))];
    for adapter in adapters.iter().flatten() {
        pollster::block_on(backend.prepare_adapter(adapter)).expect("an adapter");
    }
    // Their ids count from 0.
    for _ in 0..6 {
        backend.create_cache().expect("a cache");
    }
    let mut run = |works: &[(CacheId, usize)], tokens: &[u32]| {
        let work = |(cache, index): &(CacheId, usize)| Work {
            cache: *cache,
            input: Input::Tokens(tokens),
            wanted: Wanted::Logits,
            adapter: adapters[*index].as_deref(),
        };
        let batch: Vec<Work<'_>> = works.iter().map(work).collect();
        pollster::block_on(backend.forward(&batch)).expect("logits")
    };
    // Up to three rows are computed by the same shaders as one.
    let steps: [&[u32]; 4] = [&[1], &[2], &[77], &[5]];
    let alone: Vec<Vec<Answer>> =
        (0..3).map(|index| steps.iter().map(|tokens| run(&[(CacheId(index as u64), index)], tokens).remove(0)).collect()).collect();
    let together: Vec<Vec<Answer>> = steps.iter().map(|tokens| run(&[(CacheId(3), 0), (CacheId(4), 1), (CacheId(5), 2)], tokens)).collect();
    for (step, answers) in together.iter().enumerate() {
        for (index, answer) in answers.iter().enumerate() {
            assert!(*answer == alone[index][step], "sequence {index}, step {step}");
        }
    }
    assert!(alone[0] != alone[1] && alone[2] != alone[1]);
}
