//! The shortest text that completes a grammar, for an answer that must be complete when its tokens run out.

use crate::tools::CallFormat;
use llguidance::TokenParser;
use llguidance::toktrie::Recognizer;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet, VecDeque};
use std::hash::Hash;

/// Number of tokens to spare when the closing path is taken.
const SLACK: usize = 2;

/// While more tokens than this remain beyond twice the longest closing path, no token of the model is checked.
const UNCHECKED: usize = 128;

/// While at most so many tokens remain beyond the closing path (or as many as the longest path has, if that is more), every token of the
/// model is checked, and not only those that begin something in JSON: half a character, an escape or a choice in a pattern lengthens the
/// path too.
const NEAR: usize = 48;

/// Limit of a search, in bytes that are tried: some seconds. A search takes milliseconds; a grammar that needs more is not completed in
/// time.
const MAX_TRIES: usize = 1_000_000;

/// Searches that find nothing, after which no further one is tried: each can take seconds.
const MAX_FAILURES: u32 = 3;

/// How many bytes longer a text may be to avoid an open bracket.
const DEPTH_COST: usize = 64;

/// Monitors how many tokens the closing path needs, and takes the path while the remaining tokens suffice.
pub struct ClosingPath {
    /// A second parser of the answer, at the same place as the one that computes masks: its bytes can be tried and taken back.
    parser: TokenParser,
    /// The format of the calls, which shows their end.
    format: CallFormat,
    /// The rest of the path, once it is taken.
    path: VecDeque<u32>,
    /// While more tokens than this remain, the path need not be computed.
    recheck_at: usize,
    /// Length of the longest path so far. What is begun later, such as a further call, needs about as much.
    longest: usize,
    /// Length of the path when it was last computed.
    last_length: usize,
    /// Searches that found no path.
    failures: u32,
}

impl ClosingPath {
    /// `parser` is at the start of an answer that consists of calls.
    pub fn new(parser: TokenParser, format: CallFormat) -> Self {
        Self { parser, format, path: VecDeque::new(), recheck_at: usize::MAX, longest: 0, last_length: 0, failures: 0 }
    }

    /// Advances past a token of the answer.
    pub fn accept(&mut self, token: u32) {
        // A token that the mask allowed is accepted here too. After an error no path is found, and the mask reports the error.
        let _ = self.parser.consume_token(token);
    }

    /// Returns the next token of the closing path if it must be taken now, with `remaining` tokens left; `None` if the model may still
    /// choose freely, or if the path is not known.
    pub fn next(&mut self, remaining: usize) -> Option<u32> {
        if self.path.is_empty() && remaining <= self.recheck_at && self.failures < MAX_FAILURES {
            let Some(path) = path_to_end(&self.parser, self.format) else {
                self.failures += 1;
                return None;
            };
            self.plan(path.len(), remaining);
            if path.len() + SLACK >= remaining {
                self.path = path;
                self.recheck_at = 0;
            }
        }
        self.path.pop_front()
    }

    /// Decides when a path is computed again that has `length` tokens now, with `remaining` tokens left.
    fn plan(&mut self, length: usize, remaining: usize) {
        self.longest = self.longest.max(length);
        self.last_length = length;
        // A token that is not on the path, such as white space, may divide one that is. So a third of the spare tokens may pass before the next
        // check.
        let spare = remaining.saturating_sub(length);
        self.recheck_at = length + (spare - spare / 3).max(SLACK);
    }

    /// Returns the token that must come instead of the model's `token`, if the answer could not be completed after it within the other
    /// `remaining - 1` tokens: one token can begin a list or an object that needs many.
    pub fn instead_of(&mut self, token: u32, remaining: usize) -> Option<u32> {
        let structural = |byte: &u8| b"[{,:\"".contains(byte);
        let begins_something = self.parser.token_env.tok_trie().token(token).iter().any(structural);
        let checked = if begins_something { 2 * self.longest + UNCHECKED } else { self.last_length + self.longest.max(NEAR) };
        // After a complete call, any token begins another one, of any length.
        if self.failures >= MAX_FAILURES || (remaining > checked && !self.parser.is_accepting()) {
            return None;
        }
        let mut after = self.parser.deep_clone();
        let rest = after.consume_token(token).ok().and_then(|_| path_to_end(&after, self.format));
        if let Some(rest) = rest.filter(|rest| rest.len() < remaining) {
            self.plan(rest.len(), remaining - 1);
            return None;
        }
        self.path = path_to_end(&self.parser, self.format)?;
        self.recheck_at = 0;
        // The path of a complete answer is empty: then the answer ends.
        Some(self.path.pop_front().unwrap_or_else(|| self.parser.token_env.tok_trie().eos_token()))
    }
}

/// The tokens of a short completion; `None` if none was found.
fn path_to_end(from: &TokenParser, format: CallFormat) -> Option<VecDeque<u32>> {
    let (mut parser, mut check) = (from.deep_clone(), from.deep_clone());
    let mut text = Text { bytes: parser.final_bytes().to_vec(), place: Place::default(), format };
    for byte in &text.bytes {
        text.place.pass(*byte);
    }
    let begun = text.bytes.len();
    if !parser.is_accepting() {
        // What the grammar forces may go on after the end, with a further call.
        let forced = parser.force_bytes();
        let ends = forced.iter().any(|byte| text.push(*byte));
        if !ends {
            let found = parser.parser.with_recognizer(|recognizer| {
                recognizer.trie_started("closing");
                let found = shortest(recognizer, |recognizer| recognizer.lexer_state(), &text);
                recognizer.trie_finished();
                found
            })?;
            text.bytes.extend(found);
        }
    }
    let tokens = parser.token_env.tok_trie().greedy_tokenize(&text.bytes[begun..]);
    let accepted = tokens.iter().all(|token| check.consume_token(*token).is_ok());
    (accepted && check.is_accepting()).then(|| tokens.into())
}

/// The answer so far, and where it is.
struct Text {
    bytes: Vec<u8>,
    place: Place,
    format: CallFormat,
}

impl Text {
    /// Appends a byte. Returns whether the answer is complete with it.
    fn push(&mut self, byte: u8) -> bool {
        self.bytes.push(byte);
        self.place.pass(byte);
        self.place.is_outside() && self.format.ends(&self.bytes)
    }
}

/// A place in JSON text.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Place {
    in_string: bool,
    escaped: bool,
    /// Open objects and lists.
    depth: usize,
    /// Brackets, colons and commas so far, outside strings.
    structure: usize,
}

impl Place {
    /// Outside of all brackets and strings.
    fn is_outside(self) -> bool {
        self.depth == 0 && !self.in_string
    }

    fn pass(&mut self, byte: u8) {
        match byte {
            _ if self.escaped => self.escaped = false,
            b'\\' if self.in_string => self.escaped = true,
            b'"' => self.in_string = !self.in_string,
            _ if self.in_string => {}
            b'{' | b'[' => {
                self.depth += 1;
                self.structure += 1;
            }
            b'}' | b']' => {
                self.depth = self.depth.saturating_sub(1);
                self.structure += 1;
            }
            b':' | b',' => self.structure += 1,
            _ => {}
        }
    }
}

/// A text that the grammar allows, as its last byte and the text before it.
struct Node {
    before: usize,
    byte: u8,
    length: usize,
    place: Place,
}

/// Best-first search over bytes for a short text that completes the answer. Texts that lead to the same state of the
/// lexer at the same place are tried once, so the letters of a string do not multiply. Texts with few open brackets come first: where any
/// JSON is allowed, the many ways to nest it are not tried.
fn shortest<R: Recognizer, S: Eq + Hash>(recognizer: &mut R, state_of: impl Fn(&R) -> S, start: &Text) -> Option<Vec<u8>> {
    let alphabet = alphabet();
    let mut nodes = vec![Node { before: 0, byte: 0, length: 0, place: start.place }];
    let mut seen = HashSet::from([(state_of(recognizer), start.place)]);
    // By cost, then in the order in which they were found.
    let mut open = BinaryHeap::from([Reverse((0, 0))]);
    // The text that the recogniser is behind.
    let mut current: Vec<u8> = Vec::new();
    let mut tries = 0;
    while let Some(Reverse((_, next))) = open.pop() {
        if tries > MAX_TRIES {
            break;
        }
        let text = text_of(&nodes, next);
        let common = text.iter().zip(&current).take_while(|(a, b)| a == b).count();
        recognizer.pop_bytes(current.len() - common);
        current.truncate(common);
        tries += text.len() - common + alphabet.len();
        for byte in text.iter().skip(common) {
            if !recognizer.try_push_byte(*byte) {
                // It was accepted when the node was made, so this does not happen.
                return None;
            }
            current.push(*byte);
        }
        for byte in &alphabet {
            if !recognizer.try_push_byte(*byte) {
                continue;
            }
            let mut place = nodes[next].place;
            place.pass(*byte);
            let is_new = seen.insert((state_of(recognizer), place));
            recognizer.pop_bytes(1);
            if is_new {
                let length = nodes[next].length + 1;
                nodes.push(Node { before: next, byte: *byte, length, place });
                if place.is_outside() {
                    let text = text_of(&nodes, nodes.len() - 1);
                    if start.format.ends(&[&start.bytes, text.as_slice()].concat()) {
                        recognizer.pop_bytes(current.len());
                        return Some(text);
                    }
                }
                open.push(Reverse((length + DEPTH_COST * place.depth, nodes.len() - 1)));
            }
        }
    }
    recognizer.pop_bytes(current.len());
    None
}

fn text_of(nodes: &[Node], mut index: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(nodes[index].length);
    while nodes[index].length > 0 {
        text.push(nodes[index].byte);
        index = nodes[index].before;
    }
    text.reverse();
    text
}

/// All bytes, those first that close something and those that read well.
fn alphabet() -> Vec<u8> {
    let mut bytes: Vec<u8> = b"\"}]".iter().copied().chain(b'a'..=b'z').chain(b'0'..=b'9').collect();
    bytes.extend((0..=255u8).filter(|byte| !b"\"}]".contains(byte) && !byte.is_ascii_lowercase() && !byte.is_ascii_digit()));
    bytes
}
