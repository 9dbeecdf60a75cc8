//! Tokens → characters ([`StreamDecoder`], [`Tokenizer`]): the oracle is the standard library over all bytes at once.

use crate::common::TinyModel;
use crate::inputs::{TEXTS, cut, steps, text};
use crate::trial::{ANSWER, Outcome, check};
use candle_core::quantized::gguf_file::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use unicode_segmentation::UnicodeSegmentation;
use workers_ai_local::tokenizer::{StreamDecoder, Tokenizer};

/// As in `stream.rs`: a character that is longer may come in parts.
const MAX_HELD: usize = 128;

/// Bytes that are texts, parts of characters, or anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let part = prop_oneof![
        6 => select(TEXTS).prop_map(|text| text.as_bytes().to_vec()),
        1 => any::<char>().prop_map(|letter| letter.to_string().into_bytes()),
        1 => (any::<char>(), 0..4usize).prop_map(|(letter, length)| letter.to_string().bytes().take(length).collect()),
        1 => select(vec![vec![0x80], vec![0xc0], vec![0xed, 0xa0, 0x80], vec![0xf4, 0x90], vec![0xff], "\u{301}".repeat(70).into_bytes()]),
        1 => any::<u8>().prop_map(|byte| vec![byte]),
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}

/// The text of all bytes: U+FFFD for each invalid sequence, but nothing for the beginning of a character at the end.
fn decoded(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut chunks = bytes.utf8_chunks().peekable();
    while let Some(chunk) = chunks.next() {
        text.push_str(chunk.valid());
        let cut_off = chunks.peek().is_none() && std::str::from_utf8(chunk.invalid()).is_err_and(|error| error.error_len().is_none());
        if !chunk.invalid().is_empty() && !cut_off {
            text.push(char::REPLACEMENT_CHARACTER);
        }
    }
    text
}

#[test]
fn bytes_in_any_pieces_are_the_same_whole_characters() {
    check("characters::bytes_in_any_pieces_are_the_same_whole_characters", 4000, (bytes(), steps()), |(bytes, steps)| {
        let mut decoder = StreamDecoder::default();
        let (mut pieces, mut pushed) = (Vec::new(), 0);
        let is_text = std::str::from_utf8(&bytes).is_ok();
        for token in cut(&bytes, &steps) {
            pieces.extend(decoder.push(token));
            pushed += token.len();
            if is_text {
                prop_assert_eq!([pieces.concat().as_bytes(), &decoder.pending()].concat(), &bytes[..pushed], "nothing waits unseen");
            }
        }
        pieces.extend(decoder.finish());
        let text = decoded(&bytes);
        prop_assert_eq!(pieces.concat(), text.as_str());
        prop_assert!(pieces.iter().all(|piece| !piece.is_empty()));
        // Pieces end where characters that a reader sees end.
        if text.graphemes(true).all(|cluster| cluster.len() <= MAX_HELD) {
            let starts: Vec<usize> = text.grapheme_indices(true).map(|(at, _)| at).collect();
            let mut at = 0;
            for piece in &pieces {
                prop_assert!(starts.binary_search(&at).is_ok(), "a piece begins inside a character, at {}: {:?}", at, pieces);
                at += piece.len();
            }
        }
        Ok(ANSWER.into())
    });
}

fn tokenizer(metadata: Vec<(String, Value)>) -> Tokenizer {
    let file = TinyModel { width: 32, heads: 2, kv_heads: 1, ffn_width: 32, layers: 1, metadata, ..TinyModel::default() }.gguf();
    crate::common::load(file).1
}

/// A vocabulary of SentencePiece: control tokens, the bytes, and the only word. As many as the model has embeddings.
fn sentence_piece() -> Tokenizer {
    let text = |text: &str| Value::String(text.into());
    let mut tokens: Vec<Value> = ["<unk>", "<s>", "</s>"].map(text).into();
    tokens.extend((0..=255).map(|byte| text(&format!("<0x{byte:02X}>"))));
    tokens.push(text("▁"));
    let mut kinds = vec![Value::I32(3); 3];
    kinds.extend(vec![Value::I32(6); 256]);
    kinds.push(Value::I32(1));
    let scores = (0..tokens.len()).map(|id| Value::F32(-(id as f32))).collect();
    tokenizer(vec![
        ("tokenizer.ggml.model".into(), text("llama")),
        ("tokenizer.ggml.tokens".into(), Value::Array(tokens)),
        ("tokenizer.ggml.token_type".into(), Value::Array(kinds)),
        ("tokenizer.ggml.scores".into(), Value::Array(scores)),
        ("tokenizer.ggml.unknown_token_id".into(), Value::U32(0)),
        ("tokenizer.ggml.bos_token_id".into(), Value::U32(1)),
        ("tokenizer.ggml.eos_token_id".into(), Value::U32(2)),
    ])
}

/// What [`Tokenizer::as_text`] puts into names of control tokens, and [`Tokenizer::encode`] removes.
const MARK: &str = "\u{fdd0}\u{fdef}\u{fdd1}";

/// The tokens of a text that was made harmless are none of control tokens (except for `leading`), and decode to `expected`.
fn round_trip(tokenizer: &Tokenizer, text: &str, leading: Option<u32>, expected: &str) -> Outcome {
    let tokens = tokenizer.encode(&tokenizer.as_text(text)).map_err(|error| TestCaseError::fail(error.to_string()))?;
    let tokens = tokens.strip_prefix(leading.as_slice()).unwrap_or(&tokens);
    prop_assert!(tokens.iter().all(|token| tokenizer.control_name(*token).is_none()), "control tokens of {text:?}: {tokens:?}");
    prop_assert_eq!(tokenizer.decode(tokens), expected);
    Ok(ANSWER.into())
}

#[test]
fn a_text_as_byte_level_tokens_is_the_same_text() {
    let tokenizer = tokenizer(Vec::new());
    check("characters::a_text_as_byte_level_tokens_is_the_same_text", 1000, text(), |text| {
        round_trip(&tokenizer, &text, None, &text.replace(MARK, ""))
    });
}

#[test]
fn a_text_as_sentence_piece_tokens_is_the_same_text() {
    let tokenizer = sentence_piece();
    check("characters::a_text_as_sentence_piece_tokens_is_the_same_text", 1000, text(), |text| {
        // SentencePiece cannot tell its sign for a space from a space.
        round_trip(&tokenizer, &text, Some(1), &text.replace(MARK, "").replace('▁', " "))
    });
}
