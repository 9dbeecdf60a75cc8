//! Calls out of the text of an answer, as it grows.

use super::{MARKERS, ToolCall, new_call_id};
use serde_json::Value;

/// What a piece of an answer turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Text that is no call.
    Text(String),
    /// A call has begun with this text (behind its marker); from here on the answer is to be nothing but calls. Asked
    /// for once in an answer; the reader goes on with [`CallReader::begin`] or [`CallReader::decline`].
    Beginning(String),
    /// A call is complete.
    Call(ToolCall),
}

/// Reads one answer. Text that may be the beginning of a call is held back.
#[derive(Debug)]
pub struct CallReader {
    names: Vec<String>,
    stage: Stage,
    /// What has come and is not handed out.
    held: String,
    /// The marker that `held` stood behind, to be given back if it is no call after all.
    marker: &'static str,
    /// How much of `held` was looked through for complete calls.
    calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing but white space has come: a call without a marker may begin.
    Start,
    /// In the middle of a text; a call begins with a marker.
    Text,
    /// A call has begun; the caller decides.
    Asked,
    /// Calls to the end.
    Calls,
    /// Calls are no longer looked for.
    Declined,
}

impl CallReader {
    /// A reader for an answer in which the tools of these names may be called. `only_calls`: the answer is known to be
    /// nothing else.
    pub fn new(names: Vec<String>, only_calls: bool) -> Self {
        let stage = if only_calls { Stage::Calls } else { Stage::Start };
        Self { names, stage, held: String::new(), marker: "", calls: 0 }
    }

    /// Takes text and gives what is now certain, in order.
    pub fn push(&mut self, text: &str) -> Vec<Found> {
        self.held.push_str(text);
        let mut found = Vec::new();
        match self.stage {
            Stage::Start | Stage::Text => self.look_for_beginning(&mut found),
            Stage::Calls => self.take_calls(&mut found),
            Stage::Asked => {}
            Stage::Declined => found.extend(self.take_text(self.held.len())),
        }
        found
    }

    /// The rest of the answer is calls.
    pub fn begin(&mut self) -> Vec<Found> {
        self.stage = Stage::Calls;
        let mut found = Vec::new();
        self.take_calls(&mut found);
        found
    }

    /// What looked like a call is none: it is text.
    pub fn decline(&mut self) -> Vec<Found> {
        self.stage = Stage::Declined;
        self.held.insert_str(0, self.marker);
        self.take_text(self.held.len()).into_iter().collect()
    }

    /// The end of the answer: what is left is text, unless it follows calls.
    pub fn finish(&mut self) -> Vec<Found> {
        let mut found = Vec::new();
        if self.stage == Stage::Calls {
            self.take_calls(&mut found);
            if self.calls > 0 {
                self.held.clear();
                return found;
            }
        }
        self.held.insert_str(0, self.marker);
        found.extend(self.take_text(self.held.len()));
        found
    }

    /// Complete calls so far.
    pub fn calls(&self) -> usize {
        self.calls
    }

    fn take_text(&mut self, length: usize) -> Option<Found> {
        let rest = self.held.split_off(length);
        let text = std::mem::replace(&mut self.held, rest);
        self.marker = "";
        (!text.is_empty()).then_some(Found::Text(text))
    }

    fn look_for_beginning(&mut self, found: &mut Vec<Found>) {
        let marked = MARKERS.iter().filter_map(|marker| Some((self.held.find(marker)?, *marker))).min();
        if let Some((at, marker)) = marked {
            // White space between a text and a call belongs to neither.
            let before = self.held[..at].trim_end().len();
            let text = self.take_text(before);
            found.extend(text);
            self.held.drain(..at - before + marker.len());
            self.marker = marker;
            self.stage = Stage::Asked;
            found.push(Found::Beginning(self.held.clone()));
            return;
        }
        if self.stage == Stage::Start {
            let start = self.held.trim_start();
            match bare_beginning(start, &self.names) {
                Some(true) => {
                    self.held = start.to_owned();
                    self.stage = Stage::Asked;
                    found.push(Found::Beginning(self.held.clone()));
                    return;
                }
                Some(false) => return,
                None => self.stage = Stage::Text,
            }
        }
        let certain = self.held.len() - unfinished_marker(&self.held);
        let certain = self.held[..certain].trim_end().len();
        found.extend(self.take_text(certain));
    }

    fn take_calls(&mut self, found: &mut Vec<Found>) {
        loop {
            let body = skip_separators(&self.held);
            if !body.starts_with('{') {
                return;
            }
            let skipped = self.held.len() - body.len();
            let mut values = serde_json::Deserializer::from_str(body).into_iter::<Value>();
            let Some(Ok(value)) = values.next() else { return };
            let length = values.byte_offset();
            self.held.drain(..skipped + length);
            if let Some(call) = call_of(&value, &self.names) {
                self.calls += 1;
                found.push(Found::Call(call));
            }
        }
    }
}

/// A text of calls without what stands in front of the next one: white space, list punctuation, tags.
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

/// Whether a text begins a call without a marker: `Some(true)` when the name of a tool is complete, `Some(false)` while
/// it may become one, `None` when it is none.
fn bare_beginning(text: &str, names: &[String]) -> Option<bool> {
    let mut rest = text.strip_prefix('[').unwrap_or(text).trim_start();
    // What stands before the name; the first is sometimes left out.
    let steps: [&str; 8] = ["{", "\"type\"", ":", "\"function\"", ",", "\"name\"", ":", "\""];
    let mut step = 0;
    while step < steps.len() {
        rest = rest.trim_start();
        if step == 1 && "\"name\"".starts_with(&rest[..rest.len().min(6)]) {
            step = 5;
        }
        match rest.strip_prefix(steps[step]) {
            Some(after) => rest = after,
            None => return steps[step].starts_with(rest).then_some(false),
        }
        step += 1;
    }
    match rest.split_once('"') {
        Some((name, _)) => names.iter().any(|known| known == name).then_some(true),
        None => names.iter().any(|known| known.starts_with(rest)).then_some(false),
    }
}

/// Length of the longest end of a text with which a marker begins.
fn unfinished_marker(text: &str) -> usize {
    let begins = |marker: &&str| (1..marker.len()).rev().find(|length| text.ends_with(&marker[..*length]));
    MARKERS.iter().filter_map(begins).max().unwrap_or(0)
}

/// A call of a tool that is on offer.
fn call_of(value: &Value, names: &[String]) -> Option<ToolCall> {
    let (name, arguments) = parts_of(value)?;
    names.contains(&name).then(|| ToolCall { id: new_call_id(), name, arguments })
}

/// Name and arguments of a text that is nothing but a call.
pub fn call_of_text(text: &str) -> Option<(String, Value)> {
    let trimmed = text.trim();
    // Most texts are none: no need to parse them.
    let value: Value = trimmed.starts_with('{').then(|| serde_json::from_str(trimmed).ok())??;
    value.get("arguments").or_else(|| value.get("parameters")).and_then(|_| parts_of(&value))
}

/// A call as models write it: `{"name", "arguments" | "parameters"}`, the arguments an object or its JSON text.
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

    /// Feeds a text in pieces of `step` bytes; a beginning is taken for a call.
    fn read(text: &str, step: usize) -> (String, Vec<(String, Value)>) {
        let mut reader = CallReader::new(vec!["get_weather".into(), "f".into()], false);
        let mut out = (String::new(), Vec::new());
        let mut all = Vec::new();
        let pieces: Vec<char> = text.chars().collect();
        for piece in pieces.chunks(step) {
            for found in reader.push(&piece.iter().collect::<String>()) {
                if matches!(found, Found::Beginning(_)) {
                    all.extend(reader.begin());
                } else {
                    all.push(found);
                }
            }
        }
        all.extend(reader.finish());
        for found in all {
            match found {
                Found::Text(text) => out.0.push_str(&text),
                Found::Call(call) => out.1.push((call.name, call.arguments)),
                Found::Beginning(_) => {}
            }
        }
        out
    }

    #[test]
    fn every_documented_form_is_read_however_it_is_cut() {
        let arguments = serde_json::json!({"city": "Ghent"});
        let forms = [
            ("<tool_call>\n{\"name\": \"f\", \"arguments\": {\"city\": \"Ghent\"}}\n</tool_call>", ""),
            ("Let me see. <tool_call>{\"name\": \"f\", \"arguments\": {\"city\": \"Ghent\"}}</tool_call>", "Let me see."),
            ("[TOOL_CALLS] [{\"name\": \"f\", \"arguments\": {\"city\": \"Ghent\"}}]", ""),
            ("<|python_tag|>{\"name\": \"f\", \"parameters\": {\"city\": \"Ghent\"}}", ""),
            ("\n{\"name\": \"f\", \"parameters\": {\"city\": \"Ghent\"}}", ""),
            ("{\"type\": \"function\", \"name\": \"f\", \"parameters\": {\"city\": \"Ghent\"}}", ""),
            ("{ \"name\" : \"f\", \"arguments\": \"{\\\"city\\\": \\\"Ghent\\\"}\"}", ""),
        ];
        for (text, before) in forms {
            for step in [1, 2, 3, 7, 1000] {
                let (rest, calls) = read(text, step);
                assert_eq!((rest.as_str(), calls), (before, vec![("f".to_owned(), arguments.clone())]), "{text} by {step}");
            }
        }
    }

    #[test]
    fn several_calls() {
        let two = "{\"name\": \"f\", \"arguments\": {}}, {\"name\": \"get_weather\", \"arguments\": {}}";
        for text in [two.to_owned(), format!("[TOOL_CALLS] [{two}]"), two.replace(", {", "\n{")] {
            assert_eq!(read(&text, 1).1.len(), 2, "{text}");
        }
        let tags =
            "<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>\n<tool_call>{\"name\": \"f\", \"arguments\": {}}</tool_call>";
        assert_eq!(read(tags, 4).1.len(), 2);
    }

    #[test]
    fn what_is_no_call_stays_text() {
        for text in
            ["{\"name\": \"Ada\", \"age\": 36}", "[1, 2]", "a < b <tool", "{\"names\": 1}", "Sure: {\"name\": \"f\"}", "  spaced  ", "{"]
        {
            for step in [1, 3, 1000] {
                assert_eq!(read(text, step), (text.to_owned(), vec![]), "{text} by {step}");
            }
        }
    }

    #[test]
    fn a_call_that_is_cut_off_is_text() {
        let cut = "<tool_call>{\"name\": \"f\", \"arguments\": {\"ci";
        assert_eq!(read(cut, 2), (cut.to_owned(), vec![]));
    }
}
