//! Tools: functions that the model may ask its caller to run.
//!
//! Lives here: what a tool and a call are, the ways in which models write calls ([`CallFormat`]), and reading calls out of
//! an answer ([`CallReader`]). Does not live here: how a request names its tools (`input`), how the model is told of them
//! (`prompt`), what makes a call fit its schema (`grammar`).

mod reader;

pub use reader::{CallReader, Found, call_of_text};

use serde_json::{Map, Value, json};

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of the arguments, an object.
    pub parameters: Value,
}

impl Tool {
    /// As chat templates expect it: OpenAI's shape.
    pub fn for_template(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".into(), Value::String(self.name.clone()));
        function.insert("description".into(), Value::String(self.description.clone().unwrap_or_default()));
        function.insert("parameters".into(), self.parameters.clone());
        json!({"type": "function", "function": function})
    }
}

/// Whether the model may or must call.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// As the model likes.
    #[default]
    Auto,
    None,
    /// At least one call.
    Required,
    /// One call of this function.
    Function(String),
}

/// A complete call.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    pub id: String,
    pub name: String,
    /// An object that fits the tool's schema.
    pub arguments: Value,
}

impl ToolCall {
    /// Flat, as the binding's clients read it, with OpenAI's fields beside it.
    pub fn flat(&self) -> Value {
        json!({
            "name": self.name,
            "arguments": self.arguments,
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments.to_string()},
        })
    }

    /// OpenAI's shape: the arguments are JSON text.
    pub fn nested(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments.to_string()}})
    }
}

/// How a model was trained to write calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFormat {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>` (Hermes, Qwen).
    Hermes,
    /// `[TOOL_CALLS] [{"name": …, "arguments": …}]` (Mistral).
    Mistral,
    /// `{"name": …, "parameters": …}` (Llama 3.1).
    Llama3,
    /// `{"name": …, "arguments": …}`: what our own prompt asks for.
    Bare,
}

/// What stands in front of a call in some format.
pub const MARKERS: [&str; 3] = ["<tool_call>", "[TOOL_CALLS]", "<|python_tag|>"];

/// Most calls of one answer. A small model does not always find an end.
pub const MAX_CALLS: usize = 8;

impl CallFormat {
    /// The format that a chat template speaks of; one that says nothing of calls speaks of none.
    pub fn of_template(source: &str) -> Self {
        if source.contains("[TOOL_CALLS]") {
            Self::Mistral
        } else if source.contains("<tool_call>") {
            Self::Hermes
        } else if source.contains("\"parameters\": ") {
            Self::Llama3
        } else {
            Self::Bare
        }
    }

    /// The marker in front of a call.
    pub fn marker(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some(MARKERS[0]),
            Self::Mistral => Some(MARKERS[1]),
            Self::Llama3 | Self::Bare => None,
        }
    }

    /// The key of the arguments.
    pub fn arguments_key(self) -> &'static str {
        match self {
            Self::Llama3 => "parameters",
            Self::Hermes | Self::Mistral | Self::Bare => "arguments",
        }
    }
}

/// An id for a call: unique, nine letters and digits, which the strictest chat templates (Mistral's) accept too.
pub fn new_call_id() -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    crate::host::random_bytes::<9>().iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % 62])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_told_by_their_templates() {
        assert_eq!(CallFormat::of_template("{{ '[TOOL_CALLS]' }}"), CallFormat::Mistral);
        assert_eq!(CallFormat::of_template("<tool_call>\n{{ call }}"), CallFormat::Hermes);
        assert_eq!(CallFormat::of_template("{{ '\"parameters\": ' }}"), CallFormat::Llama3);
        assert_eq!(CallFormat::of_template("{{ tools | tojson }}"), CallFormat::Bare);
    }

    #[test]
    fn a_call_has_both_shapes() {
        let call = ToolCall { id: new_call_id(), name: "f".into(), arguments: json!({"a": 1}) };
        assert_eq!(call.flat()["arguments"], json!({"a": 1}));
        assert_eq!(call.flat()["function"], call.nested()["function"]);
        assert_eq!(call.nested()["function"]["arguments"], "{\"a\":1}");
        assert_eq!(call.id.len(), 9);
    }
}
