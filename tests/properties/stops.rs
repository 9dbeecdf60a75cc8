//! Stop strings ([`AnswerText`]): the oracle searches the whole text.

use crate::inputs::{cut, steps};
use crate::trial::{ANSWER, check};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use workers_ai_local::output::{AnswerText, Piece};
use workers_ai_local::tokenizer::StreamDecoder;

/// Few characters, so that texts contain the stop strings, their beginnings, and beginnings inside beginnings.
const LETTERS: &[&str] = &["a", "a", "b", "b", "\n", "é", "\u{301}", "👩", "\u{200d}", "🇩"];

fn letters(most: usize) -> impl Strategy<Value = String> {
    vec(select(LETTERS), 0..=most).prop_map(|letters| letters.concat())
}

/// The text before the stop string that is complete first; of several, before the one that begins first.
fn before_stop(text: &str, stop: &[String]) -> Option<String> {
    let ends = text.char_indices().map(|(at, letter)| at + letter.len_utf8());
    ends.filter_map(|end| stop.iter().filter(|stop| text[..end].ends_with(stop.as_str())).map(|stop| end - stop.len()).min())
        .next()
        .map(|start| text[..start].to_owned())
}

fn text_of(piece: Piece) -> String {
    match piece {
        Piece::Text(text) | Piece::Thought(text) => text,
    }
}

#[test]
fn the_answer_ends_before_the_first_stop_string_however_it_is_cut() {
    let stop = vec(letters(4).prop_filter("not empty", |stop| !stop.is_empty()), 0..4);
    check(
        "stops::the_answer_ends_before_the_first_stop_string_however_it_is_cut",
        4000,
        (letters(24), stop, steps()),
        |(text, stop, steps)| {
            let mut answer = AnswerText::new(StreamDecoder::default(), None, stop.clone());
            let mut given = String::new();
            let mut pushed = 0;
            for token in cut(text.as_bytes(), &steps) {
                given.extend(answer.push(token).into_iter().map(text_of));
                pushed += token.len();
                if answer.stopped() {
                    break;
                }
                prop_assert_eq!([given.as_bytes(), &answer.pending()].concat(), &text.as_bytes()[..pushed], "nothing waits unseen");
            }
            given.extend(answer.finish().into_iter().map(text_of));
            let expected = before_stop(&text, &stop);
            prop_assert_eq!(answer.stopped(), expected.is_some());
            prop_assert_eq!(given, expected.unwrap_or(text));
            Ok(if answer.stopped() { "stopped" } else { ANSWER }.into())
        },
    );
}
