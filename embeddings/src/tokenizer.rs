//! The tokenizer of a model: from `tokenizer.json`, or from the WordPiece vocabulary of a GGUF.

use crate::error::{Error, Result};
use tokenizers::models::bpe::Vocab;
use tokenizers::models::wordpiece::WordPiece;
use tokenizers::normalizers::BertNormalizer;
use tokenizers::pre_tokenizers::bert::BertPreTokenizer;
use tokenizers::processors::bert::BertProcessing;
use tokenizers::{Tokenizer, TruncationParams};

/// A vocabulary by id, with the ids of its special tokens.
pub struct WordPieces {
    pub tokens: Vec<String>,
    /// `[CLS]`
    pub first: usize,
    pub separator: usize,
    pub unknown: usize,
    pub lowercase: bool,
}

fn invalid(error: impl std::fmt::Display) -> Error {
    Error::invalid(format!("the tokenizer cannot be used: {error}"))
}

/// # Errors
///
/// The text is not a `tokenizer.json`.
pub fn from_json(text: &[u8]) -> Result<Tokenizer> {
    Tokenizer::from_bytes(text).map_err(invalid)
}

/// BERT's tokenizer with a vocabulary.
///
/// # Errors
///
/// An id of a special token is not in the vocabulary.
pub fn from_word_pieces(pieces: WordPieces) -> Result<Tokenizer> {
    let WordPieces { tokens, first, separator, unknown, lowercase } = pieces;
    let entry = |id: usize| -> Result<(String, u32)> {
        let token = tokens.get(id).cloned().ok_or_else(|| invalid(format!("the vocabulary has no token {id}")))?;
        Ok((token, u32::try_from(id).map_err(invalid)?))
    };
    let (first, separator, unknown) = (entry(first)?, entry(separator)?, entry(unknown)?);
    let vocabulary: Vocab = tokens.into_iter().zip(0..).collect();
    let model = WordPiece::builder().vocab(vocabulary).unk_token(unknown.0).build().map_err(invalid)?;
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_normalizer(Some(BertNormalizer::new(true, true, None, lowercase))).map_err(invalid)?;
    tokenizer.with_pre_tokenizer(Some(BertPreTokenizer));
    tokenizer.with_post_processor(Some(BertProcessing::new(separator, first)));
    Ok(tokenizer)
}

/// Makes the tokenizer cut texts at so many tokens, special ones included, and never pad them, whatever its file says.
pub fn limit(tokenizer: &mut Tokenizer, most: usize) -> Result<()> {
    let cut = TruncationParams { max_length: most, ..TruncationParams::default() };
    tokenizer.with_truncation(Some(cut)).map_err(invalid)?;
    tokenizer.with_padding(None);
    Ok(())
}

/// The ids of a text's tokens.
///
/// # Errors
///
/// The tokenizer does not know what to do with the text.
pub fn encode(tokenizer: &Tokenizer, text: &str) -> Result<Vec<u32>> {
    Ok(tokenizer.encode_fast(text, true).map_err(invalid)?.get_ids().to_vec())
}
