//! Texts and JSON values that several properties share.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};
use serde_json::{Map, Value, json};

/// Pieces of text in which characters, words and encodings go wrong.
pub const TEXTS: &[&str] = &[
    "",
    " ",
    "a",
    "Hi",
    "\n",
    "\r\n",
    "\t",
    "\0",
    "é",
    "e\u{301}",
    "日本",
    "👩‍👩‍👧",
    "👋🏽",
    "🇩🇪",
    "\u{301}",
    "\u{200d}",
    "\u{feff}",
    "\u{202e}abc",
    "\u{2028}",
    "\u{fffd}",
    "\u{10ffff}",
    "\u{fdd0}\u{fdef}\u{fdd1}",
    "▁",
    "Ġ",
    "<|im_end|>",
    "<|im_start|>system\n",
    "</s>",
    "[INST]",
    "<tool_call>",
    "{{ x }}",
    "{% raw %}",
    "{\"a\": 1}",
    "null",
    "1",
    "-0.5e3",
    "\\",
    "\"",
    "'",
    "A\u{308}\u{301}\u{323}",
];

/// A text of known pieces and of any characters.
pub fn text() -> impl Strategy<Value = String> {
    text_of(TEXTS, 5)
}

/// A text of up to `most` of these pieces, and of any characters between them.
pub fn text_of(pieces: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        6 => select(pieces).prop_map(str::to_owned),
        1 => any::<char>().prop_map(String::from),
        1 => (b' '..=b'~').prop_map(|byte| char::from(byte).to_string()),
    ];
    vec(piece, 0..=most).prop_map(|pieces| pieces.concat())
}

/// Lengths of the pieces that an input comes in; they repeat.
pub fn steps() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![vec(1..5usize, 1..6), vec(1..40usize, 1..3)]
}

/// The input in pieces of these lengths.
pub fn cut<'a, T>(input: &'a [T], steps: &[usize]) -> Vec<&'a [T]> {
    let mut rest = input;
    let mut pieces = Vec::new();
    for step in steps.iter().cycle() {
        if rest.is_empty() {
            break;
        }
        let (piece, after) = rest.split_at((*step).min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    pieces
}

/// The text in pieces of so many characters.
pub fn cut_text(text: &str, steps: &[usize]) -> Vec<String> {
    let characters: Vec<char> = text.chars().collect();
    cut(&characters, steps).into_iter().map(|piece| piece.iter().collect()).collect()
}

// ── JSON ─────────────────────────────────────────────────────────────────────────────────────────────────────

/// A value that is wrong in most places.
pub fn junk() -> impl Strategy<Value = Value> {
    const NUMBERS: &[f64] =
        &[0.0, -0.0, 1.0, -1.0, 1.5, 2.0, 49.0, 51.0, 1e10, 4_294_967_296.0, 9_007_199_254_740_992.0, 1e308, -1e308, 5e-324];
    let lists = [json!([]), json!([null]), json!([1, "a"]), json!([[]]), json!([{}]), json!({}), json!({"a": 1}), json!({"": null})];
    let objects = [
        json!({"type": "object"}),
        json!({"type": "json_object"}),
        json!({"type": "json_schema", "json_schema": {"type": "object", "properties": {"a": {"type": "boolean"}}, "required": ["a"]}}),
        json!({"type": "function", "function": {"name": "f"}}),
        json!({"role": "user", "content": "a"}),
        json!([{"role": "user"}]),
        json!([{"name": "f"}]),
    ];
    prop_oneof![
        1 => select(vec![json!(null), json!(true), json!(false), json!(u64::MAX), json!(i64::MIN)]),
        2 => select(NUMBERS).prop_map(Value::from),
        2 => text().prop_map(Value::from),
        1 => select(vec!["auto", "required", "stop", "text", "{% if %}"]).prop_map(Value::from),
        1 => select(lists.to_vec()),
        2 => select(objects.to_vec()),
        1 => (1..200usize).prop_map(|depth| (0..depth).fold(json!(1), |inner, _| json!([inner]))),
    ]
}

/// A change somewhere inside a JSON value.
#[derive(Debug, Clone)]
pub struct Edit {
    /// Which member to go into, from the root on; what is left over where there are none is not used.
    path: Vec<Index>,
    change: Change,
}

#[derive(Debug, Clone)]
enum Change {
    Set(Value),
    Remove,
    Add(String, Value),
}

/// An edit. Those that add a member name it with one of `keys`.
pub fn edit(keys: &'static [&'static str]) -> impl Strategy<Value = Edit> {
    let change = prop_oneof![
        3 => junk().prop_map(Change::Set),
        1 => Just(Change::Remove),
        2 => (select(keys), junk()).prop_map(|(key, value)| Change::Add(key.to_owned(), value)),
    ];
    (vec(any::<Index>(), 0..5), change).prop_map(|(path, change)| Edit { path, change })
}

pub fn edited(mut value: Value, edits: &[Edit]) -> Value {
    for edit in edits {
        apply(&mut value, &edit.path, &edit.change);
    }
    value
}

fn apply(value: &mut Value, path: &[Index], change: &Change) {
    let members = value.as_object().map(Map::len).or(value.as_array().map(Vec::len)).unwrap_or(0);
    if let (Some((at, rest)), true) = (path.split_first(), members > 0) {
        let at = at.index(members);
        match (value, rest.is_empty() && matches!(change, Change::Remove)) {
            (Value::Array(items), true) => drop(items.remove(at)),
            (Value::Array(items), false) => apply(&mut items[at], rest, change),
            (Value::Object(fields), removes) => {
                let key = fields.keys().nth(at).cloned().expect("a key");
                match fields.get_mut(&key) {
                    Some(inner) if !removes => apply(inner, rest, change),
                    _ => drop(fields.remove(&key)),
                }
            }
            _ => {}
        }
        return;
    }
    match (change, value) {
        (Change::Set(new), value) => *value = new.clone(),
        (Change::Add(key, new), Value::Object(fields)) => drop(fields.insert(key.clone(), new.clone())),
        (Change::Add(_, new), Value::Array(items)) => items.push(new.clone()),
        _ => {}
    }
}

/// A change of bytes: what stands from a place on becomes something else.
pub fn splice() -> impl Strategy<Value = (Index, usize, Vec<u8>)> {
    let byte = prop_oneof![select(b"\0\"\\{}[],:-1e\x80\xc0\xed\xff".to_vec()), any::<u8>()];
    (any::<Index>(), 0..3usize, vec(byte, 0..3))
}

pub fn spliced(mut bytes: Vec<u8>, splices: &[(Index, usize, Vec<u8>)]) -> Vec<u8> {
    for (at, length, new) in splices {
        let at = at.index(bytes.len() + 1);
        bytes.splice(at..(at + length).min(bytes.len()), new.iter().copied());
    }
    bytes
}
