//! LoRA adapters on the CPU: compared with models that have the adapter merged in, and from both forms of files.

#![allow(clippy::expect_used, clippy::panic, clippy::string_slice, clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use candle_core::quantized::GgmlDType;
use candle_core::quantized::gguf_file::Value;
use common::adapters::{TinyAdapter, loaded, peft_files, safetensors, source};
use common::{LLAMA31, TINY_VOCABULARY, TinyModel, ai_with, load, logits_of, start, text_of};
use kernels::Format;
use rand_core::{RngCore, SeedableRng};
use rand_pcg::Pcg64Mcg;
use serde_json::json;
use std::collections::HashMap;
use std::rc::Rc;
use workers_ai_local::ai::{Ai, BackendChoice, Config, Lora};
use workers_ai_local::backend::cpu::CpuBackend;
use workers_ai_local::backend::{Answer, Backend, CacheId, Input, Wanted, Work};
use workers_ai_local::engine::Limits;
use workers_ai_local::error::ErrorCode;
use workers_ai_local::lora::{Adapter, AdapterFiles};

fn forward(backend: &mut CpuBackend, cache: CacheId, tokens: &[u32], adapter: Option<&Rc<Adapter>>) -> Vec<f32> {
    let batch = [Work { cache, input: Input::Tokens(tokens), wanted: Wanted::Logits, adapter: adapter.map(Rc::as_ref) }];
    logits_of(pollster::block_on(backend.forward(&batch)).expect("logits").remove(0))
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn prompt(length: u32) -> Vec<u32> {
    (0..length).map(|i| (i * 37 + 11) % TINY_VOCABULARY as u32).collect()
}

/// Logits after a prompt and some single tokens.
fn logits(backend: &mut CpuBackend, adapter: Option<&Rc<Adapter>>) -> Vec<Vec<f32>> {
    let cache = backend.create_cache().expect("a cache");
    [&prompt(24)[..], &[5], &[201], &[77, 3]].into_iter().map(|tokens| forward(backend, cache, tokens, adapter)).collect()
}

/// Models of families whose matrices or their order differ. Those with a width of heads: their converter permutes query and key.
fn families() -> Vec<(&'static str, TinyModel, Option<usize>)> {
    let behind = TinyModel { norms_before: false, norms_after: true, whole_norms: true, ..TinyModel::default() };
    vec![
        ("Llama", TinyModel::default(), Some(64)),
        ("Qwen 2", TinyModel { architecture: "qwen2", biases: true, tied: true, ..TinyModel::default() }, None),
        (
            "Phi-3, of which a part of each head is rotated",
            TinyModel {
                architecture: "phi3",
                fused: true,
                metadata: vec![("phi3.rope.dimension_count".into(), Value::U32(48))],
                ..TinyModel::default()
            },
            None,
        ),
        ("GLM-4", TinyModel { architecture: "glm4", fused: true, norms_after: true, ..TinyModel::default() }, None),
        ("OLMo 2", TinyModel { architecture: "olmo2", ..behind }, None),
    ]
}

#[test]
fn an_adapter_is_as_good_as_merged_for_every_matrix() {
    for (family, model, _) in families() {
        let file = model.gguf();
        let (mut backend, _) = load(file.clone());
        let plain = logits(&mut backend, None);
        for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down", "output.weight", "."] {
            // The output matrix, which a tied model does not have, is not in a layer.
            let adapter = TinyAdapter::of(&model, &[part], 8, 3);
            if adapter.matrices.is_empty() {
                continue;
            }
            let (mut merged, _) = load(adapter.merged(&file));
            let expected = logits(&mut merged, None);
            let ours = logits(&mut backend, Some(&adapter.loaded(&model)));
            for ((ours, expected), plain) in ours.iter().zip(&expected).zip(&plain) {
                let largest = expected.iter().fold(0f32, |largest, logit| largest.max(logit.abs()));
                let (distance, effect) = (largest_difference(ours, expected), largest_difference(plain, expected));
                assert!(distance < 1e-3 * largest, "{family}, {part}: {distance} of {largest}");
                assert!(distance < 0.05 * effect, "{family}, {part}: {distance}, the adapter changes {effect}");
            }
        }
        assert_eq!(logits(&mut backend, None), plain, "{family}: without an adapter, not a bit changes");
    }
}

#[test]
fn both_forms_and_all_types_give_the_same_bits() {
    for (family, model, head) in families() {
        let adapter = TinyAdapter::of(&model, &["."], 6, 5);
        let (mut backend, _) = load(model.gguf());
        let expected = logits(&mut backend, Some(&adapter.loaded(&model)));
        for (dtype, format) in [(GgmlDType::F32, Format::F32), (GgmlDType::F16, Format::F16), (GgmlDType::BF16, Format::Bf16)] {
            let gguf = AdapterFiles::Gguf(source("adapter.gguf", adapter.gguf(dtype)));
            for (form, files) in [("GGUF", gguf), ("PEFT", peft_files(adapter.peft(format, head)))] {
                let loaded = loaded(&files, &model.gguf()).expect("an adapter");
                assert!(logits(&mut backend, Some(&loaded)) == expected, "{family}, {form}, {dtype:?}");
            }
        }
    }
}

#[test]
fn sequences_with_different_adapters_share_a_batch_without_changing_a_bit() {
    for dtype in [GgmlDType::F32, GgmlDType::Q4_1] {
        let model = TinyModel { dtype, ..TinyModel::default() };
        let (mut backend, _) = load(model.gguf());
        let adapters = [
            Some(TinyAdapter::of(&model, &["."], 16, 1).loaded(&model)),
            None,
            Some(TinyAdapter::of(&model, &["attn"], 64, 2).loaded(&model)),
        ];
        let prompts = [prompt(24), prompt(9), prompt(13)];
        let mut alone = Vec::new();
        for (tokens, adapter) in prompts.iter().zip(&adapters) {
            let cache = backend.create_cache().expect("a cache");
            alone.push([tokens, &vec![7, 8], &vec![9]].map(|tokens| forward(&mut backend, cache, tokens, adapter.as_ref())));
        }
        let caches = [(); 3].map(|()| backend.create_cache().expect("a cache"));
        for (step, next) in [None, Some(vec![7, 8]), Some(vec![9])].into_iter().enumerate() {
            let batch: Vec<Work<'_>> = (0..3)
                .map(|index| Work {
                    cache: caches[index],
                    input: Input::Tokens(next.as_ref().unwrap_or(&prompts[index])),
                    wanted: Wanted::Logits,
                    adapter: adapters[index].as_deref(),
                })
                .collect();
            let together = pollster::block_on(backend.forward(&batch)).expect("logits");
            let expected: Vec<Answer> = alone.iter().map(|logits| Answer::Logits(logits[step].clone())).collect();
            assert!(together == expected, "{dtype:?}, step {step}");
        }
    }
}

#[test]
fn an_adapter_that_does_not_fit_is_refused_and_says_how() {
    let model = TinyModel::default();
    let file = model.gguf();
    let adapter = TinyAdapter::of(&model, &["attn_q", "ffn_down"], 8, 3);
    let gguf = |adapter: &TinyAdapter, dtype| AdapterFiles::Gguf(source("adapter.gguf", adapter.gguf(dtype)));
    let changed = |change: &dyn Fn(&mut TinyAdapter)| {
        let mut adapter = adapter.clone();
        change(&mut adapter);
        gguf(&adapter, GgmlDType::F32)
    };
    let (config, weights) = adapter.peft(Format::F32, Some(64));
    let configured = |text: &str| peft_files((text.as_bytes().to_vec(), weights.clone()));
    let tensors = |tensors: &[(&str, [usize; 2])]| {
        let tensors: Vec<_> =
            tensors.iter().map(|(name, shape)| ((*name).to_owned(), shape.to_vec(), vec![0.5; shape[0] * shape[1]])).collect();
        peft_files((config.clone(), safetensors(&tensors, Format::F32)))
    };
    let q = "base_model.model.model.layers.0.self_attn.q_proj";
    let narrow = TinyAdapter::of(&TinyModel { width: 128, ..TinyModel::default() }, &["attn_q"], 8, 3);
    let wide = TinyAdapter::of(&model, &["attn_q"], 65, 3);
    for (files, reason) in [
        (gguf(&narrow, GgmlDType::F32), "'blk.0.attn_q.weight.lora_a' is [8, 128], but must be [8, 256]"),
        (gguf(&wide, GgmlDType::F32), "of rank 65; ranks from 1 to 64 are supported"),
        (gguf(&TinyAdapter::of(&model, &["attn_q"], 32, 3), GgmlDType::Q8_0), "is of type Q8_0, but must be F32, F16 or BF16"),
        (changed(&|adapter| adapter.architecture = "qwen2"), "models of the architecture 'qwen2', this is a 'llama'"),
        (changed(&|adapter| adapter.matrices[0].name = "blk.7.attn_q.weight".into()), "is for layer 7, counted from 0; the model has 2"),
        (changed(&|adapter| adapter.matrices[0].name = "blk.0.attn_x.weight".into()), "a matrix that the model does not have"),
        (changed(&|adapter| adapter.matrices.clear()), "it has no tensors"),
        (AdapterFiles::Gguf(source("model.gguf", file.clone())), "model.gguf is a GGUF file of a model, not of an adapter"),
        (
            AdapterFiles::Gguf(source("text.gguf", b"no GGUF at all".to_vec())),
            "text.gguf cannot be used as an adapter: it is not a GGUF file",
        ),
        (configured("{"), "adapter_config.json is not a JSON object"),
        (configured(r#"{"r": 8, "use_dora": true}"#), "\"use_dora\": true, which is not supported"),
        (configured(r#"{"r": 4, "lora_alpha": 8}"#), "have the rank 8, its configuration says 4"),
        (peft_files((config.clone(), weights[..weights.len() - 4].to_vec())), "is cut off"),
        (peft_files((config.clone(), b"\xff\xff\xff\xff\xff\xff\xff\xff".to_vec())), "is not a safetensors file, or damaged"),
        (peft_files((config.clone(), b"\x02\0\0\0\0\0\0\0[]".to_vec())), "its header is not a JSON object"),
        (tensors(&[(&format!("{q}.lora_A.weight"), [8, 256])]), "has no counterpart"),
        (tensors(&[(&format!("{q}.lora_A.weight"), [8, 256]), (&format!("{q}.lora_B.weight"), [128, 8])]), "but must be [256, 8]"),
        (tensors(&[("base_model.model.model.embed_tokens.lora_embedding_A", [8, 260])]), "adapts the embedding"),
        (tensors(&[(&format!("{q}.weight"), [8, 260])]), "is no part of a low-rank matrix"),
    ] {
        let error = loaded(&files, &file).expect_err("an error");
        assert_eq!(error.code, ErrorCode::LoraUnsupported, "{error}");
        assert!(error.text.starts_with("LoRA adapter 'mine' does not fit test.gguf: "), "{error}");
        assert!(error.text.contains(reason), "{error}\nshould contain: {reason}");
    }
    let missing = AdapterFiles::Peft { config: source("adapter_config.json", config), weights: source("empty", Vec::new()) };
    assert!(loaded(&missing, &file).is_err());
}

/// A file of which bytes are changed, cut or repeated is loaded or refused, and nothing else.
#[test]
fn damaged_files_are_refused() {
    let model = TinyModel { layers: 1, ..TinyModel::default() };
    let adapter = TinyAdapter::of(&model, &["attn_q", "ffn_up"], 4, 3);
    let (config, weights) = adapter.peft(Format::F16, Some(64));
    let file = model.gguf();
    let header = 8 + u64::from_le_bytes(weights[..8].try_into().expect("eight bytes")) as usize;
    let gguf = adapter.gguf(GgmlDType::F16);
    let mut rng = Pcg64Mcg::seed_from_u64(11);
    let mut damaged = |bytes: &[u8], within: usize| {
        let mut bytes = bytes.to_vec();
        for _ in 0..1 + rng.next_u32() % 3 {
            let at = rng.next_u32() as usize % within.min(bytes.len());
            match rng.next_u32() % 6 {
                0 => bytes.truncate(at.max(1)),
                1 => bytes[at] = b'0' + (rng.next_u32() % 10) as u8,
                2 => bytes[at] = 0xff,
                3 => {
                    bytes.remove(at);
                }
                4 => bytes.insert(at, b'9'),
                _ => bytes[at] = rng.next_u32() as u8,
            }
        }
        bytes
    };
    let mut refused = 0;
    for round in 0..600 {
        let files = match round % 3 {
            0 => AdapterFiles::Gguf(source("adapter.gguf", damaged(&gguf, 600))),
            1 => peft_files((damaged(&config, config.len()), weights.clone())),
            _ => peft_files((config.clone(), damaged(&weights, header))),
        };
        if let Err(error) = loaded(&files, &file) {
            let codes = [ErrorCode::LoraUnsupported, ErrorCode::OutOfCapacity, ErrorCode::Aborted];
            assert!(codes.contains(&error.code) && !error.text.is_empty(), "round {round}: {error}");
            refused += 1;
        }
    }
    assert!(refused > 300, "{refused} of 600 were refused");
}

fn ai_with_adapters(model: &TinyModel, loras: Vec<(&str, Option<&str>, AdapterFiles)>) -> Ai {
    let loras = loras.into_iter().map(|(name, model, files)| (name.to_owned(), Lora { model: model.map(str::to_owned), files, id: None }));
    Ai::new(Config {
        models: HashMap::new(),
        loras: loras.collect(),
        default: Some(source("test.gguf", model.gguf())),
        strict: false,
        limits: Limits::default(),
        backend: BackendChoice::Cpu,
        memory: Rc::default(),
        on_progress: None,
        on_warning: Rc::new(|_| ()),
        substitute: None,
        embeddings: None,
        default_embeddings: None,
    })
}

#[test]
fn requests_name_adapters_and_share_no_prefix_with_others() {
    let model = TinyModel::default();
    let adapter = |seed| TinyAdapter::of(&model, &["."], 8, seed);
    let files = |seed| AdapterFiles::Gguf(source(&format!("{seed}.gguf"), adapter(seed).gguf(GgmlDType::F32)));
    let ai = ai_with_adapters(
        &model,
        vec![
            ("first", Some(LLAMA31), files(1)),
            ("second", None, files(2)),
            ("bad", None, AdapterFiles::Gguf(source("bad.gguf", vec![1; 99]))),
            ("of another", Some("@cf/own/none"), files(1)),
        ],
    );
    let answer = |lora: Option<&str>| {
        pollster::block_on(async {
            let mut generation = start(
                &ai,
                LLAMA31,
                json!({"prompt": "he said that he", "raw": true, "max_tokens": 12, "lora": lora, "seed": 1, "temperature": 0}),
            )
            .await?;
            let text = text_of(&mut generation).await?;
            Ok::<_, workers_ai_local::error::AiError>((text, generation.usage().cached_tokens))
        })
    };
    let plain = answer(None).expect("an answer");
    let (merged, _) = ai_with(adapter(1).merged(&model.gguf()), Limits::default());
    let expected = pollster::block_on(async {
        let mut generation =
            start(&merged, LLAMA31, json!({"prompt": "he said that he", "raw": true, "max_tokens": 12, "seed": 1, "temperature": 0}))
                .await?;
        text_of(&mut generation).await
    });
    let first = answer(Some("first")).expect("an answer");
    assert_eq!(first, (expected.expect("an answer"), 0));
    let second = answer(Some("second")).expect("an answer");
    assert_eq!(second.1, 0, "the prefix of another adapter is not used");
    assert!(plain.0 != first.0 && plain.0 != second.0 && first.0 != second.0);
    for (lora, expected) in [(None, plain), (Some("first"), first), (Some("second"), second)] {
        let (text, cached) = answer(lora).expect("an answer");
        assert_eq!(text, expected.0);
        assert!(cached > 0, "{lora:?}: its own prefix is used");
    }
    for (lora, text) in [
        ("frist", "LoRA adapter 'frist' is not known here. Known: bad, first, of another, second."),
        (
            "bad",
            "LoRA adapter 'bad' does not fit test.gguf: bad.gguf cannot be used as an adapter: it is not a GGUF file (the magic number is wrong).",
        ),
        (
            "of another",
            "LoRA adapter 'of another' is for the model @cf/own/none, which is not the one that answers for @cf/meta/llama-3.1-8b-instruct.",
        ),
    ] {
        let error = answer(Some(lora)).expect_err("an error");
        assert_eq!((error.code, error.text.as_str()), (ErrorCode::LoraUnsupported, text));
    }
}
