//! Input: the JSON of one request → [`TextGenerationRequest`].
//!
//! Lives here: the published schema with its ranges, and what its fields mean. Does not live here: how JSON arrives
//! (`js`, `http`) or how messages become a prompt (`prompt`).

mod tools;
mod validate;

use crate::error::{AiError, ErrorCode, Result};
use crate::sampling::SamplingParams;
use crate::tools::{Tool, ToolChoice};
use serde_json::{Map, Value};
pub use validate::published_schemas;
use validate::{Branch, check};

/// What is to be continued.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// One question, put into a default chat turn.
    Unscoped(String),
    /// Text that is continued as it stands.
    Raw(String),
    /// A conversation; each message is `{role, content, …}` as chat templates expect it.
    Messages(Vec<Value>),
}

/// What the answer is to be.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    Text,
    JsonObject,
    /// JSON that fits this schema.
    JsonSchema(Value),
}

/// One validated request for text generation.
#[derive(Debug, Clone, PartialEq)]
pub struct TextGenerationRequest {
    pub prompt: Prompt,
    pub stream: bool,
    /// The caller's own limit; without one the catalogue's default applies.
    pub max_tokens: Option<usize>,
    pub sampling: SamplingParams,
    /// The answer ends before the first of these strings.
    pub stop: Vec<String>,
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    /// Whether an answer may have several calls.
    pub parallel_tool_calls: bool,
    pub response_format: ResponseFormat,
    /// Further variables for the chat template (`reasoning_effort`, `chat_template_kwargs`).
    pub template_variables: Map<String, Value>,
}

impl TextGenerationRequest {
    /// Parses a request that arrived as JSON text. Lone surrogates and other text that is no JSON are 5004.
    pub fn from_json(text: &str) -> Result<Self> {
        let input = serde_json::from_str(text)
            .map_err(|error| AiError::invalid_data(format!("Invalid data: the input is not valid JSON in valid Unicode: {error}")))?;
        Self::from_value(input)
    }

    /// Parses and validates a request. `null` counts as absent, unknown keys are allowed.
    pub fn from_value(mut input: Value) -> Result<Self> {
        if let Value::Object(fields) = &mut input {
            fields.retain(|_, value| !value.is_null());
        }
        if input.get("requests").is_some() {
            let text = "Batches ('requests') are not supported here. Call run() once for each request.";
            return Err(AiError::new(ErrorCode::BadInput, text));
        }
        let branch = check(&input)?;
        let Value::Object(mut fields) = input else {
            return Err(AiError::invalid_input("Type mismatch of '/', 'object' expected"));
        };
        refuse_unsupported(&fields)?;
        let flag = |key: &str| fields.get(key).and_then(Value::as_bool).unwrap_or(false);
        let (raw, stream) = (flag("raw"), flag("stream"));
        let sampling = SamplingParams::from_fields(&fields);
        let max_tokens = ["max_tokens", "max_completion_tokens"]
            .iter()
            .find_map(|key| validate::integer(fields.get(*key)?))
            .map(|limit| usize::try_from(limit).unwrap_or(usize::MAX));
        let stop = match fields.remove("stop") {
            Some(Value::String(text)) => vec![text],
            Some(Value::Array(texts)) => texts.into_iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
            _ => Vec::new(),
        };
        let mut template_variables = match fields.remove("chat_template_kwargs") {
            Some(Value::Object(variables)) => variables,
            _ => Map::new(),
        };
        if let Some(effort) = fields.remove("reasoning_effort") {
            template_variables.insert("reasoning_effort".into(), effort);
        }
        let prompt = match (branch, fields.remove("prompt"), fields.remove("messages")) {
            (Branch::Messages, _, Some(Value::Array(messages))) => Prompt::Messages(messages.into_iter().map(normalise_message).collect()),
            (_, Some(Value::String(text)), _) if raw => Prompt::Raw(text),
            (_, Some(Value::String(text)), _) => Prompt::Unscoped(text),
            _ => return Err(AiError::invalid_input("the input has neither a 'prompt' nor 'messages'")),
        };
        let stop = stop.into_iter().filter(|text| !text.is_empty()).collect();
        let parallel_tool_calls = fields.get("parallel_tool_calls").and_then(Value::as_bool).unwrap_or(true);
        let tools = tools::tools(&mut fields)?;
        let tool_choice = tools::tool_choice(&mut fields, &tools)?;
        let response_format = tools::response_format(&mut fields)?;
        Ok(Self {
            prompt,
            stream,
            max_tokens,
            sampling,
            stop,
            tools,
            tool_choice,
            parallel_tool_calls,
            response_format,
            template_variables,
        })
    }
}

/// Fields that mean something, but not here: a clear error instead of an answer that ignores them.
fn refuse_unsupported(fields: &Map<String, Value>) -> Result<()> {
    if fields.contains_key("lora") {
        let name = fields["lora"].as_str().unwrap_or_default();
        return Err(AiError::new(
            ErrorCode::LoraUnsupported,
            format!("LoRA adapter '{name}' is not known here. Remove 'lora' from the input."),
        ));
    }
    if fields.contains_key("image") {
        return Err(AiError::invalid_input("'image' needs a model that reads images; this one reads text. Remove 'image' from the input."));
    }
    Ok(())
}

/// The roles of OpenAI's newer models are the older ones; text-part arrays become one string, absent or `null` content becomes empty: what chat templates expect.
fn normalise_message(mut message: Value) -> Value {
    if let Value::Object(fields) = &mut message {
        if fields.get("role").and_then(Value::as_str) == Some("developer") {
            fields.insert("role".into(), "system".into());
        }
        // Templates ask whether there are calls by asking for the key.
        if fields.get("tool_calls").is_some_and(|calls| calls.as_array().is_none_or(Vec::is_empty)) {
            fields.remove("tool_calls");
        }
        let content = match fields.remove("content") {
            Some(Value::String(text)) => text,
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part.as_str().or_else(|| part.get("text")?.as_str())).collect::<Vec<_>>().join("")
            }
            _ => String::new(),
        };
        fields.insert("content".into(), Value::String(content));
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn error_of(input: Value) -> String {
        TextGenerationRequest::from_value(input).expect_err("an error").to_string()
    }

    #[test]
    fn the_documented_messages() {
        assert_eq!(
            error_of(json!({})),
            "5006: oneOf at '/' not met, 0 matches: required properties at '/' are 'prompt', required properties at '/' are 'messages'"
        );
        assert_eq!(error_of(json!({"prompt": "a", "messages": []})), "5006: oneOf at '/' not met, 2 matches");
        let behind = |text: &str| format!("5006: oneOf at '/' not met, 0 matches: {text}");
        assert_eq!(error_of(json!({"prompt": "a", "temperature": 5.1})), behind("'/temperature' must be <= 5"));
        assert_eq!(error_of(json!({"prompt": "a", "top_k": 0})), behind("'/top_k' must be >= 1"));
        assert_eq!(
            error_of(json!({"prompt": "a", "max_tokens": 1.5})),
            behind("Type mismatch of '/max_tokens', 'integer' not in 'number'")
        );
        assert_eq!(error_of(json!({"prompt": "x".repeat(131_073)})), behind("Length of '/prompt' must be <= 131072"));
    }

    #[test]
    fn null_is_absent_and_unknown_keys_are_allowed() {
        let request = TextGenerationRequest::from_value(json!({"prompt": "a", "messages": null, "seed": null, "later": 1})).expect("valid");
        assert_eq!(request.prompt, Prompt::Unscoped("a".into()));
        assert_eq!(request.sampling.seed, None);
        assert_eq!(TextGenerationRequest::from_value(json!({"prompt": "a", "max_tokens": 0})).expect("valid").max_tokens, Some(0));
        assert!(TextGenerationRequest::from_value(json!({"messages": [], "tools": []})).is_ok());
    }

    #[test]
    fn messages_take_text_parts_and_empty_assistant_turns() {
        let request = TextGenerationRequest::from_value(json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null},
        ]}))
        .expect("valid");
        let Prompt::Messages(messages) = request.prompt else { panic!("messages") };
        assert_eq!(messages[0]["content"], "ab");
        assert_eq!(messages[1]["content"], "");
    }

    #[test]
    fn text_that_is_no_unicode_is_an_error() {
        let error = TextGenerationRequest::from_json(r#"{"prompt":"\ud800"}"#).expect_err("a lone surrogate");
        assert_eq!(error.code, ErrorCode::InvalidData);
        assert!(TextGenerationRequest::from_json(&"[".repeat(100_000)).is_err(), "deep nesting");
    }

    #[test]
    fn what_is_not_local_says_so() {
        assert!(error_of(json!({"prompt": "a", "lora": "mine"})).starts_with("5005: "));
        assert!(error_of(json!({"prompt": "a", "image": [1]})).starts_with("5006: 'image'"));
        assert!(error_of(json!({"prompt": "a", "requests": []})).starts_with("3003: "));
    }
}
