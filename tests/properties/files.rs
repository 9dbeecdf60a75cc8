//! Whole model files: load → three tokens.

use crate::common::{LLAMA2, Listed, ai_from, start};
use crate::gguf::TYPES;
use crate::gguf_file::{Damage, Entry, File, damage, damaged, list, number, random_bytes, string};
use crate::memory::most_of;
use crate::trial::{ANSWER, check};
use candle_core::quantized::gguf_file::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::json;
use std::rc::Rc;
use workers_ai_local::engine::Limits;
use workers_ai_local::error::{AiError, ErrorCode};
use workers_ai_local::gguf::{BytesSource, Source};

/// The sizes of a model, and what its file says about it.
#[derive(Debug, Clone)]
struct Model {
    layers: u64,
    kv_heads: u64,
    heads_per_kv_head: u64,
    head_width: u64,
    width: u64,
    ffn_width: u64,
    /// Chooses the types of its matrices among those whose blocks fit.
    types: Vec<Index>,
    /// Weights are any bytes, so scales, norms and logits are any number, among them infinite ones and NaN.
    is_wild: bool,
    tied: bool,
    vocabulary: Vocabulary,
    context: u32,
    rope_base: Option<f32>,
    epsilon: f32,
    template: Option<&'static str>,
    seed: u64,
}

#[derive(Debug, Clone, Copy)]
enum Vocabulary {
    /// Byte-level BPE, with this splitting.
    ByteLevel(&'static str),
    SentencePiece,
}

fn model() -> impl Strategy<Value = Model> {
    let width = || prop_oneof![3 => select(vec![32, 64, 96]), 1 => Just(256), 1 => 1..80u64];
    let sizes = (1..3u64, 1..3u64, 1..4u64, 1..20u64, width(), width());
    // Its splitting is a regular expression, whose compilation is most of the time of a load.
    let vocabulary = prop_oneof![
        4 => select(vec!["gpt-2", "smollm"]).prop_map(Vocabulary::ByteLevel),
        1 => select(vec!["llama-bpe", "tekken", "qwen2", "deepseek-coder"]).prop_map(Vocabulary::ByteLevel),
        3 => Just(Vocabulary::SentencePiece),
    ];
    let template = select(vec![
        None,
        Some("{% for m in messages %}{{ m.content }}{% endfor %}"),
        Some("{{ raise_exception('no') }}"),
        Some("{% if %}"),
    ]);
    let context = prop_oneof![8 => select(vec![40, 100, 2048, 1 << 20, 1 << 24]), 1 => select(vec![1, 2, 1 << 31, u32::MAX])];
    let numbers = (
        context,
        prop_oneof![3 => Just(None), 1 => select(vec![1.0, 500_000.0, 1e30, 0.0, -1.0, f32::NAN]).prop_map(Some)],
        select(vec![1e-5, 0.0, 1.0]),
    );
    let rest = (vec(any::<Index>(), 1..5), prop::bool::weighted(0.25), any::<bool>(), vocabulary, template, any::<u64>());
    (sizes, numbers, rest).prop_map(|(sizes, (context, rope_base, epsilon), (types, is_wild, tied, vocabulary, template, seed))| {
        let (layers, kv_heads, heads_per_kv_head, half, width, ffn_width) = sizes;
        Model {
            layers,
            kv_heads,
            heads_per_kv_head,
            head_width: 2 * half,
            width,
            ffn_width,
            types,
            is_wild,
            tied,
            vocabulary,
            context,
            rope_base,
            epsilon,
            template,
            seed,
        }
    })
}

impl Model {
    /// Whether every file of this model can be used.
    fn is_valid(&self) -> bool {
        // Without an epsilon, a norm of zeros is no number.
        (20..=1 << 24).contains(&self.context) && self.rope_base.is_none_or(|base| base > 0.0) && self.epsilon > 0.0
    }

    fn file(&self) -> File {
        let heads = self.kv_heads * self.heads_per_kv_head;
        let (queries, keys) = (heads * self.head_width, self.kv_heads * self.head_width);
        let mut entries = vec![
            ("general.architecture".to_owned(), string("llama")),
            ("llama.block_count".into(), number(self.layers as u32)),
            ("llama.context_length".into(), number(self.context)),
            ("llama.embedding_length".into(), number(self.width as u32)),
            ("llama.feed_forward_length".into(), number(self.ffn_width as u32)),
            ("llama.attention.head_count".into(), number(heads as u32)),
            ("llama.attention.head_count_kv".into(), number(self.kv_heads as u32)),
            ("llama.attention.key_length".into(), number(self.head_width as u32)),
            ("llama.attention.layer_norm_rms_epsilon".into(), Entry::Valid(Value::F32(self.epsilon))),
        ];
        entries.extend(self.rope_base.map(|base| ("llama.rope.freq_base".to_owned(), Entry::Valid(Value::F32(base)))));
        entries.extend(self.template.map(|template| ("tokenizer.chat_template".to_owned(), string(template))));
        let tokens = self.vocabulary.entries(&mut entries);
        let mut file = File::new(3, entries);
        let mut index = 0;
        let mut add = |name: String, columns: u64, rows: Option<u64>| {
            index += 1;
            let fitting: Vec<_> = TYPES.iter().filter(|(_, elements, _)| columns.is_multiple_of(*elements)).collect();
            let chosen = &self.types[index % self.types.len()];
            let (dtype, elements, bytes) = *if rows.is_none() { &TYPES[0] } else { *chosen.get(&fitting) };
            let length = columns * rows.unwrap_or(1) / elements * bytes;
            let mut data = random_bytes(self.seed ^ index as u64, length as usize);
            if !self.is_wild {
                tame(&mut data, dtype, rows.is_none());
            }
            file.add(name, std::iter::once(columns).chain(rows).collect(), dtype, &data);
        };
        add("token_embd.weight".into(), self.width, Some(tokens));
        for layer in 0..self.layers {
            let mut of_layer = |part: &str, columns, rows| add(format!("blk.{layer}.{part}.weight"), columns, rows);
            of_layer("attn_norm", self.width, None);
            of_layer("attn_q", self.width, Some(queries));
            of_layer("attn_k", self.width, Some(keys));
            of_layer("attn_v", self.width, Some(keys));
            of_layer("attn_output", queries, Some(self.width));
            of_layer("ffn_norm", self.width, None);
            of_layer("ffn_gate", self.width, Some(self.ffn_width));
            of_layer("ffn_up", self.width, Some(self.ffn_width));
            of_layer("ffn_down", self.ffn_width, Some(self.width));
        }
        add("output_norm.weight".into(), self.width, None);
        if !self.tied {
            add("output.weight".into(), self.width, Some(tokens));
        }
        file
    }
}

/// Makes the numbers of random data small and finite: norms become 1, others lose the upper bits of their exponents.
fn tame(data: &mut [u8], dtype: u32, is_norm: bool) {
    // Where the 16-bit scales and offsets of a block are.
    let (block, places): (usize, &[usize]) = match dtype {
        0 => {
            for number in data.chunks_exact_mut(4) {
                let small = f32::from(number[0]) / 256.0 - 0.5;
                number.copy_from_slice(&if is_norm { 1.0 } else { small }.to_le_bytes());
            }
            return;
        }
        1 | 30 => (2, &[0]),
        2 | 20 => (18, &[0]),
        3 => (20, &[0, 2]),
        6 => (22, &[0]),
        7 => (24, &[0, 2]),
        8 => (34, &[0]),
        10 => (84, &[80, 82]),
        11 => (110, &[108]),
        12 => (144, &[0, 2]),
        13 => (176, &[0, 2]),
        23 => (136, &[0]),
        _ => (210, &[208]),
    };
    for block in data.chunks_exact_mut(block) {
        for place in places {
            block[place + 1] &= 0xaf;
        }
    }
}

impl Vocabulary {
    /// Adds the entries of the vocabulary, and returns how many tokens it has.
    fn entries(self, entries: &mut Vec<(String, Entry)>) -> u64 {
        let text = |text: &str| Value::String(text.to_owned());
        let (model, words, control): (_, &[&str], _) = match self {
            Self::ByteLevel(pre) => {
                entries.push(("tokenizer.ggml.pre".into(), string(pre)));
                entries.push(("tokenizer.ggml.merges".into(), list(["h e", "Ġ t", "t h", "th e"].map(text))));
                (
                    "gpt2",
                    &["h", "e", "he", "t", "Ġ", "Ġt", "th", "the", "Ã", "©", "!", "{", "}", "\"", "1", "a", "b"],
                    ["<|endoftext|>", "<|im_end|>"],
                )
            }
            Self::SentencePiece => ("llama", &["▁", "h", "e", "he", "▁he", "t", "th", "the", "é", "!", "1", "a", "b"], ["<s>", "</s>"]),
        };
        let bytes = if matches!(self, Self::SentencePiece) { 256 } else { 0 };
        let tokens: Vec<Value> = control
            .map(text)
            .into_iter()
            .chain((0..bytes).map(|byte| text(&format!("<0x{byte:02X}>"))))
            .chain(words.iter().map(|word| text(word)))
            .collect();
        let kinds = [3, 3].into_iter().chain((0..bytes).map(|_| 6)).chain(words.iter().map(|_| 1)).map(Value::I32);
        let count = tokens.len() as u64;
        entries.push(("tokenizer.ggml.model".into(), string(model)));
        entries.push(("tokenizer.ggml.token_type".into(), list(kinds)));
        entries.push(("tokenizer.ggml.scores".into(), list((0..count).map(|id| Value::F32(-(id as f32))))));
        entries.push(("tokenizer.ggml.tokens".into(), list(tokens)));
        entries.push(("tokenizer.ggml.bos_token_id".into(), number(0)));
        entries.push(("tokenizer.ggml.eos_token_id".into(), number(1)));
        count
    }
}

/// The outcome of a raw prompt or a conversation, of three tokens.
fn three_tokens(source: Rc<dyn Source>, raw: bool, temperature: u32) -> Result<usize, AiError> {
    let (ai, _) = ai_from(source, Limits::default());
    let input = json!({"prompt": "the he", "raw": raw, "temperature": temperature, "seed": 1, "max_tokens": 3});
    pollster::block_on(async {
        let mut generation = start(&ai, LLAMA2, input).await?;
        while generation.next().await?.is_some() {}
        Ok(generation.usage().completion_tokens)
    })
}

fn source(name: &str, bytes: Vec<u8>) -> Rc<dyn Source> {
    Rc::new(BytesSource { chunk: 5000, ..BytesSource::new(name, bytes) })
}

/// Memory besides that of the file: caches, and what a thread keeps for later.
const MOST: usize = 64 << 20;

#[test]
fn a_file_gives_three_tokens_or_an_error() {
    let damages = prop_oneof![2 => Just(Vec::new()), 2 => vec(damage(), 1..2), 1 => vec(damage(), 2..4)];
    let inputs = (model(), damages, any::<bool>(), 0..2u32);
    check(
        "files::a_file_gives_three_tokens_or_an_error",
        800,
        inputs,
        |(model, damages, raw, temperature): (Model, Vec<Damage>, bool, u32)| {
            let bytes = damaged(model.file(), &damages);
            let length = bytes.len();
            let (result, most) = most_of(|| three_tokens(source("test.gguf", bytes), raw, temperature));
            prop_assert!(most <= MOST + 16 * length, "{most} bytes of memory for a file of {length} bytes");
            match result {
                Ok(tokens) => {
                    // Fewer, if it ends by itself.
                    prop_assert!(tokens <= 3, "{} tokens", tokens);
                    Ok(ANSWER.into())
                }
                Err(error) => {
                    let is_sound =
                        damages.is_empty() && model.is_valid() && !model.is_wild && model.template != Some("{{ raise_exception('no') }}");
                    prop_assert!(!is_sound, "a valid file: {}", error);
                    let documented =
                        [ErrorCode::InvalidData, ErrorCode::OutOfCapacity, ErrorCode::ContextWindowExceeded, ErrorCode::InvalidInput];
                    prop_assert!(documented.contains(&error.code), "{}", error);
                    Ok(error.to_string())
                }
            }
        },
    );
}

/// What is done to the list of the files of a split model.
#[derive(Debug, Clone)]
enum Disorder {
    Swap(Index, Index),
    Remove(Index),
    Repeat(Index, Index),
}

/// The model, the numbers of tensors of its files, damages of a file each, and what is done to the list.
type SplitInput = (Model, Vec<usize>, Vec<(Index, Damage)>, Vec<Disorder>);

#[test]
fn a_split_model_gives_three_tokens_or_an_error() {
    let at = any::<Index>;
    let disorder = prop_oneof![
        4 => (at(), at()).prop_map(|(a, b)| Disorder::Swap(a, b)),
        1 => at().prop_map(Disorder::Remove),
        1 => (at(), at()).prop_map(|(a, b)| Disorder::Repeat(a, b)),
    ];
    let damages = prop_oneof![2 => Just(Vec::new()), 3 => vec((at(), damage()), 1..3)];
    let inputs = (model(), vec(0..5usize, 1..5), damages, vec(disorder, 0..3));
    check("files::a_split_model_gives_three_tokens_or_an_error", 600, inputs, |(model, counts, damages, disorders): SplitInput| {
        let whole = model.file();
        let mut left = whole.tensors.len();
        let counts: Vec<usize> = counts
            .into_iter()
            .map(|count| {
                let count = count.min(left);
                left -= count;
                count
            })
            .collect();
        let parts = whole.split(&counts);
        let count = parts.len();
        let of_part = |part| damages.iter().filter(|(at, _)| at.index(count) == part).map(|(_, damage)| damage.clone()).collect::<Vec<_>>();
        let mut files: Vec<_> =
            parts.into_iter().enumerate().map(|(part, file)| (format!("part {part}"), damaged(file, &of_part(part)))).collect();
        for disorder in &disorders {
            let now = files.len();
            match disorder {
                Disorder::Swap(a, b) => files.swap(a.index(now), b.index(now)),
                Disorder::Remove(at) if now > 1 => drop(files.remove(at.index(now))),
                Disorder::Remove(_) => {}
                Disorder::Repeat(from, to) => files[to.index(now)] = files[from.index(now)].clone(),
            }
        }
        let length: usize = files.iter().map(|(_, bytes)| bytes.len()).sum();
        let sources: Vec<_> = files.into_iter().map(|(name, bytes)| source(&name, bytes)).collect();
        let (result, most) = most_of(|| three_tokens(Rc::new(Listed(sources)), true, 1));
        prop_assert!(most <= MOST + 16 * length, "{most} bytes of memory for {length} bytes of files");
        let in_order = disorders.iter().all(|disorder| matches!(disorder, Disorder::Swap(..)));
        match result {
            Ok(tokens) => {
                prop_assert!(tokens <= 3, "{} tokens", tokens);
                Ok(ANSWER.into())
            }
            Err(error) => {
                prop_assert!(!(damages.is_empty() && in_order && model.is_valid() && !model.is_wild), "a valid model: {}", error);
                let documented =
                    [ErrorCode::InvalidData, ErrorCode::OutOfCapacity, ErrorCode::ContextWindowExceeded, ErrorCode::InvalidInput];
                prop_assert!(documented.contains(&error.code), "{}", error);
                Ok(error.to_string())
            }
        }
    });
}
