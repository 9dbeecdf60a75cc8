//! The pipelines before the merges: how a text is normalised and split, chosen by the name in the metadata.

use super::splittings::Splitting;
use super::vocabulary::{TokenKind, Vocabulary};
use std::collections::HashMap;
use tokenizers::models::bpe::BPE;
use tokenizers::normalizers::{NFC, Prepend, Replace, Sequence as NormalizerSequence};
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{NormalizerWrapper, PreTokenizerWrapper, SplitDelimiterBehavior, Tokenizer};

/// The mark inside the name of a control token that is meant as text (`Tokenizer::as_text`). The first step of every pipeline removes it,
/// after control tokens were found. Noncharacters of Unicode, which occur in no text.
pub const MARK: &str = "\u{fdd0}\u{fdef}\u{fdd1}";

/// Byte-level BPE (`tokenizer.ggml.model` = `gpt2`). Takes the merges out of the vocabulary.
///
/// # Errors
///
/// The reason why the vocabulary cannot be used.
pub fn byte_level(vocabulary: &mut Vocabulary, splitting: &Splitting) -> Result<Tokenizer, String> {
    let merges = std::mem::take(&mut vocabulary.merges);
    if merges.is_empty() {
        return Err("it has no merges".into());
    }
    let mut tokenizer = Tokenizer::new(bpe(vocabulary, merges, false, splitting.whole_words)?);
    let mut steps = vec![unmarked()?];
    if splitting.composes {
        steps.push(NFC.into());
    }
    tokenizer.with_normalizer(Some(NormalizerSequence::new(steps))).map_err(|error| error.to_string())?;
    tokenizer.with_pre_tokenizer(Some(by_patterns(splitting.patterns)?));
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
