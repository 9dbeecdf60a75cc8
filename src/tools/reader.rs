//! Extracts tool calls from the text of an answer while it is generated.

use super::python;
use super::{MARKERS, ToolCall};
use serde_json::Value;

/// A classified piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Text that does not belong to a call.
    Text(String),
    /// What seems to be the start of a call in JSON: the text received after the marker, or the bare text without one. The reader then
    /// waits until the caller either confirms that only calls follow ([`CallReader::accept`]) or rejects it ([`CallReader::decline`]).
    CallStart(String),
    /// A complete call, and the text that it was read from.
    Call(ToolCall, String),
}

/// An incremental parser for one answer. It holds back text that may be the start of a call.
#[derive(Debug)]
pub struct CallReader {
    /// Names of the tools that may be called.
    names: Vec<String>,
    stage: Stage,
    /// Text that was received and not yet returned.
    held: String,
    /// White space, a marker or a code fence in front of `held`; between calls also what is not one. It is returned as text if no call follows.
    skipped: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only white space so far: a call without a marker may start.
    Start,
    /// Inside text: a call starts only with a marker.
    Text,
    /// After a marker, which only what follows can tell from text that mentions it.
    Marked(&'static str),
    /// [`Found::CallStart`] was reported; waits for the caller's decision.
    Undecided,
    /// Only calls until the end.
    Calls,
}

/// The result of looking at text that is still growing.
enum Look<T> {
    Is(T),
    /// It may still become one.
    Perhaps,
    Not,
}

impl CallReader {
    /// Creates a reader for an answer that may call the tools with these names. `only_calls`: the answer consists of calls only.
    pub fn new(names: Vec<String>, only_calls: bool) -> Self {
        let stage = if only_calls { Stage::Calls } else { Stage::Start };
        Self { names, stage, held: String::new(), skipped: String::new() }
    }

    /// Adds text to the answer and returns the pieces that are now certain, in order.
    pub fn push(&mut self, text: &str) -> Vec<Found> {
        self.held.push_str(text);
        let mut found = Vec::new();
        self.advance(&mut found);
        found
    }

    /// Answers [`Found::CallStart`]: the rest of the answer consists of calls. Returns the calls that are already complete.
    pub fn accept(&mut self) -> Vec<Found> {
        self.stage = Stage::Calls;
        let mut found = Vec::new();
        self.advance(&mut found);
        found
    }

    /// Answers [`Found::CallStart`]: it was not a call. Returns the pieces of text that are now certain.
    pub fn decline(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        self.return_skipped(&mut found);
        self.advance(&mut found);
        found
    }

    /// Ends the answer and returns the rest: calls, or text. Text after the calls of an answer that consists of calls is dropped if `called`.
    pub fn finish(&mut self, called: bool) -> Vec<Found> {
        let mut found = Vec::new();
        if self.stage == Stage::Calls {
            self.advance(&mut found);
            if called || found.iter().any(|found| matches!(found, Found::Call(..))) {
                self.held.clear();
                return found;
            }
        }
        // A tag that would end a call may be missing at the end of an answer.
        if let Stage::Marked(marker) = self.stage {
            self.look_after_marker(marker, true, &mut found);
        }
        self.return_skipped(&mut found);
        let rest = std::mem::take(&mut self.held);
        push_text(&mut found, rest);
        found
    }

    /// Moves the pieces of the held text that are certain to `found`.
    fn advance(&mut self, found: &mut Vec<Found>) {
        loop {
            let moved = match self.stage {
                Stage::Start => self.look_at_start(found),
                Stage::Text => self.look_for_marker(found),
                Stage::Marked(marker) => self.look_after_marker(marker, false, found),
                Stage::Undecided => false,
                Stage::Calls => self.take_call(found),
            };
            if !moved {
                return;
            }
        }
    }

    /// Removes the first `length` bytes of the held text and returns them.
    fn take(&mut self, length: usize) -> String {
        let rest = self.held.split_off(length);
        std::mem::replace(&mut self.held, rest)
    }

    /// What was skipped is text after all, and calls start with a marker from here on.
    fn return_skipped(&mut self, found: &mut Vec<Found>) {
        push_text(found, std::mem::take(&mut self.skipped));
        self.stage = Stage::Text;
    }

    /// Reports that the held text starts a call in JSON.
    fn report_start(&mut self, found: &mut Vec<Found>) -> bool {
        self.stage = Stage::Undecided;
        found.push(Found::CallStart(self.held.clone()));
        false
    }

    /// Returns the calls that were read from the first `length` bytes of the held text.
    fn report_calls(&mut self, calls: Vec<(String, Value)>, length: usize, found: &mut Vec<Found>) {
        let mut text = std::mem::take(&mut self.skipped) + &self.take(length);
        for (name, arguments) in calls {
            found.push(Found::Call(ToolCall { id: String::new(), name, arguments }, std::mem::take(&mut text)));
        }
        self.stage = Stage::Text;
    }

    /// A call without a marker: bare JSON, JSON in a code fence, or Python's notation.
    fn look_at_start(&mut self, found: &mut Vec<Found>) -> bool {
        let body = self.held.trim_start();
        let space = self.held.len() - body.len();
        let fence = match fence(body) {
            Look::Is(length) => length,
            Look::Perhaps => return false,
            Look::Not => 0,
        };
        let start = space + fence;
        match starts_bare_call(self.held.get(start..).unwrap_or_default(), &self.names) {
            Look::Is(()) => {
                self.skipped = self.take(start);
                return self.report_start(found);
            }
            Look::Perhaps => return false,
            Look::Not => {}
        }
        match python::calls(body, &self.names) {
            python::Calls::Complete(calls, length) => self.report_calls(calls, space + length, found),
            python::Calls::Unfinished => return false,
            python::Calls::None => self.stage = Stage::Text,
        }
        true
    }

    fn look_for_marker(&mut self, found: &mut Vec<Found>) -> bool {
        let Some((at, marker)) = MARKERS.iter().filter_map(|marker| Some((self.held.find(marker)?, *marker))).min() else {
            let certain = self.held.len() - partial_marker_length(&self.held);
            let certain = trimmed_length(&self.held, certain);
            let text = self.take(certain);
            push_text(found, text);
            return false;
        };
        // White space between text and a call belongs to neither.
        let text = self.take(trimmed_length(&self.held, at));
        let skipped = at - text.len() + marker.len();
        push_text(found, text);
        self.skipped = self.take(skipped);
        self.stage = Stage::Marked(marker);
        true
    }

    /// `last`: nothing follows the held text.
    fn look_after_marker(&mut self, marker: &'static str, last: bool, found: &mut Vec<Found>) -> bool {
        let body = self.held.trim_start();
        let space = self.held.len() - body.len();
        if body.is_empty() {
            return false;
        }
        if body.starts_with(['{', '[']) && marker != FUNCTION {
            return self.report_start(found);
        }
        // `[TOOL_CALLS]name[ARGS]{…}` and `<function=name>{…}</function>`.
        let (after_name, end) = match marker {
            FUNCTION => (">", if last { "" } else { "</function>" }),
            TOOL_CALLS => ("[ARGS]", ""),
            _ => ("", ""),
        };
        let look = if after_name.is_empty() { Look::Not } else { named_call(body, after_name, end, &self.names) };
        match look {
            Look::Is((name, arguments, length)) => self.report_calls(vec![(name, arguments)], space + length, found),
            Look::Perhaps => return false,
            Look::Not => self.return_skipped(found),
        }
        true
    }

    /// Moves the complete call at the start of the held text to `found`.
    fn take_call(&mut self, found: &mut Vec<Found>) -> bool {
        let body = skip_separators(&self.held);
        if !body.starts_with('{') {
            return false;
        }
        let skipped = self.held.len() - body.len();
        let mut values = serde_json::Deserializer::from_str(body).into_iter::<Value>();
        let Some(Ok(value)) = values.next() else { return false };
        let length = values.byte_offset();
        let text = self.take(skipped + length);
        self.skipped.push_str(&text);
        if let Some((name, arguments)) = parts_of(&value).filter(|(name, _)| self.names.contains(name)) {
            found.push(Found::Call(ToolCall { id: String::new(), name, arguments }, std::mem::take(&mut self.skipped)));
        }
        true
    }
}

const TOOL_CALLS: &str = MARKERS[1];
const FUNCTION: &str = MARKERS[3];

fn push_text(found: &mut Vec<Found>, text: String) {
    if !text.is_empty() {
        found.push(Found::Text(text));
    }
}

/// Strips what may precede the next call: white space, list punctuation and tags.
fn skip_separators(text: &str) -> &str {
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        let tag = MARKERS.iter().chain(&["</tool_call>"]).find_map(|tag| rest.strip_prefix(tag));
        let unfinished = MARKERS.iter().any(|marker| marker.starts_with(rest));
        rest = match tag.or_else(|| rest.strip_prefix([',', ';', '[', ']']).filter(|_| !unfinished)) {
            Some(after) => after,
            None => return rest,
        };
    }
}

/// The length of a code fence at the start of the text, with the name of a language and the end of the line.
fn fence(text: &str) -> Look<usize> {
    const FENCE: &str = "```";
    let Some(rest) = text.strip_prefix(FENCE) else {
        return if FENCE.starts_with(text) && !text.is_empty() { Look::Perhaps } else { Look::Not };
    };
    let language = rest.len() - rest.trim_start_matches(|letter: char| letter.is_ascii_alphanumeric() || letter == '_').len();
    match rest.get(language..).and_then(|rest| rest.chars().next()) {
        Some('\n' | '\r' | ' ') => Look::Is(FENCE.len() + language + 1),
        Some(_) => Look::Not,
        None => Look::Perhaps,
    }
}

/// Whether the text starts a call without a marker: certain once the name of a tool is complete.
fn starts_bare_call(text: &str, names: &[String]) -> Look<()> {
    let perhaps = |may_be: bool| if may_be { Look::Perhaps } else { Look::Not };
    let mut rest = text.trim_start();
    rest = rest.strip_prefix('[').unwrap_or(rest);
    // The JSON tokens before the name. Models sometimes omit the `type` field.
    let steps: [&str; 8] = ["{", "\"type\"", ":", "\"function\"", ",", "\"name\"", ":", "\""];
    let mut step = 0;
    while step < steps.len() {
        rest = rest.trim_start();
        if step == 1 && (rest.starts_with("\"name\"") || "\"name\"".starts_with(rest)) {
            step = 5;
        }
        match rest.strip_prefix(steps[step]) {
            Some(after) => rest = after,
            None => return perhaps(steps[step].starts_with(rest)),
        }
        step += 1;
    }
    match rest.split_once('"') {
        Some((name, _)) if names.iter().any(|known| known == name) => Look::Is(()),
        Some(_) => Look::Not,
        None => perhaps(names.iter().any(|known| known.starts_with(rest))),
    }
}

/// A call as `name`, a separator, the arguments as a JSON object, and a tag that ends it (which may be missing): its name, its arguments and
/// its length.
fn named_call(text: &str, separator: &str, end: &str, names: &[String]) -> Look<(String, Value, usize)> {
    // Of two names of which one starts with the other, the separator tells which it is.
    let Some((name, rest)) = names.iter().find_map(|name| Some((name, text.strip_prefix(name.as_str())?.strip_prefix(separator)?))) else {
        let unfinished = names.iter().any(|name| format!("{name}{separator}").starts_with(text));
        return if unfinished { Look::Perhaps } else { Look::Not };
    };
    let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
    let value = match values.next() {
        Some(Ok(value @ Value::Object(_))) => value,
        Some(Err(error)) if error.is_eof() => return Look::Perhaps,
        None => return Look::Perhaps,
        _ => return Look::Not,
    };
    let after = rest.get(values.byte_offset()..).unwrap_or_default();
    let closed = after.trim_start();
    let length = text.len() - after.len();
    match closed.strip_prefix(end) {
        Some(closed) if !end.is_empty() => Look::Is((name.clone(), value, text.len() - closed.len())),
        _ if !end.is_empty() && end.starts_with(closed) => Look::Perhaps,
        _ => Look::Is((name.clone(), value, length)),
    }
}

/// Length in bytes of the longest suffix of `text` that is a proper prefix of `pattern`: the part of a match that has come so far.
pub fn partial_match(text: &str, pattern: &str) -> usize {
    let prefixes = pattern.char_indices().skip(1).filter_map(|(end, _)| pattern.get(..end));
    prefixes.filter(|prefix| text.ends_with(prefix)).map(str::len).max().unwrap_or(0)
}

/// Length in bytes of the longest suffix of `text` that is a proper prefix of a marker.
fn partial_marker_length(text: &str) -> usize {
    MARKERS.iter().map(|marker| partial_match(text, marker)).max().unwrap_or(0)
}

/// Length of the first `end` bytes of `text`, a character boundary, without the white space at their end.
fn trimmed_length(text: &str, end: usize) -> usize {
    text.get(..end).map_or(0, |text| text.trim_end().len())
}

/// The name and the arguments (a JSON object) of a text that consists of one call only; `None` for any other text.
pub fn call_of_text(text: &str) -> Option<(String, Value)> {
    let trimmed = text.trim();
    // Most texts are not calls and need no parsing.
    let value: Value = trimmed.starts_with('{').then(|| serde_json::from_str(trimmed).ok())??;
    value.get("arguments").or_else(|| value.get("parameters")).and_then(|_| parts_of(&value))
}

/// Name and arguments of a call as models write it: `{"name", "arguments" | "parameters"}`, with the arguments as an object or as its
/// JSON text.
fn parts_of(value: &Value) -> Option<(String, Value)> {
    let name = value.get("name")?.as_str()?.to_owned();
    let arguments = match value.get("arguments").or_else(|| value.get("parameters")) {
        Some(Value::String(text)) => serde_json::from_str(text).ok()?,
        Some(value) => value.clone(),
        None => Value::Object(serde_json::Map::new()),
    };
    arguments.is_object().then_some((name, arguments))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    const FLAG: &str = "🇩🇪";

    fn reader() -> CallReader {
        CallReader::new(vec!["get_weather".into(), "f".into()], false)
    }

    /// The text and the calls of an answer that comes in these pieces; `is_call` decides about every start of a call.
    fn read_pieces(pieces: &[String], is_call: bool) -> (String, Vec<(String, Value)>) {
        let mut reader = reader();
        let mut all = Vec::new();
        for piece in pieces {
            let mut found: VecDeque<Found> = reader.push(piece).into();
            while let Some(next) = found.pop_front() {
                if matches!(next, Found::CallStart(_)) {
                    found.extend(if is_call { reader.accept() } else { reader.decline() });
                } else {
                    all.push(next);
                }
            }
        }
        let called = all.iter().any(|found| matches!(found, Found::Call(..)));
        all.extend(reader.finish(called));
        let mut out = (String::new(), Vec::new());
        for found in all {
            match found {
                Found::Text(text) => out.0.push_str(&text),
                Found::Call(call, _) => out.1.push((call.name, call.arguments)),
                Found::CallStart(_) => {}
            }
        }
        out
    }

    /// A text in pieces of `step` characters.
    fn pieces(text: &str, step: usize) -> Vec<String> {
        let characters: Vec<char> = text.chars().collect();
        characters.chunks(step).map(|piece| piece.iter().collect()).collect()
    }

    /// Reads a text in pieces of `step` characters and accepts every call start.
    fn read(text: &str, step: usize) -> (String, Vec<(String, Value)>) {
        read_pieces(&pieces(text, step), true)
    }

    #[test]
    fn every_documented_format_is_read_in_pieces_of_any_length() {
        let arguments = serde_json::json!({"city": "Ghent"});
        let forms = [
            ("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Ghent\"}}\n</tool_call>", ""),
            ("Let me see. <tool_call>{\"name\": \"f\", \"arguments\": {\"city\": \"Ghent\"}}</tool_call>", "Let me see."),
            ("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"city\": \"Ghent\"}}]", ""),
            ("[TOOL_CALLS]f[ARGS]{\"city\": \"Ghent\"}", ""),
            ("Well. <function=f>{\"city\": \"Ghent\"}</function>", "Well."),
            ("<function=f> {\"city\": \"Ghent\"}", ""),
            ("<|python_tag|>{\"name\": \"f\", \"parameters\": {\"city\": \"Ghent\"}}", ""),
            ("\n{\"name\": \"f\", \"parameters\": {\"city\": \"Ghent\"}}", ""),
            ("{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"city\": \"Ghent\"}}", ""),
            ("{ \"name\" : \"f\", \"arguments\": \"{\\\"city\\\": \\\"Ghent\\\"}\"}", ""),
            ("```json\n{\"name\": \"f\", \"arguments\": {\"city\": \"Ghent\"}}\n```", ""),
            ("[f(city=\"Ghent\")]", ""),
        ];
        for (text, before) in forms {
            for step in [1, 2, 3, 7, 1000] {
                let (rest, calls) = read(text, step);
                assert_eq!((rest.as_str(), calls), (before, vec![("f".to_owned(), arguments.clone())]), "{text} by {step}");
            }
        }
        assert_eq!(read("{\"name\": \"f\"}", 3).1, [("f".to_owned(), serde_json::json!({}))]);
    }

    #[test]
    fn several_calls() {
        let two = "{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {}}";
        let functions = "<function=f>{}</function>\n<function=get_weather>{}</function>";
        for text in
            [two.to_owned(), format!("[TOOL_CALLS] [{two}]"), two.replace(", {", "\n{"), "[f(), get_weather()]".into(), functions.into()]
        {
            assert_eq!(read(&text, 1).1.len(), 2, "{text}");
        }
        let tags =
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
        assert_eq!(read(tags, 4).1.len(), 2);
    }

    #[test]
    fn text_that_is_not_a_call_stays_text() {
        let flag = format!("{{\"{FLAG}\": 1}}");
        for text in [
            "{\"name\": \"Ada\", \"age\": 36}",
            "[1, 2]",
            "a < b <tool",
            "{\"names\": 1}",
            "Sure: {\"name\": \"f\"}",
            "  spaced  ",
            "{",
            "Use the <tool_call> tag.",
            "Use <function=g>{}</function> or <function=",
            "[TOOL_CALLS] none",
            "```json\n{\"a\": 1}\n```",
            "```",
            "{\"名称\": 1}",
            flag.as_str(),
        ] {
            for step in [1, 3, 1000] {
                assert_eq!(read(text, step), (text.to_owned(), vec![]), "{text} by {step}");
            }
        }
    }

    #[test]
    fn a_call_after_text_that_mentions_a_marker_is_read() {
        let text = "Use the <tool_call> tag: <tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
        for step in [1, 5, 1000] {
            assert_eq!(read(text, step), ("Use the <tool_call> tag:".to_owned(), vec![("f".to_owned(), serde_json::json!({}))]));
        }
    }

    #[test]
    fn a_call_that_is_cut_off_is_text() {
        for cut in ["<tool_call>{\"name\": \"f\", \"arguments\": {\"ci", "<function=f>{\"ci", "[f(city=", " [TOOL_CALLS] f[ARGS]"] {
            for (step, is_call) in [(1, true), (2, false), (3, true), (1000, false), (1000, true)] {
                assert_eq!(read_pieces(&pieces(cut, step), is_call), (cut.to_owned(), vec![]), "{cut} by {step}");
            }
        }
    }
}
