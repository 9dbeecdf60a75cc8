//! Tool calls in the text of an answer ([`CallReader`]).

use crate::inputs::{cut_text, steps, text, text_of};
use crate::trial::{ANSWER, check};
use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Map, Value, json};
use std::collections::VecDeque;
use workers_ai_local::tools::{CallReader, Found, ToolCall};

/// One begins with the other.
const NAMES: &[&str] = &["f", "f_2", "get_weather"];

const PARTS: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    "(",
    ")",
    "\"",
    "'",
    ":",
    ",",
    ";",
    "=",
    "\\",
    " ",
    "\n",
    "\"name\"",
    "\"arguments\"",
    "\"parameters\"",
    "\"type\": \"function\"",
    "f",
    "f_2",
    "\"f\"",
    "g",
    "1",
    "-2.5e3",
    "True",
    "null",
    "<tool_call>",
    "</tool_call>",
    "<tool",
    "[TOOL_CALLS]",
    "[TOOL_CALLS] [",
    "[ARGS]",
    "<|python_tag|>",
    "<function=",
    "<function=f>",
    "</function>",
    ">",
    "```",
    "```json\n",
    "{\"name\": \"f\", \"arguments\": {\"a\": 1}}",
    "{\"name\": \"g\", \"arguments\": {}}",
    "f[ARGS]{\"a\": 1}",
    "[f(a=1)]",
    "[f(), f_2(b='x')]",
    "f(a=[1, {'b': None}])",
    "Hello ",
    "日本",
    "e\u{301}",
    "👩‍👩‍👧",
    "\u{feff}",
    "\0",
    "\\ud83d",
];

/// What a reader returned.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    /// Texts that follow one another are one.
    parts: Vec<Part>,
    /// Whether a call in JSON was announced.
    announced: bool,
}

#[derive(Debug, PartialEq)]
enum Part {
    Text(String),
    /// Name, arguments, and what they were read from.
    Call(String, Value, String),
}

impl Answer {
    fn push(&mut self, found: Found) {
        match (found, self.parts.last_mut()) {
            (Found::Text(text), Some(Part::Text(before))) => before.push_str(&text),
            (Found::Text(text), _) => self.parts.push(Part::Text(text)),
            (Found::Call(ToolCall { name, arguments, .. }, text), _) => self.parts.push(Part::Call(name, arguments, text)),
            (Found::CallStart(_), _) => self.announced = true,
        }
    }

    fn has_calls(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, Part::Call(..)))
    }

    /// All texts, those of calls included.
    fn whole(&self) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) | Part::Call(_, _, text) => text.as_str(),
            })
            .collect()
    }
}

/// Reads an answer in pieces. `accepts`: whether what begins like a call in JSON is one.
fn read(pieces: &[String], only_calls: bool, accepts: bool) -> Answer {
    let mut reader = CallReader::new(NAMES.iter().map(|name| (*name).to_owned()).collect(), only_calls);
    let mut answer = Answer::default();
    for piece in pieces {
        let mut found: VecDeque<Found> = reader.push(piece).into();
        while let Some(next) = found.pop_front() {
            if matches!(next, Found::CallStart(_)) {
                found.extend(if accepts { reader.accept() } else { reader.decline() });
            }
            answer.push(next);
        }
    }
    let called = answer.has_calls();
    reader.finish(called).into_iter().for_each(|found| answer.push(found));
    answer
}

fn outcome(answer: &Answer) -> String {
    match (answer.has_calls(), answer.announced) {
        (true, true) => "calls in JSON",
        (true, false) => "calls",
        (false, true) => "begins like a call",
        (false, false) => ANSWER,
    }
    .into()
}

#[test]
fn any_text_is_read_alike_however_it_is_cut() {
    let call = (0..FORMS, select(NAMES), arguments(), select(SPACES))
        .prop_map(|(form, name, arguments, space)| written(form, name, &arguments, space).0);
    let text = prop_oneof![
        2 => text_of(PARTS, 10),
        1 => (text_of(PARTS, 2), call, text_of(PARTS, 4)).prop_map(|(before, call, after)| before + &call + &after),
    ];
    let inputs = (text, steps(), any::<bool>(), any::<bool>());
    check("call_reader::any_text_is_read_alike_however_it_is_cut", 6000, inputs, |(text, steps, only_calls, accepts)| {
        let whole = read(std::slice::from_ref(&text), only_calls, accepts);
        prop_assert_eq!(&read(&cut_text(&text, &steps), only_calls, accepts), &whole);
        // After calls in JSON, the rest is not part of the answer.
        let returned = whole.whole();
        if (only_calls || (accepts && whole.announced)) && whole.has_calls() {
            prop_assert!(text.starts_with(&returned), "{returned:?} is not the beginning of the answer");
        } else {
            prop_assert_eq!(returned, text, "texts and what calls were read from are the answer");
        }
        Ok(outcome(&whole))
    });
}

/// A JSON value with at most `depth` levels of lists and objects. Floats are those that are read back exactly.
fn value(depth: u32) -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-8000..8000i32).prop_map(|eighths| json!(f64::from(eighths) / 8.0)),
        text().prop_map(Value::from),
    ];
    leaf.prop_recursive(depth, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(Value::from),
            btree_map(text(), inner, 0..3).prop_map(|fields| Value::Object(fields.into_iter().collect())),
        ]
    })
}

/// Arguments whose names are also names of Python.
fn arguments() -> impl Strategy<Value = Map<String, Value>> {
    btree_map(select(vec!["a", "b2", "_c", "größe", "city"]), value(3), 0..4)
        .prop_map(|fields| fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect())
}

/// A value as Python writes it.
fn python(value: &Value, quote: char) -> String {
    let text = |text: &str| {
        let escaped: String =
            text.chars().map(|letter| if letter == quote || letter == '\\' { format!("\\{letter}") } else { letter.to_string() }).collect();
        format!("{quote}{}{quote}", escaped.replace('\n', "\\n").replace('\t', "\\t").replace('\r', "\\r"))
    };
    match value {
        Value::Null => "None".into(),
        Value::Bool(true) => "True".into(),
        Value::Bool(false) => "False".into(),
        Value::Number(number) => number.to_string(),
        Value::String(string) => text(string),
        Value::Array(items) => format!("[{}]", items.iter().map(|item| python(item, quote)).collect::<Vec<_>>().join(", ")),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(key, value)| format!("{}: {}", text(key), python(value, quote)));
            format!("{{{}}}", fields.collect::<Vec<_>>().join(", "))
        }
    }
}

const SPACES: &[&str] = &["", " ", "\n  "];

/// The number of ways in which [`written`] writes a call.
const FORMS: usize = 14;

/// A call in one of the forms in which models write them, and whether text may precede it.
fn written(form: usize, name: &str, arguments: &Map<String, Value>, space: &str) -> (String, bool) {
    let object = Value::Object(arguments.clone());
    let flat = |key: &str| format!("{{\"name\":{space}\"{name}\",{space}\"{key}\":{space}{object}}}");
    let call = flat("arguments");
    match form {
        0 => (format!("<tool_call>{space}{call}{space}</tool_call>"), true),
        1 => (format!("<tool_call>{space}{call}"), true),
        2 => (format!("[TOOL_CALLS]{space}[{call}]"), true),
        3 => (format!("[TOOL_CALLS]{name}[ARGS]{space}{object}"), true),
        4 => (format!("<function={name}>{space}{object}{space}</function>"), true),
        5 => (format!("<function={name}>{object}"), true),
        6 => (format!("<|python_tag|>{}", flat("parameters")), true),
        7 => (format!("{space}{}", flat("parameters")), false),
        8 => (format!("{space}[{space}{call}{space}]"), false),
        9 => (format!("```json\n{call}\n```"), false),
        10 => (format!("{{\"type\":{space}\"function\",{space}\"name\": \"{name}\", \"parameters\": {object}}}"), false),
        11 => (format!("{{\"name\": \"{name}\", \"arguments\": {}}}", Value::String(object.to_string())), false),
        12 => (serde_json::to_string_pretty(&json!({"name": name, "arguments": object})).expect("JSON"), false),
        _ => {
            let quote = if space.is_empty() { '"' } else { '\'' };
            let arguments: Vec<String> = arguments.iter().map(|(key, value)| format!("{key}={}", python(value, quote))).collect();
            (format!("{space}[{name}({})]", arguments.join(", ")), false)
        }
    }
}

#[test]
fn a_call_in_every_known_form_is_found() {
    let before = select(vec!["", "Well. ", "日本 ", "<tool", "{\"a\": 1} ", "[1]\n"]);
    let inputs = (0..FORMS, select(NAMES), arguments(), select(SPACES), before, steps());
    check("call_reader::a_call_in_every_known_form_is_found", 3000, inputs, |(form, name, arguments, space, before, steps)| {
        let (call, may_follow_text) = written(form, name, &arguments, space);
        let before = if may_follow_text { before } else { "" };
        let answer = read(&cut_text(&format!("{before}{call}"), &steps), false, true);
        let (mut text, mut calls) = (String::new(), Vec::new());
        for part in &answer.parts {
            match part {
                // What closes a list or a tag may come after the call.
                Part::Text(piece) if calls.is_empty() => text.push_str(piece),
                Part::Text(_) => {}
                Part::Call(name, arguments, _) => calls.push((name.as_str(), arguments)),
            }
        }
        prop_assert_eq!(calls, [(name, &Value::Object(arguments))], "{}", call);
        prop_assert_eq!(text, before.trim_end());
        Ok(outcome(&answer))
    });
}
