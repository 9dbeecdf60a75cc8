//! The text of an answer as it grows: whole characters, and never a part of a stop string.

use crate::tokenizer::StreamDecoder;

/// Decodes the tokens of one answer and watches for stop strings.
pub struct AnswerText {
    decoder: StreamDecoder,
    stop: Vec<String>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl AnswerText {
    pub fn new(decoder: StreamDecoder, stop: Vec<String>) -> Self {
        Self { decoder, stop, held: String::new(), stopped: false }
    }

    /// Whether a stop string has come; what follows it is not part of the answer.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of the next token and gives the text that is now certain.
    pub fn push(&mut self, bytes: &[u8]) -> Option<String> {
        let fresh = self.decoder.push(bytes)?;
        self.pass(&fresh, false)
    }

    /// What has come and is not handed out yet.
    pub fn pending(&self) -> Vec<u8> {
        [self.held.as_bytes(), &self.decoder.pending()].concat()
    }

    /// The text that is left at the end of the answer.
    pub fn finish(&mut self) -> Option<String> {
        if self.stopped {
            return None;
        }
        let fresh = self.decoder.finish().unwrap_or_default();
        self.pass(&fresh, true)
    }

    fn pass(&mut self, fresh: &str, last: bool) -> Option<String> {
        self.held.push_str(fresh);
        let found = self.stop.iter().filter_map(|stop| self.held.find(stop.as_str())).min();
        let certain = match found {
            Some(at) => {
                self.stopped = true;
                at
            }
            None if last => self.held.len(),
            None => self.held.len() - self.longest_beginning(),
        };
        let rest = self.held.split_off(certain);
        let text = std::mem::replace(&mut self.held, rest);
        (!text.is_empty()).then_some(text)
    }

    /// Length of the longest end of the held text with which a stop string begins.
    fn longest_beginning(&self) -> usize {
        let begins =
            |stop: &String| (1..stop.len()).rev().find(|length| stop.is_char_boundary(*length) && self.held.ends_with(&stop[..*length]));
        self.stop.iter().filter_map(begins).max().unwrap_or(0)
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
    fn the_answer_ends_before_a_stop_string_that_comes_in_parts() {
        assert_eq!(run(&["END"], &["a", "E", "N", "D", "b"]), (vec!["a".into()], true));
        assert_eq!(run(&["\n\n", "b"], &["a\n", "\nb"]), (vec!["a".into()], true));
    }

    #[test]
    fn a_beginning_that_goes_on_otherwise_is_handed_out() {
        let (pieces, stopped) = run(&["END"], &["a", "E", "N", "x"]);
        assert_eq!((pieces.concat(), stopped), ("aENx".into(), false));
        assert_eq!(run(&["END"], &["EN"]).0.concat(), "EN");
    }
}
