//! Tools: functions that the model may ask the caller to run.
//!
//! Contains the types of tools and calls, the formats in which models write calls ([`CallFormat`]) and the parser that extracts
//! calls from an answer ([`CallReader`]). Tools are parsed from a request in `input`, described to the model in `prompt`, and calls
//! are made to match their schema in `grammar`.

mod python;
mod reader;

pub use reader::{CallReader, Found, call_of_text, partial_match};

use serde_json::{Map, Value, json};

/// A function that the model may call.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    pub name: String,
    pub description: Option<String>,
    /// JSON Schema of the arguments, as a JSON object.
    pub parameters: Value,
}

impl Tool {
    /// The tool in OpenAI's shape, `{type, function}`, as chat templates expect it.
    pub fn for_template(&self) -> Value {
        let mut function = Map::new();
        function.insert("name".into(), Value::String(self.name.clone()));
        if let Some(description) = &self.description {
            function.insert("description".into(), Value::String(description.clone()));
        }
        function.insert("parameters".into(), self.parameters.clone());
        json!({"type": "function", "function": function})
    }
}

/// Whether the model may, must or must not call a tool.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum ToolChoice {
    /// The model decides.
    #[default]
    Auto,
    /// No calls.
    None,
    /// At least one call.
    Required,
    /// One call of the function with this name.
    Function(String),
}

/// A complete call of a tool.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall {
    /// Empty until the answer's [`Nonce`](crate::ai::Nonce) names it.
    pub id: String,
    pub name: String,
    /// A JSON object that matches the tool's schema.
    pub arguments: Value,
}

impl ToolCall {
    /// The flat shape that the binding's clients read, `{name, arguments: {…}}`, together with OpenAI's fields.
    pub fn flat(&self) -> Value {
        json!({
            "name": self.name,
            "arguments": self.arguments,
            "id": self.id,
            "type": "function",
            "function": {"name": self.name, "arguments": self.arguments.to_string()},
        })
    }

    /// OpenAI's shape, `{id, type, function}`, with the arguments as JSON text.
    pub fn nested(&self) -> Value {
        json!({"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments.to_string()}})
    }
}

/// The format in which a model was trained to write calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CallFormat {
    /// `<tool_call>{"name": …, "arguments": …}</tool_call>` (Hermes, Qwen).
    Hermes,
    /// `[TOOL_CALLS] [{"name": …, "arguments": …}]` (Mistral).
    Mistral,
    /// `{"name": …, "parameters": …}` (Llama 3.1).
    Llama3,
    /// `{"name": …, "arguments": …}`, the format that our own prompt asks for.
    Bare,
}

/// The markers that precede a call, over all formats.
pub const MARKERS: [&str; 4] = ["<tool_call>", "[TOOL_CALLS]", "<|python_tag|>", "<function="];

/// Maximum number of calls in one answer. A small model does not always stop making calls.
pub const MAX_CALLS: usize = 8;

impl CallFormat {
    /// Detects the format from the Jinja source of a chat template; [`CallFormat::Bare`] if the source mentions no known format.
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

    /// The marker that precedes a call, if the format has one.
    pub fn marker(self) -> Option<&'static str> {
        match self {
            Self::Hermes => Some(MARKERS[0]),
            Self::Mistral => Some(MARKERS[1]),
            Self::Llama3 | Self::Bare => None,
        }
    }

    /// Whether an answer that consists of calls may end here, outside of all brackets.
    pub fn ends(self, answer: &[u8]) -> bool {
        match self {
            Self::Hermes => answer.ends_with(b"</tool_call>"),
            // Its marker ends with a bracket, too.
            Self::Mistral => answer.strip_suffix(b"]").is_some_and(|calls| calls.trim_ascii_end().ends_with(b"}")),
            Self::Llama3 | Self::Bare => answer.ends_with(b"}"),
        }
    }

    /// The JSON key of a call's arguments.
    pub fn arguments_key(self) -> &'static str {
        match self {
            Self::Llama3 => "parameters",
            Self::Hermes | Self::Mistral | Self::Bare => "arguments",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_are_detected_from_templates() {
        assert_eq!(CallFormat::of_template("{{ '[TOOL_CALLS]' }}"), CallFormat::Mistral);
        assert_eq!(CallFormat::of_template("<tool_call>\n{{ call }}"), CallFormat::Hermes);
        assert_eq!(CallFormat::of_template("{{ '\"parameters\": ' }}"), CallFormat::Llama3);
        assert_eq!(CallFormat::of_template("{{ tools | tojson }}"), CallFormat::Bare);
    }

    #[test]
    fn a_call_has_both_shapes() {
        let call = ToolCall { id: String::new(), name: "f".into(), arguments: json!({"a": 1}) };
        assert_eq!(call.flat()["arguments"], json!({"a": 1}));
        assert_eq!(call.flat()["function"], call.nested()["function"]);
        assert_eq!(call.nested()["function"]["arguments"], "{\"a\":1}");
    }
}
