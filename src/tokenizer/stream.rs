//! Bytes of tokens → text that can be displayed: never part of a character.

use unicode_segmentation::GraphemeCursor;

/// Maximum bytes that are held back. Stacked combining marks could otherwise be held without end.
const MAX_HELD: usize = 128;

/// Converts the bytes of tokens, one token after another, into pieces of text.
///
/// A piece ends where a user-perceived character ends (extended grapheme clusters, Unicode Annex 29): a flag, a family
/// emoji or a letter with its accents arrives whole, even if the model writes it in several tokens. So a token's text is
/// returned only once the next token has shown that it does not continue the last character. Invalid UTF-8 becomes U+FFFD.
#[derive(Debug, Default)]
pub struct StreamDecoder {
    /// Bytes that may be the start of an incomplete UTF-8 character.
    partial: Vec<u8>,
    /// Text whose last character the next token may still extend.
    held: String,
    /// Whether a space at the very start was added by the tokenizer, and is not part of the text.
    trims_first_space: bool,
}

impl StreamDecoder {
    pub(super) fn new(trims_first_space: bool) -> Self {
        Self { trims_first_space, ..Self::default() }
    }

    /// Adds a token's bytes. Returns the text that is now final, `None` if there is none.
    pub fn push(&mut self, bytes: &[u8]) -> Option<String> {
        self.partial.extend_from_slice(bytes);
        let mut fresh = take_text(&mut self.partial);
        if self.trims_first_space && !fresh.is_empty() {
            self.trims_first_space = false;
            if fresh.starts_with(' ') {
                fresh.remove(0);
            }
        }
        if fresh.is_empty() {
            return None;
        }
        let boundary = self.held.len();
        self.held.push_str(&fresh);
        let parted = boundary > 0
            && (boundary > MAX_HELD || GraphemeCursor::new(boundary, self.held.len(), true).is_boundary(&self.held, 0).unwrap_or(true));
        parted.then(|| {
            let rest = self.held.split_off(boundary);
            std::mem::replace(&mut self.held, rest)
        })
    }

    /// The bytes that were pushed and are not returned yet.
    pub fn pending(&self) -> Vec<u8> {
        [self.held.as_bytes(), &self.partial].concat()
    }

    /// The remaining text at the end of the answer. Drops the first bytes of an incomplete character (of an answer that was cut off at
    /// `max_tokens`).
    pub fn finish(&mut self) -> Option<String> {
        self.partial.clear();
        let text = std::mem::take(&mut self.held);
        (!text.is_empty()).then_some(text)
    }
}

/// Removes the text from the front of `bytes` and returns it; an incomplete character at the end stays in `bytes`.
fn take_text(bytes: &mut Vec<u8>) -> String {
    let mut text = String::new();
    let mut rest: &[u8] = bytes;
    loop {
        match std::str::from_utf8(rest) {
            Ok(valid) => {
                text.push_str(valid);
                rest = &[];
                break;
            }
            Err(error) => {
                let (valid, after) = rest.split_at(error.valid_up_to());
                text.push_str(&String::from_utf8_lossy(valid));
                match error.error_len() {
                    Some(length) => {
                        text.push(char::REPLACEMENT_CHARACTER);
                        rest = &after[length..];
                    }
                    None => {
                        rest = after;
                        break;
                    }
                }
            }
        }
    }
    *bytes = rest.to_vec();
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use unicode_segmentation::UnicodeSegmentation;

    fn pieces(tokens: &[&[u8]]) -> Vec<String> {
        let mut decoder = StreamDecoder::new(false);
        let mut pieces: Vec<String> = tokens.iter().filter_map(|token| decoder.push(token)).collect();
        pieces.extend(decoder.finish());
        pieces
    }

    #[test]
    fn whole_tokens_stay_whole() {
        assert_eq!(pieces(&[b"Hello", b" world", b"!"]), ["Hello", " world", "!"]);
    }

    #[test]
    fn characters_of_several_tokens_arrive_whole() {
        assert_eq!(pieces(&["中".as_bytes().split_at(1).0, "中".as_bytes().split_at(1).1, b"!"]), ["中", "!"]);
        assert_eq!(pieces(&[b"e", "\u{301}".as_bytes(), b"t"]), ["e\u{301}", "t"]);
        assert_eq!(pieces(&["👩".as_bytes(), "\u{200d}".as_bytes(), "👧".as_bytes(), b" x"]), ["👩\u{200d}👧", " x"]);
        assert_eq!(pieces(&["🇩".as_bytes(), "🇪🇫".as_bytes(), "🇷".as_bytes()]), ["🇩🇪🇫🇷"]);
    }

    #[test]
    fn a_text_cut_anywhere_arrives_in_whole_characters() {
        let text = "aé\u{65}\u{301}中文👩‍👩‍👧‍👦🇩🇪🇫🇷👍🏽 नमस्ते\r\n각가";
        for step in 1..7 {
            let tokens: Vec<&[u8]> = text.as_bytes().chunks(step).collect();
            let pieces = pieces(&tokens);
            assert_eq!(pieces.concat(), text);
            let clusters: usize = pieces.iter().map(|piece| piece.graphemes(true).count()).sum();
            assert_eq!(clusters, text.graphemes(true).count(), "cut by {step}");
        }
    }

    #[test]
    fn invalid_utf8_becomes_replacement_characters() {
        assert_eq!(pieces(&[b"a\xff", b"b", b"\xe4", b"c"]).concat(), "a\u{fffd}b\u{fffd}c");
    }

    #[test]
    fn a_character_that_is_cut_off_at_the_end_is_left_out() {
        assert_eq!(pieces(&[b"a", b"\xe4\xb8"]), ["a"]);
    }

    #[test]
    fn endless_marks_are_not_held_forever() {
        let mut decoder = StreamDecoder::new(false);
        assert!((0..500).any(|_| decoder.push("\u{301}".as_bytes()).is_some()));
    }
}
