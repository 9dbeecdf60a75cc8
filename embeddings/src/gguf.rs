//! The header of a GGUF file of the architecture `bert`: sizes, vocabulary, and the place of each tensor.

use crate::config::{Activation, Config};
use crate::error::{Error, Result};
use crate::header::{Header, Numbers, Place};
use crate::tokenizer::{self, WordPieces};
use candle_core::quantized::gguf_file::{Content, Value};
use std::collections::HashMap;
use std::io::Cursor;

/// What the text of an error begins with if candle could not parse the bytes, of which there may be more to come.
pub const NOT_PARSED: &str = "the file is not a valid GGUF";

/// # Errors
///
/// One that begins with [`NOT_PARSED`], or the file is not a model that can be used.
pub fn header(bytes: &[u8]) -> Result<Header> {
    let content = Content::read(&mut Cursor::new(bytes)).map_err(|error| {
        let text = error.to_string();
        Error::invalid(format!("{NOT_PARSED}: {}", text.lines().next().unwrap_or_default()))
    })?;
    let metadata = Metadata(&content.metadata);
    let architecture = metadata.text("general.architecture")?;
    if architecture != "bert" {
        return Err(Error::invalid(format!(
            "the file is a model of the architecture '{architecture}', and embeddings are computed by 'bert' only"
        )));
    }
    let mut places = Vec::new();
    for (name, info) in &content.tensor_infos {
        let Some(name) = name_in_candle(name) else { continue };
        let (block, size) = (info.ggml_dtype.block_size(), info.ggml_dtype.type_size());
        let dims = info.shape.dims().to_vec();
        let count = dims.iter().try_fold(1usize, |product, dim| product.checked_mul(*dim));
        let bytes = count.filter(|count| count.is_multiple_of(block)).and_then(|count| (count / block).checked_mul(size));
        let start = content.tensor_data_offset.checked_add(info.offset);
        let (Some(bytes), Some(start)) = (bytes, start) else {
            return Err(Error::invalid(format!("the tensor {name} has no possible shape")));
        };
        places.push(Place { name, numbers: Numbers::Ggml(info.ggml_dtype), dims, start, bytes });
    }
    places.sort_by_key(|place| place.start);
    if places.windows(2).any(|pair| pair[0].start.saturating_add(pair[0].bytes as u64) > pair[1].start) {
        return Err(Error::invalid("two tensors of the file overlap"));
    }
    Ok(Header { places, config: Some(metadata.config(&content)?), tokenizer: metadata.tokenizer()?, end: content.tensor_data_offset })
}

struct Metadata<'a>(&'a HashMap<String, Value>);

impl Metadata<'_> {
    fn get(&self, key: &str) -> Result<&Value> {
        self.0.get(key).ok_or_else(|| Error::invalid(format!("the file has no {key}")))
    }

    fn text(&self, key: &str) -> Result<&str> {
        let text = self.get(key)?.to_string();
        Ok(text.map_err(|_| Error::invalid(format!("{key} is no text")))?)
    }

    fn number(&self, key: &str) -> Result<usize> {
        let number = match self.get(key)? {
            Value::U32(number) => Some(*number as usize),
            Value::I32(number) => usize::try_from(*number).ok(),
            Value::U64(number) => usize::try_from(*number).ok(),
            _ => None,
        };
        number.ok_or_else(|| Error::invalid(format!("{key} is no number")))
    }

    fn config(&self, content: &Content) -> Result<Config> {
        let rows = |tensor: &str| content.tensor_infos.get(tensor).and_then(|info| info.shape.dims().first().copied());
        let epsilon = self.get("bert.attention.layer_norm_epsilon")?.to_f32();
        let config = Config {
            vocabulary: rows("token_embd.weight").ok_or_else(|| Error::invalid("the file has no token_embd.weight"))?,
            width: self.number("bert.embedding_length")?,
            layers: self.number("bert.block_count")?,
            heads: self.number("bert.attention.head_count")?,
            inner_width: self.number("bert.feed_forward_length")?,
            positions: self.number("bert.context_length")?,
            // The converter leaves the rows before it out.
            first_position: 0,
            token_types: rows("token_types.weight").unwrap_or(2),
            epsilon: f64::from(epsilon.map_err(|_| Error::invalid("bert.attention.layer_norm_epsilon is no number"))?),
            activation: Activation::Gelu,
        };
        config.check()?;
        Ok(config)
    }

    /// `None` if it is not WordPiece: then `tokenizer.json` is needed too.
    fn tokenizer(&self) -> Result<Option<tokenizers::Tokenizer>> {
        if self.text("tokenizer.ggml.model")? != "bert" {
            return Ok(None);
        }
        let entries = self.get("tokenizer.ggml.tokens")?.to_vec().map_err(|_| Error::invalid("tokenizer.ggml.tokens is no list"))?;
        let tokens = entries.iter().map(|entry| entry.to_string().map(|token| word_piece(token)));
        let tokens: Vec<String> =
            tokens.collect::<std::result::Result<_, _>>().map_err(|_| Error::invalid("an entry of tokenizer.ggml.tokens is no text"))?;
        // The key is written like this in files of all ages.
        let separator = self.number("tokenizer.ggml.seperator_token_id").or_else(|_| self.number("tokenizer.ggml.separator_token_id"));
        let first = self.number("tokenizer.ggml.cls_token_id").or_else(|_| self.number("tokenizer.ggml.bos_token_id"));
        let unknown = self.number("tokenizer.ggml.unknown_token_id");
        let id_of = |number: Result<usize>, name: &str| number.ok().or_else(|| tokens.iter().position(|token| token == name));
        let special = |id: Option<usize>, name: &str| id.ok_or_else(|| Error::invalid(format!("the vocabulary has no {name}")));
        let (first, separator, unknown) = (
            special(id_of(first, "[CLS]"), "[CLS]")?,
            special(id_of(separator, "[SEP]"), "[SEP]")?,
            special(id_of(unknown, "[UNK]"), "[UNK]")?,
        );
        // llama.cpp reads all such vocabularies without case.
        let lowercase = !matches!(self.0.get("tokenizer.ggml.lowercase"), Some(Value::Bool(false)));
        tokenizer::from_word_pieces(WordPieces { tokens, first, separator, unknown, lowercase }).map(Some)
    }
}

/// An entry of the vocabulary as WordPiece writes it: GGUF marks the beginning of a word, WordPiece its continuation.
fn word_piece(token: &str) -> String {
    if token.starts_with('[') && token.ends_with(']') {
        return token.to_owned();
    }
    match token.strip_prefix('\u{2581}') {
        Some(word) => word.to_owned(),
        None => format!("##{token}"),
    }
}

/// The name that candle's BERT has for a tensor; `None` for one that it does not need.
fn name_in_candle(name: &str) -> Option<String> {
    if let Some(block) = name.strip_prefix("blk.") {
        let (number, rest) = block.split_once('.')?;
        let (tensor, part) = rest.rsplit_once('.')?;
        let tensor = match tensor {
            "attn_q" => "attention.self.query",
            "attn_k" => "attention.self.key",
            "attn_v" => "attention.self.value",
            "attn_output" => "attention.output.dense",
            "attn_output_norm" => "attention.output.LayerNorm",
            "ffn_up" => "intermediate.dense",
            "ffn_down" => "output.dense",
            "layer_output_norm" => "output.LayerNorm",
            _ => return None,
        };
        return Some(format!("encoder.layer.{number}.{tensor}.{part}"));
    }
    let name = match name {
        "token_embd.weight" => "word_embeddings.weight",
        "token_types.weight" => "token_type_embeddings.weight",
        "position_embd.weight" => "position_embeddings.weight",
        "token_embd_norm.weight" => "LayerNorm.weight",
        "token_embd_norm.bias" => "LayerNorm.bias",
        _ => return None,
    };
    Some(format!("embeddings.{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vocabularies_are_written_like_word_piece() {
        assert_eq!(word_piece("\u{2581}walk"), "walk");
        assert_eq!(word_piece("ing"), "##ing");
        assert_eq!(word_piece("[CLS]"), "[CLS]");
    }
}
