//! What a model thinks before it answers, apart from the answer: `<think>…</think>` and the like.

use super::text::Piece;
use crate::tools::partial_match;

/// The marks around a thought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tags {
    pub open: &'static str,
    pub close: &'static str,
}

/// Those of the models that there are.
const KNOWN: [Tags; 3] = [
    // Qwen 3, QwQ, DeepSeek R1, SmolLM3, GLM, EXAONE, Granite, OLMo.
    Tags { open: "<think>", close: "</think>" },
    // Seed-OSS.
    Tags { open: "<seed:think>", close: "</seed:think>" },
    // Magistral, Ministral 3.
    Tags { open: "[THINK]", close: "[/THINK]" },
];

impl Tags {
    /// The tags that the Jinja source of a chat template mentions.
    pub fn of_template(source: &str) -> Option<Self> {
        KNOWN.into_iter().find(|tags| source.contains(tags.close))
    }

    /// Whether a prompt ends inside a thought, which the answer then continues.
    pub fn opens_at_end(self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.open)
    }

    /// Whether a prompt ends after a thought, so that the answer has none.
    pub fn closes_at_end(self, prompt: &str) -> bool {
        prompt.trim_end().ends_with(self.close)
    }

    /// Whether this is one of the two tags.
    pub fn is(self, text: &str) -> bool {
        text == self.open || text == self.close
    }
}

/// Divides the text of an answer into the thought at its start and the rest. White space around the thought belongs to neither.
#[derive(Debug)]
pub struct ThoughtReader {
    tags: Tags,
    stage: Stage,
    /// Text that was received and not yet returned.
    held: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only white space so far, or a part of the opening tag.
    Start,
    /// Before the first letter of the thought.
    Opened,
    Inside,
    /// Before the first letter of the answer.
    Closed,
    After,
}

impl ThoughtReader {
    /// `opened`: the prompt has the opening tag.
    pub fn new(tags: Tags, opened: bool) -> Self {
        Self { tags, stage: if opened { Stage::Opened } else { Stage::Start }, held: String::new() }
    }

    /// Whether what comes next belongs to a thought.
    pub fn is_inside(&self) -> bool {
        matches!(self.stage, Stage::Opened | Stage::Inside)
    }

    /// Whether this text would complete a tag: where the thought begins, or where it ends.
    pub fn completes_tag(&self, text: &str) -> bool {
        let held = self.held.clone() + text;
        match self.stage {
            Stage::Start => held.trim_start() == self.tags.open,
            Stage::Opened | Stage::Inside => held.ends_with(self.tags.close),
            Stage::Closed | Stage::After => false,
        }
    }

    /// The text that was received and not yet returned, except a thought's.
    pub fn pending(&self) -> &str {
        if self.is_inside() { "" } else { &self.held }
    }

    /// Adds text and returns the pieces that are now certain. `last`: nothing follows.
    pub fn push(&mut self, text: &str, last: bool) -> Vec<Piece> {
        self.held.push_str(text);
        let mut pieces = Vec::new();
        while self.advance(last, &mut pieces) {}
        pieces
    }

    /// Takes a step; returns whether there may be another one.
    fn advance(&mut self, last: bool, pieces: &mut Vec<Piece>) -> bool {
        match self.stage {
            Stage::Start => {
                let text = self.held.trim_start();
                if let Some(rest) = text.strip_prefix(self.tags.open) {
                    self.held = rest.to_owned();
                    self.stage = Stage::Opened;
                } else if last || !self.tags.open.starts_with(text) {
                    self.stage = Stage::After;
                } else {
                    return false;
                }
                true
            }
            Stage::Opened | Stage::Closed => {
                let mut text = self.held.trim_start();
                let opened = self.stage == Stage::Opened;
                if opened && !last && self.tags.open.starts_with(text) && text != self.tags.open {
                    return false;
                }
                // Some models repeat the tag that the prompt ends with.
                text = text.strip_prefix(self.tags.open).filter(|_| opened).map_or(text, str::trim_start);
                self.held = text.to_owned();
                if self.held.is_empty() {
                    return false;
                }
                self.stage = if opened { Stage::Inside } else { Stage::After };
                true
            }
            Stage::Inside => {
                let close = self.held.find(self.tags.close);
                let certain = close.unwrap_or_else(|| match last {
                    true => self.held.len(),
                    false => self.held.len() - partial_match(&self.held, self.tags.close),
                });
                let rest = self.held.split_off(certain);
                let thought = std::mem::replace(&mut self.held, rest);
                let trimmed = thought.trim_end();
                if close.is_none() && !last {
                    // White space may be the end of the thought.
                    self.held.insert_str(0, thought.get(trimmed.len()..).unwrap_or_default());
                }
                if !trimmed.is_empty() {
                    pieces.push(Piece::Thought(trimmed.to_owned()));
                }
                if close.is_some() {
                    self.held = self.held.split_off(self.tags.close.len());
                    self.stage = Stage::Closed;
                }
                close.is_some()
            }
            Stage::After => {
                let text = std::mem::take(&mut self.held);
                if !text.is_empty() {
                    pieces.push(Piece::Text(text));
                }
                false
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const THINK: Tags = KNOWN[0];

    /// Thought and text of an answer, cut at every place.
    fn read(answer: &str, opened: bool) -> (String, String) {
        let mut results = Vec::new();
        for size in 1..=answer.chars().count().max(1) {
            let mut reader = ThoughtReader::new(THINK, opened);
            let letters: Vec<char> = answer.chars().collect();
            let mut pieces = Vec::new();
            for part in letters.chunks(size) {
                pieces.extend(reader.push(&part.iter().collect::<String>(), false));
            }
            pieces.extend(reader.push("", true));
            let (mut thought, mut text) = (String::new(), String::new());
            for piece in pieces {
                match piece {
                    Piece::Thought(piece) => {
                        assert!(text.is_empty(), "{answer}");
                        thought += &piece;
                    }
                    Piece::Text(piece) => text += &piece,
                }
            }
            results.push((thought, text));
        }
        assert!(results.windows(2).all(|two| two[0] == two[1]), "{answer}: {results:?}");
        results.remove(0)
    }

    #[test]
    fn a_thought_is_apart_from_the_answer_however_the_text_is_cut() {
        let both = |thought: &str, text: &str| (thought.to_owned(), text.to_owned());
        assert_eq!(read("<think>\nIs it 4? <b>\n Yes.\n</think>\n\nFour.\n", false), both("Is it 4? <b>\n Yes.", "Four.\n"));
        assert_eq!(read("Is it 4?\n</think>\n\nFour.", true), both("Is it 4?", "Four."));
        assert_eq!(read("\n<think>\n\n</think>\n\nFour.", false), both("", "Four."));
        assert_eq!(read(" Four. <think>no</think>", false), both("", " Four. <think>no</think>"));
        assert_eq!(read("<think>cut off </thin", false), both("cut off </thin", ""));
        assert_eq!(read("<think>a</think>b</think>", false), both("a", "b</think>"));
        assert_eq!(read("<thin", false), both("", "<thin"));
        assert_eq!(read("", true), both("", ""));
        assert_eq!(read("<think>\nIs it 4?</think>Four.", true), both("Is it 4?", "Four."), "opened twice");
        assert_eq!(read("</think>Four.", true), both("", "Four."));
        assert_eq!(read("<b></think>Four.", true), both("<b>", "Four."));
    }

    #[test]
    fn the_tags_are_those_of_the_template() {
        assert_eq!(Tags::of_template("{{ '<think>\\n\\n</think>' }}"), Some(THINK));
        assert_eq!(Tags::of_template("{{ messages }}"), None);
        assert!(THINK.opens_at_end("assistant\n<think>\n"));
        assert!(THINK.closes_at_end("<think>\n\n</think>\n\n"));
    }
}
