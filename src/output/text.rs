//! The text of an answer while it is generated: whole characters, thoughts apart, without any part of a stop string.

use super::ThoughtReader;
use crate::tokenizer::StreamDecoder;
use crate::tools::partial_match;

/// Text of an answer, at least one character.
#[derive(Debug, Clone, PartialEq)]
pub enum Piece {
    /// What the model thinks before it answers.
    Thought(String),
    Text(String),
}

/// Decodes the tokens of one answer, sets thoughts apart, and detects stop strings in the rest.
pub struct AnswerText {
    decoder: StreamDecoder,
    /// `None` if the model is not known to think.
    thoughts: Option<ThoughtReader>,
    stop: Vec<String>,
    /// Decoded text that may be the start of a stop string.
    held: String,
    stopped: bool,
}

impl AnswerText {
    /// Creates the text of an answer that ends before the first of the strings `stop` that is complete in it, outside of thoughts.
    pub fn new(decoder: StreamDecoder, thoughts: Option<ThoughtReader>, stop: Vec<String>) -> Self {
        Self { decoder, thoughts, stop, held: String::new(), stopped: false }
    }

    /// Whether a stop string was found. Text after it is not part of the answer.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Whether the answer is inside a thought.
    pub fn is_thinking(&self) -> bool {
        self.thoughts.as_ref().is_some_and(ThoughtReader::is_inside)
    }

    /// Adds the bytes of the next token and returns the pieces that are now certain.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Piece> {
        let mut fresh = self.decoder.push(bytes).unwrap_or_default();
        // The last character is held back, but nothing continues that of a tag.
        if let Some(thoughts) = &self.thoughts
            && thoughts.completes_tag(&(fresh.clone() + &String::from_utf8_lossy(&self.decoder.pending())))
        {
            fresh += &self.decoder.finish().unwrap_or_default();
        }
        self.add(&fresh, false)
    }

    /// The bytes that were received and not yet returned, except a thought's.
    pub fn pending(&self) -> Vec<u8> {
        let thoughts = self.thoughts.as_ref().map_or("", ThoughtReader::pending);
        [self.held.as_bytes(), thoughts.as_bytes(), &self.decoder.pending()].concat()
    }

    /// Drops the text that was received and not yet returned.
    pub fn clear(&mut self) {
        self.held.clear();
        self.decoder.finish();
    }

    /// Ends the answer and returns the rest of its text.
    pub fn finish(&mut self) -> Vec<Piece> {
        if self.stopped {
            return Vec::new();
        }
        let fresh = self.decoder.finish().unwrap_or_default();
        self.add(&fresh, true)
    }

    fn add(&mut self, fresh: &str, last: bool) -> Vec<Piece> {
        let pieces = match &mut self.thoughts {
            Some(thoughts) => thoughts.push(fresh, last),
            None if fresh.is_empty() && !last => Vec::new(),
            None => vec![Piece::Text(fresh.to_owned())],
        };
        let mut certain = Vec::new();
        for piece in pieces {
            match piece {
                Piece::Thought(_) => certain.push(piece),
                Piece::Text(text) if self.stopped => drop(text),
                Piece::Text(text) => certain.extend(self.release(&text, false).map(Piece::Text)),
            }
        }
        if last && !self.stopped {
            certain.extend(self.release("", true).map(Piece::Text));
        }
        certain
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
    use crate::output::Tags;

    fn run(stop: &[&str], tokens: &[&str]) -> (Vec<String>, bool) {
        let mut text = AnswerText::new(StreamDecoder::default(), None, stop.iter().map(|stop| (*stop).to_owned()).collect());
        let mut pieces = Vec::new();
        for token in tokens {
            pieces.extend(text.push(token.as_bytes()));
            if text.stopped() {
                break;
            }
        }
        pieces.extend(text.finish());
        let texts = pieces.into_iter().map(|piece| match piece {
            Piece::Thought(thought) => panic!("a thought: {thought}"),
            Piece::Text(text) => text,
        });
        (texts.collect(), text.stopped())
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

    #[test]
    fn stop_strings_do_not_end_thoughts() {
        let tags = Tags::of_template("<think></think>").expect("tags");
        let mut text = AnswerText::new(StreamDecoder::default(), Some(ThoughtReader::new(tags, true)), vec!["END".into()]);
        let mut pieces = Vec::new();
        for token in ["no END", " yet", "</think>", "\n\n", "So", " EN", "D", "x"] {
            pieces.extend(text.push(token.as_bytes()));
            if token == "</think>" {
                assert!(!text.is_thinking(), "known with the tag's own token");
            }
            if text.stopped() {
                break;
            }
        }
        assert!(text.stopped());
        let thought: String = pieces.iter().map(|piece| if let Piece::Thought(text) = piece { text.as_str() } else { "" }).collect();
        let rest: String = pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.as_str() } else { "" }).collect();
        assert_eq!((thought.as_str(), rest.as_str()), ("no END yet", "So "));
    }
}
