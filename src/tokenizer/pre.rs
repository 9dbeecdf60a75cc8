//! The pipelines before the merges: how a text is normalised and split, chosen by the name in the metadata.

use super::vocabulary::{TokenKind, Vocabulary};
use crate::gguf::Header;
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// The mark inside the name of a control token that is meant as text (`Tokenizer::as_text`). The first step of every pipeline removes it,
/// after control tokens were found. Noncharacters of Unicode, which occur in no text.
pub const MARK: &str = "\u{fdd0}\u{fdef}\u{fdd1}";

/// Words of Llama 3: contractions, letters with one leading sign, digits in groups of up to three, signs, line ends, spaces.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of Qwen 2: like Llama 3, but single digits.
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Words of Mistral's Tekken: a change of case starts a new word.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

/// Words of DeepSeek Coder, each pattern on what the ones before left together.
const DEEPSEEK_CODER: &[&str] = &[r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"];
/// Names that share GPT-2's splitting, or for which llama.cpp uses it.
const LIKE_GPT2: &[&str] =
    &["default", "gpt-2", "gpt2", "mpt", "olmo", "jais", "phi-2", "roberta-bpe", "jina-es", "jina-de", "jina-v1-en", "trillion"];

/// Byte-level BPE (`tokenizer.ggml.model` = `gpt2`), split as `tokenizer.ggml.pre` says.
///
/// # Errors
///
/// The reason why the vocabulary cannot be used.
pub fn byte_level(header: &Header, vocabulary: &Vocabulary) -> Result<Tokenizer, String> {
    if vocabulary.merges.is_empty() {
        return Err("it has no merges".into());
    }
    let pre = header.text("tokenizer.ggml.pre").unwrap_or("default");
    let (normalizer, splitting, ignores_merges): (Option<NormalizerWrapper>, PreTokenizerWrapper, bool) = match pre {
        "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "smaug-bpe" => (None, by_pattern(LLAMA3)?, pre.starts_with("llama")),
        "qwen2" | "deepseek-r1-qwen" | "megrez" => (Some(NFC.into()), by_pattern(QWEN2)?, false),
        "tekken" => (None, by_pattern(TEKKEN)?, true),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" => {
            let split = vec![Digits::new(true).into(), ByteLevel::new(false, false, true).into()];
            (None, Sequence::new(split).into(), false)
        }
        "deepseek-coder" => (None, by_patterns(DEEPSEEK_CODER)?, false),
        _ if LIKE_GPT2.contains(&pre) => (None, ByteLevel::new(false, false, true).into(), false),
        other => return Err(format!("its splitting '{other}' (tokenizer.ggml.pre) is not known")),
    };
    let mut tokenizer = Tokenizer::new(bpe(vocabulary, vocabulary.merges.clone(), false, ignores_merges)?);
    let steps = [unmarked()?].into_iter().chain(normalizer).collect();
    tokenizer.with_normalizer(Some(NormalizerSequence::new(steps))).map_err(|error| error.to_string())?;
    tokenizer.with_pre_tokenizer(Some(splitting));
    Ok(tokenizer)
}

/// SentencePiece BPE (`tokenizer.ggml.model` = `llama`): no splitting, spaces as `▁`, unknown characters as bytes.
///
/// # Errors
///
/// The reason why the vocabulary cannot be used.
pub fn sentence_piece(vocabulary: &Vocabulary, space_prefix: bool) -> Result<Tokenizer, String> {
    let mut tokenizer = Tokenizer::new(bpe(vocabulary, merges_from_scores(vocabulary), true, false)?);
    let spaces: NormalizerWrapper = Replace::new(" ", "▁").map_err(|error| error.to_string())?.into();
    let mut steps = vec![unmarked()?];
    if space_prefix {
        steps.push(NormalizerWrapper::from(Prepend::new("▁".into())));
    }
    steps.push(spaces);
    tokenizer.with_normalizer(Some(NormalizerSequence::new(steps))).map_err(|error| error.to_string())?;
    Ok(tokenizer)
}

/// The step that removes [`MARK`].
fn unmarked() -> Result<NormalizerWrapper, String> {
    Ok(Replace::new(MARK, "").map_err(|error| error.to_string())?.into())
}

fn by_pattern(pattern: &str) -> Result<PreTokenizerWrapper, String> {
    by_patterns(&[pattern])
}

/// Splits by one pattern after the other; each splits the pieces that the ones before have made.
fn by_patterns(patterns: &[&str]) -> Result<PreTokenizerWrapper, String> {
    let split = |pattern: &&str| Split::new(SplitPattern::Regex((*pattern).into()), SplitDelimiterBehavior::Isolated, false);
    let mut steps: Vec<PreTokenizerWrapper> = Vec::with_capacity(patterns.len() + 1);
    for pattern in patterns {
        steps.push(split(pattern).map_err(|error| error.to_string())?.into());
    }
    steps.push(ByteLevel::new(false, false, false).into());
    Ok(Sequence::new(steps).into())
}

fn bpe(vocabulary: &Vocabulary, merges: Vec<(String, String)>, byte_fallback: bool, ignore_merges: bool) -> Result<BPE, String> {
    let ids = vocabulary.tokens.iter().enumerate().map(|(id, token)| (token.clone(), id as u32));
    let mut builder = BPE::builder()
        .vocab_and_merges(ids.collect::<tokenizers::models::bpe::Vocab>(), merges)
        .byte_fallback(byte_fallback)
        .ignore_merges(ignore_merges);
    if let Some(unknown) = vocabulary.unknown.as_ref().filter(|_| byte_fallback) {
        builder = builder.unk_token(unknown.clone()).fuse_unk(true);
    }
    builder.build().map_err(|error| error.to_string())
}

/// SentencePiece's order of merges. At each step, SentencePiece joins the neighbours whose union has the highest score. The
/// same order as a list of merges: every split of an entry into two entries, sorted by the entry's score.
fn merges_from_scores(vocabulary: &Vocabulary) -> Vec<(String, String)> {
    let joinable = |id: &usize| vocabulary.kinds[*id] == TokenKind::Normal;
    let ids: HashMap<&str, usize> = vocabulary.tokens.iter().enumerate().map(|(id, text)| (text.as_str(), id)).collect();
    let mut order: Vec<usize> = (0..vocabulary.tokens.len()).filter(joinable).collect();
    let score = |id: usize| vocabulary.scores.get(id).copied().unwrap_or(0.0);
    order.sort_by(|a, b| score(*b).total_cmp(&score(*a)).then(a.cmp(b)));
    let mut merges = Vec::new();
    for id in order {
        let text = vocabulary.tokens[id].as_str();
        let mut parts: Vec<(usize, usize)> = text
            .char_indices()
            .skip(1)
            .filter_map(|(at, _)| text.split_at_checked(at))
            .filter_map(|(left, right)| Some((*ids.get(left)?, *ids.get(right)?)))
            .filter(|(left, right)| joinable(left) && joinable(right))
            .collect();
        parts.sort_unstable();
        merges.extend(parts.into_iter().map(|(left, right)| (vocabulary.tokens[left].clone(), vocabulary.tokens[right].clone())));
    }
    merges
}
