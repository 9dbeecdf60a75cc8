//! Text ↔ tokens, from the vocabulary inside the GGUF.
//!
//! The `tokenizers` crate splits and merges. This module configures it as the file's metadata says, and converts tokens back
//! to bytes, for a stream that never cuts a character.

mod pre;
mod splittings;
mod stream;
mod vocabulary;

pub use stream::StreamDecoder;

use crate::error::{AiError, Result};
use crate::gguf::Header;
use splittings::Splitting;
use std::collections::HashSet;
use vocabulary::{TokenKind, Vocabulary};

/// How the texts of vocabulary entries represent bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ByteEncoding {
    /// Every byte is one printable character (GPT-2's byte-level BPE).
    ByteLevel,
    /// `▁` is a space, `<0x0A>` a single byte (SentencePiece).
    SentencePiece,
}

/// The tokenizer of one model.
pub struct Tokenizer {
    inner: tokenizers::Tokenizer,
    byte_encoding: ByteEncoding,
    kinds: Vec<TokenKind>,
    unknown_splitting: Option<String>,
    /// The names of control tokens.
    control_names: Vec<String>,
    /// Whether SentencePiece puts a space in front of a text. If so, the answer's first token starts with one too.
    space_prefix: bool,
    /// The token that a prompt must start with, if there is one.
    leading: Option<u32>,
    /// The token that a text ends with whose embedding is computed, if there is one.
    trailing: Option<u32>,
    /// Tokens that end an answer.
    end_of_generation: HashSet<u32>,
    /// Text of the beginning-of-sequence token, for chat templates.
    pub bos_text: String,
    /// Text of the end-of-sequence token, for chat templates.
    pub eos_text: String,
}

/// Names of tokens of code models: the parts that a gap is between, its place, padding, repository and file. Control tokens whatever
/// their kind says, as in llama.cpp, and so are the end-of-turn tokens.
const GAP_NAMES: &[&str] = &[
    "<|fim_prefix|>",
    "<fim-prefix>",
    "<fim_prefix>",
    "<PRE>",
    "▁<PRE>",
    "<|code_prefix|>",
    "<|fim_suffix|>",
    "<fim-suffix>",
    "<fim_suffix>",
    "<SUF>",
    "▁<SUF>",
    "<|code_suffix|>",
    "<|fim_middle|>",
    "<fim-middle>",
    "<fim_middle>",
    "<MID>",
    "▁<MID>",
    "<|code_middle|>",
    "<|fim_pad|>",
    "<fim-pad>",
    "<fim_pad>",
    "<PAD>",
    "<|fim_repo|>",
    "<|repo_name|>",
    "<fim-repo>",
    "<REPO>",
    "<reponame>",
    "<|file_sep|>",
];

/// Control tokens of Phi-3 behind which white space stays, unlike behind its others.
const PHI3_KEEPS_SPACE: &[&str] = &["<unk>", "<s>", "<|endoftext|>"];

/// Known names of end-of-turn tokens; the metadata lists at most two of them.
const END_NAMES: &[&str] = &[
    "<|im_end|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<|eot_id|>",
    "<|eom_id|>",
    "<|end|>",
    "<|end_of_turn|>",
    "<|END_OF_TURN_TOKEN|>",
    "<|eot|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    "<EOT>",
    "▁<EOT>",
    "[EOT]",
    "[EOS]",
    "<eos>",
    "</s>",
];

impl Tokenizer {
    /// Builds the tokenizer that the metadata describes. `name` is the file's name, for messages.
    ///
    /// # Errors
    ///
    /// 5004 if the metadata describes no tokenizer that can be used.
    pub fn from_header(header: &Header, name: &str) -> Result<Self> {
        let unusable = |reason: String| AiError::invalid_data(format!("{name} has a tokenizer that cannot be used: {reason}."));
        let mut vocabulary = Vocabulary::from_header(header).map_err(unusable)?;
        for (text, kind) in vocabulary.tokens.iter().zip(&mut vocabulary.kinds) {
            let ends = END_NAMES.contains(&text.as_str()) && !text.starts_with('▁');
            if ends || GAP_NAMES.contains(&text.as_str()) {
                *kind = TokenKind::Control;
            }
        }
        let model = header.text("tokenizer.ggml.model").unwrap_or("none");
        let space_prefix = model == "llama" && header.flag("tokenizer.ggml.add_space_prefix").unwrap_or(true);
        let named = header.text("tokenizer.ggml.pre").unwrap_or("default");
        let splitting = Splitting::named(named);
        let unknown_splitting = (model == "gpt2" && splitting.is_none()).then(|| named.to_owned());
        let splitting = splitting.unwrap_or(&splittings::UNKNOWN);
        let adds_bos_unasked = model == "llama" || (model == "gpt2" && splitting.bos);
        let (byte_encoding, mut inner) = match model {
            "gpt2" => (ByteEncoding::ByteLevel, pre::byte_level(&mut vocabulary, splitting).map_err(unusable)?),
            "llama" => (ByteEncoding::SentencePiece, pre::sentence_piece(&vocabulary, space_prefix).map_err(unusable)?),
            other => return Err(unusable(format!("its kind '{other}' is not supported (gpt2 and llama are)"))),
        };
        // Control and user-defined entries are recognised as a whole, anywhere in a prompt.
        let special = |(_, kind): &(&String, &TokenKind)| matches!(kind, TokenKind::Control | TokenKind::UserDefined);
        let added = vocabulary.tokens.iter().zip(&vocabulary.kinds).filter(special);
        let model_name = header.text("general.name").unwrap_or_default().to_lowercase();
        let is_phi3 = model_name.contains("phi-3") || model_name.contains("phi3");
        let added = added.map(|(text, kind)| {
            let takes_space = is_phi3 && *kind == TokenKind::Control && !PHI3_KEEPS_SPACE.contains(&text.as_str());
            tokenizers::AddedToken::from(text.clone(), *kind == TokenKind::Control).normalized(false).rstrip(takes_space)
        });
        inner.add_special_tokens(added).map_err(|error| unusable(error.to_string()))?;

        // An id of the metadata; `otherwise` if the file does not have it.
        let id_or = |key: &str, otherwise: Option<u64>| {
            let id = header.integer(&format!("tokenizer.ggml.{key}")).or(otherwise)?;
            u32::try_from(id).ok().filter(|id| (*id as usize) < vocabulary.tokens.len())
        };
        let text_of = |id: Option<u32>| id.map(|id| vocabulary.tokens[id as usize].clone()).unwrap_or_default();
        // llama.cpp's defaults for SentencePiece.
        let bos = id_or("bos_token_id", (model == "llama").then_some(1));
        let eos = id_or("eos_token_id", (model == "llama").then_some(2));
        let adds_bos = header.flag("tokenizer.ggml.add_bos_token").unwrap_or(adds_bos_unasked);
        let mut end_of_generation: HashSet<u32> =
            [eos, id_or("eot_token_id", None), id_or("eom_token_id", None)].into_iter().flatten().collect();
        end_of_generation.extend(
            vocabulary
                .tokens
                .iter()
                .enumerate()
                // Of any kind: some files list them as normal or user-defined entries.
                .filter(|(_, text)| END_NAMES.contains(&text.as_str()))
                .map(|(id, _)| id as u32),
        );
        Ok(Self {
            inner,
            byte_encoding,
            space_prefix,
            leading: bos.filter(|_| adds_bos),
            trailing: eos.filter(|_| header.flag("tokenizer.ggml.add_eos_token").unwrap_or(false)),
            end_of_generation,
            bos_text: text_of(bos),
            eos_text: text_of(eos),
            control_names: control_names(&vocabulary),
            kinds: vocabulary.kinds,
            unknown_splitting,
        })
    }

    /// The name of the file's splitting, if it is not known. Texts are then split like GPT-2's.
    pub fn unknown_splitting(&self) -> Option<&str> {
        self.unknown_splitting.as_deref()
    }

    /// The tokens of a prompt. Names of control tokens inside the text become these tokens. The beginning-of-sequence token is added
    /// in front if the model needs it and the text does not start with it.
    ///
    /// # Errors
    ///
    /// 5004 if the text cannot be tokenised.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>> {
        let mut tokens = self.encode_text(text)?;
        if let Some(bos) = self.leading
            && tokens.first() != Some(&bos)
        {
            tokens.insert(0, bos);
        }
        Ok(tokens)
    }

    /// The tokens of a text whose embedding is computed, at most `limit` of them: the beginning of a longer text. Names of control tokens are text.
    ///
    /// # Errors
    ///
    /// 5004 if the text cannot be tokenised.
    pub fn encode_for_embedding(&self, text: &str, limit: usize) -> Result<Vec<u32>> {
        let mut tokens = self.encode(&self.as_text(text))?;
        tokens.truncate(limit.saturating_sub(usize::from(self.trailing.is_some())));
        tokens.extend(self.trailing);
        Ok(tokens)
    }

    /// The tokens of a part of a text.
    ///
    /// # Errors
    ///
    /// 5004 if the tokenizer fails.
    pub fn encode_text(&self, text: &str) -> Result<Vec<u32>> {
        let encoding = self.inner.encode_fast(text, false);
        let encoding = encoding.map_err(|error| AiError::invalid_data(format!("The prompt could not be turned into tokens: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }

    /// A text in which `encode` finds no control tokens: their names in it are marked, and `encode` removes the marks.
    pub fn as_text(&self, text: &str) -> String {
        let mut marked = text.to_owned();
        for name in self.control_names.iter().filter(|name| text.contains(name.as_str())) {
            let mut letters = name.chars();
            if let Some(first) = letters.next() {
                marked = marked.replace(name.as_str(), &format!("{first}{}{}", pre::MARK, letters.as_str()));
            }
        }
        marked
    }

    /// A text without the marks of [`Tokenizer::as_text`].
    pub fn without_marks(&self, text: String) -> String {
        if text.contains(pre::MARK) { text.replace(pre::MARK, "") } else { text }
    }

    /// Whether the vocabulary has an entry with this text.
    pub fn has(&self, text: &str) -> bool {
        self.inner.token_to_id(text).is_some()
    }

    /// Tokens that end an answer.
    pub fn end_of_generation(&self) -> &HashSet<u32> {
        &self.end_of_generation
    }

    /// The bytes that a token adds to a text; none for control and unknown tokens. A character may be spread over several tokens.
    pub fn token_bytes(&self, token: u32) -> Vec<u8> {
        let kind = self.kinds.get(token as usize).copied().unwrap_or(TokenKind::Control);
        let Some(text) = self.inner.id_to_token(token) else { return Vec::new() };
        match (kind, self.byte_encoding) {
            (TokenKind::Control | TokenKind::Unused, _) => Vec::new(),
            (TokenKind::UserDefined, _) => text.into_bytes(),
            (TokenKind::Byte, _) => vocabulary::byte_of_name(&text).map(|byte| vec![byte]).unwrap_or_default(),
            (TokenKind::Normal, ByteEncoding::SentencePiece) => text.replace('▁', " ").into_bytes(),
            (TokenKind::Normal, ByteEncoding::ByteLevel) => match text.chars().map(vocabulary::byte_of_char).collect() {
                Some(bytes) => bytes,
                // Some files list added words as normal entries, written as they are.
                None => text.into_bytes(),
            },
        }
    }

    /// Number of vocabulary entries.
    pub fn vocabulary_size(&self) -> usize {
        self.kinds.len()
    }

    /// A token's entry in a trie of the vocabulary: its bytes, or for a token that is never displayed the byte 0xFF (which occurs in no
    /// text) and then its name.
    pub fn word(&self, token: u32) -> Vec<u8> {
        match self.kinds.get(token as usize) {
            Some(TokenKind::Control | TokenKind::Unused) => {
                [&[0xff], self.inner.id_to_token(token).unwrap_or_default().as_bytes()].concat()
            }
            _ => self.token_bytes(token),
        }
    }

    /// The name of a control token; `None` for other tokens.
    pub fn control_name(&self, token: u32) -> Option<String> {
        let control = self.kinds.get(token as usize) == Some(&TokenKind::Control);
        control.then(|| self.inner.id_to_token(token)).flatten()
    }

    /// The text of one token, for display: the name of a control token; U+FFFD stands for what is only a part of a character.
    pub fn piece(&self, token: u32) -> String {
        self.control_name(token).unwrap_or_else(|| String::from_utf8_lossy(&self.token_bytes(token)).into_owned())
    }

    /// A decoder for an answer. `continues`: the answer continues a text (a raw prompt), so a space at its start belongs to it.
    pub fn stream_decoder(&self, continues: bool) -> StreamDecoder {
        StreamDecoder::new(self.space_prefix && !continues)
    }

    /// The text of `tokens`, decoded in one call.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut decoder = self.stream_decoder(false);
        let mut text = String::new();
        for token in tokens {
            text.extend(decoder.push(&self.token_bytes(*token)));
        }
        text.extend(decoder.finish());
        text
    }
}

/// The names of control tokens. One of a single character is a character of ordinary texts too.
fn control_names(vocabulary: &Vocabulary) -> Vec<String> {
    let named = vocabulary.tokens.iter().zip(&vocabulary.kinds).filter(|(_, kind)| **kind == TokenKind::Control);
    named.map(|(text, _)| text.clone()).filter(|text| text.chars().nth(1).is_some()).collect()
}
