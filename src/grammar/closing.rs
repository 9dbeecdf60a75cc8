//! A short token path that completes a grammar, for an answer that must be complete when its tokens run out.

use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokTrie};
use std::collections::VecDeque;

/// Number of tokens to spare when the closing path is taken.
const SLACK: usize = 2;

/// Monitors how many tokens the closing path needs, and takes the path while the remaining tokens suffice.
#[derive(Debug)]
pub struct ClosingPath {
    /// The rest of the path, once it is taken.
    path: VecDeque<u32>,
    /// While more tokens than this remain, the path need not be computed.
    recheck_at: usize,
}

impl Default for ClosingPath {
    fn default() -> Self {
        Self { path: VecDeque::new(), recheck_at: usize::MAX }
    }
}

impl ClosingPath {
    /// Returns the next token of the closing path if it must be taken now, with `remaining` tokens left; `None` if the model may still
    /// choose freely, or if the path is not known.
    pub fn next(&mut self, matcher: &Matcher, trie: &TokTrie, remaining: usize) -> Option<u32> {
        if self.path.is_empty() && remaining <= self.recheck_at {
            let path = path_to_end(matcher.deep_clone(), trie, remaining)?;
            if path.len() + SLACK >= remaining {
                self.path = path;
                self.recheck_at = 0;
            } else {
                // One more token of the answer lengthens the path little, so half of the spare tokens may pass before the next check.
                self.recheck_at = path.len() + (remaining - path.len()) / 2;
            }
        }
        self.path.pop_front()
    }
}

/// Computes tokens that complete the answer: those that the grammar forces, otherwise tokens that close strings, objects and lists. Not
/// always the shortest path. `None` if it needs more than `limit` tokens.
fn path_to_end(mut matcher: Matcher, trie: &TokTrie, limit: usize) -> Option<VecDeque<u32>> {
    let mut path = VecDeque::new();
    while !matcher.is_stopped() && !matcher.is_accepting().ok()? {
        let forced = matcher.compute_ff_bytes();
        let tokens =
            if forced.is_empty() { vec![closing_token(&matcher.compute_mask().ok()?, trie)?] } else { trie.greedy_tokenize(&forced) };
        matcher.consume_tokens(&tokens).ok()?;
        path.extend(tokens);
        if path.len() > limit {
            return None;
        }
    }
    (!matcher.is_error()).then_some(path)
}

/// The allowed token that is most likely to close something; any allowed token if none of these is allowed.
fn closing_token(mask: &SimpleVob, trie: &TokTrie) -> Option<u32> {
    let allowed = |text: &&str| trie.token_id_at_bytes(text.as_bytes()).filter(|token| mask.is_allowed(*token));
    // If a letter is allowed as well, a bracket would be content of a string.
    let inside_string = allowed(&"a").is_some() && allowed(&"}").is_some();
    let preferred: &[&str] = if inside_string { &["\""] } else { &["}", "]", "\"", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] };
    preferred.iter().find_map(allowed).or_else(|| mask.first_bit_set().map(|token| token as u32))
}
