//! The vocabulary as the metadata lists it, and the two ways in which its entries represent bytes.

use crate::gguf::Header;
use candle_core::quantized::gguf_file::Value;

/// The kind of an entry, from `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenKind {
    Normal,
    /// Marks structure and is never displayed: `<|im_end|>`, the unknown token.
    Control,
    /// Displayed as it is written.
    UserDefined,
    /// One byte, written `<0x0A>`.
    Byte,
    /// Fills the vocabulary up; never displayed, and not found in a prompt.
    Unused,
}

/// The entries of a vocabulary, indexed by token id.
pub struct Vocabulary {
    pub tokens: Vec<String>,
    pub kinds: Vec<TokenKind>,
    /// SentencePiece's scores; empty if the file has none.
    pub scores: Vec<f32>,
    /// BPE's merges `(left, right)`, best first; empty if the file has none.
    pub merges: Vec<(String, String)>,
    /// The entry for text that no other entry can represent.
    pub unknown: Option<String>,
}

impl Vocabulary {
    /// Reads the vocabulary from the metadata.
    ///
    /// # Errors
    ///
    /// The reason, if the file has no vocabulary or a merge is damaged.
    pub fn from_header(header: &Header) -> Result<Self, String> {
        let texts = |key: &str| -> Option<Vec<String>> { header.array(key)?.iter().map(|value| value.to_string().ok().cloned()).collect() };
        let tokens = texts("tokenizer.ggml.tokens").filter(|tokens| !tokens.is_empty()).ok_or("it has no vocabulary")?;
        let types = header.array("tokenizer.ggml.token_type").unwrap_or_default();
        let kinds = (0..tokens.len())
            .map(|id| match types.get(id).and_then(crate::gguf::integer) {
                Some(2 | 3) => TokenKind::Control,
                Some(5) => TokenKind::Unused,
                Some(4) => TokenKind::UserDefined,
                Some(6) => TokenKind::Byte,
                _ => TokenKind::Normal,
            })
            .collect();
        let scores = header
            .array("tokenizer.ggml.scores")
            .unwrap_or_default()
            .iter()
            .map(|value| match value {
                Value::F32(score) => *score,
                _ => 0.0,
            })
            .collect();
        let merges = texts("tokenizer.ggml.merges")
            .unwrap_or_default()
            .into_iter()
            .map(|merge| merge.split_once(' ').map(|(left, right)| (left.to_owned(), right.to_owned())))
            .collect::<Option<Vec<_>>>()
            .ok_or("a merge does not have two parts")?;
        let unknown = header.integer("tokenizer.ggml.unknown_token_id").and_then(|id| tokens.get(usize::try_from(id).ok()?).cloned());
        Ok(Self { tokens, kinds, scores, merges, unknown })
    }
}

/// The byte that a character of a byte-level entry represents. GPT-2 writes printable Latin-1 bytes as themselves and maps
/// the other 68, in order, to U+0100 and up.
pub fn byte_of_char(character: char) -> Option<u8> {
    let printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    match u32::from(character) {
        code @ 0..=0xff => Some(code as u8).filter(|byte| printable(*byte)),
        code @ 0x100..=0x143 => (0..=255u8).filter(|byte| !printable(*byte)).nth((code - 0x100) as usize),
        _ => None,
    }
}

/// The byte that an entry such as `<0x0A>` represents.
pub fn byte_of_name(name: &str) -> Option<u8> {
    u8::from_str_radix(name.strip_prefix("<0x")?.strip_suffix('>')?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokenizers::pre_tokenizers::byte_level::ByteLevel;

    #[test]
    fn every_byte_has_one_character_as_in_the_tokenizers_crate() {
        let mut bytes: Vec<u8> = ByteLevel::alphabet().into_iter().map(|character| byte_of_char(character).expect("a byte")).collect();
        bytes.sort_unstable();
        assert_eq!(bytes, (0..=255).collect::<Vec<u8>>());
        assert_eq!(byte_of_char('Ġ'), Some(b' '));
        assert_eq!(byte_of_char('Ċ'), Some(b'\n'));
        assert_eq!(byte_of_char('中'), None);
        assert_eq!(byte_of_name("<0x0A>"), Some(b'\n'));
        assert_eq!(byte_of_name("<s>"), None);
    }
}
