//! The text of an answer while it is generated: whole characters, without any part of a stop string.

use crate::tokenizer::StreamDecoder;
use crate::tools::partial_match;

/// Decodes the tokens of one answer and detects stop strings.
pub struct AnswerText {
    decoder: StreamDecoder,
    stop: Vec<String>,
    /// Decoded text that may be the start of a stop string.
    held: String,
    stopped: bool,
}

impl AnswerText {
    /// Creates the text of an answer that ends before the first of the strings `stop` that is complete in it.
    pub fn new(decoder: StreamDecoder, stop: Vec<String>) -> Self {
        Self { decoder, stop, held: String::new(), stopped: false }
    }

    /// Whether a stop string was found. Text after it is not part of the answer.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Adds the bytes of the next token and returns the text that is now certain, if there is any.
    pub fn push(&mut self, bytes: &[u8]) -> Option<String> {
        let fresh = self.decoder.push(bytes)?;
        self.release(&fresh, false)
    }

    /// The bytes that were received and not yet returned.
    pub fn pending(&self) -> Vec<u8> {
        [self.held.as_bytes(), &self.decoder.pending()].concat()
    }

    /// Ends the answer and returns the rest of its text.
    pub fn finish(&mut self) -> Option<String> {
        if self.stopped {
            return None;
        }
        let fresh = self.decoder.finish().unwrap_or_default();
        self.release(&fresh, true)
    }

    /// Adds decoded text and returns the text that cannot be part of a stop string; all of it if it is the `last`.
    fn release(&mut self, fresh: &str, last: bool) -> Option<String> {
        self.held.push_str(fresh);
        // The one that is complete first, so that it does not depend on how tokens cut the text.
        let first = self.stop.iter().filter_map(|stop| self.held.find(stop.as_str()).map(|at| (at + stop.len(), at))).min();
        let found = first.map(|(_, at)| at);
        let certain = match found {
            Some(at) => {
                self.stopped = true;
                at
            }
            None if last => self.held.len(),
            None => self.held.len() - self.partial_stop_length(),
        };
        let rest = self.held.split_off(certain);
        let text = std::mem::replace(&mut self.held, rest);
        (!text.is_empty()).then_some(text)
    }

    /// Length in bytes of the longest suffix of the held text that is a proper prefix of a stop string.
    fn partial_stop_length(&self) -> usize {
        self.stop.iter().map(|stop| partial_match(&self.held, stop)).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(stop: &[&str], tokens: &[&str]) -> (Vec<String>, bool) {
        let mut text = AnswerText::new(StreamDecoder::default(), stop.iter().map(|stop| (*stop).to_owned()).collect());
        let mut pieces = Vec::new();
        for token in tokens {
            pieces.extend(text.push(token.as_bytes()));
            if text.stopped() {
                break;
            }
        }
        pieces.extend(text.finish());
        (pieces, text.stopped())
    }

    #[test]
    fn the_answer_ends_before_a_stop_string_split_over_tokens() {
        assert_eq!(run(&["END"], &["a", "E", "N", "D", "b"]), (vec!["a".into()], true));
        assert_eq!(run(&["\n\n", "b"], &["a\n", "\nb"]), (vec!["a".into()], true));
    }

    #[test]
    fn of_overlapping_stop_strings_the_one_that_is_complete_first_ends_the_answer() {
        for tokens in [&["xabc"][..], &["xa", "bc"], &["x", "ab", "c"], &["x", "a", "b", "c"]] {
            let (pieces, stopped) = run(&["abc", "b"], tokens);
            assert_eq!((pieces.concat(), stopped), ("xa".into(), true), "{tokens:?}");
            assert_eq!(run(&["abc", "c"], tokens).0.concat(), "x", "{tokens:?}");
        }
    }

    #[test]
    fn a_partial_stop_string_that_continues_differently_is_text() {
        let (pieces, stopped) = run(&["END"], &["a", "E", "N", "x"]);
        assert_eq!((pieces.concat(), stopped), ("aENx".into(), false));
        assert_eq!(run(&["END"], &["EN"]).0.concat(), "EN");
    }
}
