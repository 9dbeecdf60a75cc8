//! Extracts tool calls from the text of an answer while it is generated.

use super::{MARKERS, ToolCall, new_call_id};
use serde_json::Value;

/// A classified piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Found {
    /// Text that does not belong to a call.
    Text(String),
    /// What seems to be the start of a call: the text received after the marker, or the bare text without one. Reported at most
    /// once per answer. The reader then waits until the caller either confirms that only calls follow ([`CallReader::accept`]) or
    /// rejects it ([`CallReader::decline`]).
    CallStart(String),
    /// A complete call.
    Call(ToolCall),
}

/// An incremental parser for one answer. It holds back text that may be the start of a call.
#[derive(Debug)]
pub struct CallReader {
    /// Names of the tools that may be called.
    names: Vec<String>,
    stage: Stage,
    /// Text that was received and not yet returned.
    held: String,
    /// The marker that preceded `held`. It is returned as text if `held` turns out not to be a call.
    marker: &'static str,
    /// Number of complete calls so far.
    calls: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Only white space so far: a call without a marker may start.
    Start,
    /// Inside text: a call starts only with a marker.
    Text,
    /// [`Found::CallStart`] was reported; waits for the caller's decision.
    Undecided,
    /// Only calls until the end.
    Calls,
    /// Everything until the end is text.
    Declined,
}

impl CallReader {
    /// Creates a reader for an answer that may call the tools with these names. `only_calls`: the answer consists of calls only.
    pub fn new(names: Vec<String>, only_calls: bool) -> Self {
        let stage = if only_calls { Stage::Calls } else { Stage::Start };
        Self { names, stage, held: String::new(), marker: "", calls: 0 }
    }

    /// Adds text to the answer and returns the pieces that are now certain, in order.
    pub fn push(&mut self, text: &str) -> Vec<Found> {
        self.held.push_str(text);
        let mut found = Vec::new();
        match self.stage {
            Stage::Start | Stage::Text => self.find_call_start(&mut found),
            Stage::Calls => self.take_calls(&mut found),
            Stage::Undecided => {}
            Stage::Declined => found.extend(self.take_text(self.held.len())),
        }
        found
    }

    /// Answers [`Found::CallStart`]: the rest of the answer consists of calls. Returns the calls that are already complete.
    pub fn accept(&mut self) -> Vec<Found> {
        self.stage = Stage::Calls;
        let mut found = Vec::new();
        self.take_calls(&mut found);
        found
    }

    /// Answers [`Found::CallStart`]: it was not a call. Returns the held text; the rest of the answer is text too.
    pub fn decline(&mut self) -> Vec<Found> {
        self.stage = Stage::Declined;
        self.held.insert_str(0, self.marker);
        self.take_text(self.held.len()).into_iter().collect()
    }

    /// Ends the answer and returns the rest: calls, or text. Text after a call is dropped.
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

    /// Number of complete calls so far.
    pub fn calls(&self) -> usize {
        self.calls
    }

    /// Removes the first `length` bytes of the held text and returns them.
    fn take_text(&mut self, length: usize) -> Option<Found> {
        let rest = self.held.split_off(length);
        let text = std::mem::replace(&mut self.held, rest);
        self.marker = "";
        (!text.is_empty()).then_some(Found::Text(text))
    }

    fn find_call_start(&mut self, found: &mut Vec<Found>) {
        let marked = MARKERS.iter().filter_map(|marker| Some((self.held.find(marker)?, *marker))).min();
        if let Some((at, marker)) = marked {
            // White space between text and a call belongs to neither.
            let before = trimmed_length(&self.held, at);
            let text = self.take_text(before);
            found.extend(text);
            self.held.drain(..at - before + marker.len());
            self.marker = marker;
            self.stage = Stage::Undecided;
            found.push(Found::CallStart(self.held.clone()));
            return;
        }
        if self.stage == Stage::Start {
            let start = self.held.trim_start();
            match starts_bare_call(start, &self.names) {
                Some(true) => {
                    self.held = start.to_owned();
                    self.stage = Stage::Undecided;
                    found.push(Found::CallStart(self.held.clone()));
                    return;
                }
                Some(false) => return,
                None => self.stage = Stage::Text,
            }
        }
        let certain = self.held.len() - partial_marker_length(&self.held);
        let certain = trimmed_length(&self.held, certain);
        found.extend(self.take_text(certain));
    }

    /// Moves the complete calls at the start of the held text to `found`.
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

/// Whether the text starts a call without a marker: `Some(true)` once the name of a tool is complete, `Some(false)` while it may still
/// become a call, `None` if it cannot.
fn starts_bare_call(text: &str, names: &[String]) -> Option<bool> {
    let mut rest = text.strip_prefix('[').unwrap_or(text).trim_start();
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
            None => return steps[step].starts_with(rest).then_some(false),
        }
        step += 1;
    }
    match rest.split_once('"') {
        Some((name, _)) => names.iter().any(|known| known == name).then_some(true),
        None => names.iter().any(|known| known.starts_with(rest)).then_some(false),
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

/// Parses a call and gives it a new id; `None` if it is not a call of a tool in `names`.
fn call_of(value: &Value, names: &[String]) -> Option<ToolCall> {
    let (name, arguments) = parts_of(value)?;
    names.contains(&name).then(|| ToolCall { id: new_call_id(), name, arguments })
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

    /// Reads a text in pieces of `step` characters and accepts every call start. Returns the text and the calls.
    fn read(text: &str, step: usize) -> (String, Vec<(String, Value)>) {
        let mut reader = CallReader::new(vec!["get_weather".into(), "f".into()], false);
        let mut out = (String::new(), Vec::new());
        let mut all = Vec::new();
        let pieces: Vec<char> = text.chars().collect();
        for piece in pieces.chunks(step) {
            for found in reader.push(&piece.iter().collect::<String>()) {
                if matches!(found, Found::CallStart(_)) {
                    all.extend(reader.accept());
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
                Found::CallStart(_) => {}
            }
        }
        out
    }

    #[test]
    fn every_documented_format_is_read_in_pieces_of_any_length() {
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
    fn text_that_is_not_a_call_stays_text() {
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
