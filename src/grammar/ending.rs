//! A short way to the end of a grammar, for an answer that has to be complete when its tokens run out.

use llguidance::Matcher;
use llguidance::toktrie::{SimpleVob, TokTrie};
use std::collections::VecDeque;

/// Tokens to spare when the way is taken.
const SLACK: usize = 2;

/// Watches how many tokens the way to the end takes, and takes it while there is room.
#[derive(Debug)]
pub struct Ending {
    /// The way, once it is taken.
    way: VecDeque<u32>,
    /// With more tokens left than this, nothing needs to be done.
    look_again_at: usize,
}

impl Default for Ending {
    fn default() -> Self {
        Self { way: VecDeque::new(), look_again_at: usize::MAX }
    }
}

impl Ending {
    /// The next token of the way, where only `remaining` tokens are left and it must be taken.
    pub fn next(&mut self, matcher: &Matcher, trie: &TokTrie, remaining: usize) -> Option<u32> {
        if self.way.is_empty() && remaining <= self.look_again_at {
            let way = way_to_end(matcher.deep_clone(), trie, remaining)?;
            if way.len() + SLACK >= remaining {
                self.way = way;
                self.look_again_at = 0;
            } else {
                // A token makes the way little longer, so half of what there is to spare can go by.
                self.look_again_at = way.len() + (remaining - way.len()) / 2;
            }
        }
        self.way.pop_front()
    }
}

/// Tokens that end the answer: what is forced, else whatever closes strings, objects and lists. Not always the shortest
/// way; `None` where it takes more than `most` tokens.
fn way_to_end(mut matcher: Matcher, trie: &TokTrie, most: usize) -> Option<VecDeque<u32>> {
    let mut way = VecDeque::new();
    while !matcher.is_stopped() && !matcher.is_accepting().ok()? {
        let forced = matcher.compute_ff_bytes();
        let tokens =
            if forced.is_empty() { vec![closing_token(&matcher.compute_mask().ok()?, trie)?] } else { trie.greedy_tokenize(&forced) };
        matcher.consume_tokens(&tokens).ok()?;
        way.extend(tokens);
        if way.len() > most {
            return None;
        }
    }
    (!matcher.is_error()).then_some(way)
}

fn closing_token(mask: &SimpleVob, trie: &TokTrie) -> Option<u32> {
    let allowed = |text: &&str| trie.token_id_at_bytes(text.as_bytes()).filter(|token| mask.is_allowed(*token));
    // Where a letter may stand, a bracket is the content of a string.
    let inside_string = allowed(&"a").is_some() && allowed(&"}").is_some();
    let preferred: &[&str] = if inside_string { &["\""] } else { &["}", "]", "\"", "0", "1", "2", "3", "4", "5", "6", "7", "8", "9"] };
    preferred.iter().find_map(allowed).or_else(|| mask.first_bit_set().map(|token| token as u32))
}
