//! Input: the JSON of one request → [`TextGenerationRequest`].
//!
//! Contains the published schema with its ranges and the meaning of its fields. JSON arrives through `js` and `http`; messages
//! become a prompt in `prompt`.

mod embeddings;
mod responses;
mod tools;
mod validate;

use crate::error::{AiError, ErrorCode, Result};
use crate::sampling::SamplingParams;
use crate::tools::{Tool, ToolChoice};
pub use embeddings::{EmbeddingRequest, MAX_TEXTS, Pooling};
pub use responses::{as_chat_input, is_for_responses};
use serde_json::{Map, Value};
pub use validate::published_schemas;
use validate::{Branch, check};

/// The text or conversation that the model continues.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A single question without a conversation. It becomes one user turn of the chat template.
    Unscoped(String),
    /// Text that the model continues without a chat template.
    Raw(String),
    /// A conversation. Each message is `{role, content, …}` with a string as content, as chat templates expect it.
    Messages(Vec<Value>),
}

/// The requested form of the answer.
#[derive(Debug, Clone, PartialEq)]
pub enum ResponseFormat {
    Text,
    /// Any JSON object.
    JsonObject,
    /// JSON that matches this schema.
    JsonSchema(Value),
}

/// A validated request for text generation.
#[derive(Debug, Clone, PartialEq)]
pub struct TextGenerationRequest {
    pub prompt: Prompt,
    /// Whether the answer is a stream of server-sent events instead of one object.
    pub stream: bool,
    /// Maximum number of tokens in the answer. `None`: the catalogue's default applies.
    pub max_tokens: Option<usize>,
    pub sampling: SamplingParams,
    /// Stop strings, none of them empty: the answer ends before the first occurrence of any of them.
    pub stop: Vec<String>,
    pub tools: Vec<Tool>,
    pub tool_choice: ToolChoice,
    /// Whether one answer may contain several calls. Default: `true`.
    pub parallel_tool_calls: bool,
    pub response_format: ResponseFormat,
    /// The format is that of `guided_json`: the answer fits the schema, but is text in every shape.
    pub guided: bool,
    /// How many answers are wanted (`n`), 1 to 4.
    pub choices: usize,
    /// Report log probabilities: of each token, and of this number of the likeliest tokens at the same position.
    pub logprobs: Option<usize>,
    /// What the answer probably contains: predicted outputs.
    pub prediction: Option<String>,
    /// How much the model is to think (`reasoning_effort`); "none" for not at all.
    pub effort: Option<String>,
    /// Additional variables for the chat template, from `chat_template_kwargs`.
    pub template_variables: Map<String, Value>,
    /// The LoRA adapter to answer with, by its name or id.
    pub lora: Option<String>,
}

/// The value of an input given as JSON text.
///
/// # Errors
///
/// 5004 for text that is not valid JSON, lone surrogates included.
pub fn parse(text: &str) -> Result<Value> {
    serde_json::from_str(text)
        .map_err(|error| AiError::invalid_data(format!("Invalid data: the input is not valid JSON, or not valid Unicode: {error}")))
}

impl TextGenerationRequest {
    /// Parses and validates a request given as JSON text.
    ///
    /// # Errors
    ///
    /// Those of [`parse`] and [`Self::from_value`].
    pub fn from_json(text: &str) -> Result<Self> {
        Self::from_value(parse(text)?)
    }

    /// Parses and validates a request. `null` counts as absent; unknown keys are ignored.
    ///
    /// # Errors
    ///
    /// 5006 for input that does not match the schema and for `image`, 3003 for a batch (`requests`).
    pub fn from_value(mut input: Value) -> Result<Self> {
        if let Value::Object(fields) = &mut input {
            // The one field in which `null` does not count as absent.
            if fields.get("reasoning_effort").is_some_and(Value::is_null) {
                fields.insert("reasoning_effort".into(), "none".into());
            }
            fields.retain(|_, value| !value.is_null());
        }
        refuse_batch(&input)?;
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
        let effort = fields.get("reasoning_effort").and_then(Value::as_str).map(str::to_owned);
        let count = |key: &str| fields.get(key).and_then(validate::integer).and_then(|count| usize::try_from(count).ok());
        let choices = count("n").unwrap_or(1);
        let logprobs = flag("logprobs").then(|| count("top_logprobs").unwrap_or(0));
        let prediction = fields.get("prediction").and_then(|prediction| prediction.get("content")).map(text_of);
        let stop = stop_strings(&mut fields)?;
        let template_variables = match fields.remove("chat_template_kwargs") {
            Some(Value::Object(variables)) => variables,
            _ => Map::new(),
        };
        let prompt = match (branch, fields.remove("prompt"), fields.remove("messages")) {
            (Branch::Messages, _, Some(Value::Array(messages))) if messages.len() > MAX_MESSAGES => {
                return Err(AiError::invalid_input(format!(
                    "'/messages' has {} entries, at most {MAX_MESSAGES} are allowed",
                    messages.len()
                )));
            }
            (Branch::Messages, _, Some(Value::Array(messages))) => Prompt::Messages(messages.into_iter().map(normalise_message).collect()),
            (_, Some(Value::String(text)), _) if raw => Prompt::Raw(text),
            (_, Some(Value::String(text)), _) => Prompt::Unscoped(text),
            _ => return Err(AiError::invalid_input("the input has neither a 'prompt' nor 'messages'")),
        };
        let lora = fields.get("lora").and_then(Value::as_str).map(str::to_owned);
        let parallel_tool_calls = fields.get("parallel_tool_calls").and_then(Value::as_bool).unwrap_or(true);
        let mut tools = tools::tools(&mut fields)?;
        let tool_choice = tools::tool_choice(&mut fields, &mut tools)?;
        let guided = !fields.contains_key("response_format") && fields.contains_key("guided_json");
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
            guided,
            choices,
            logprobs,
            prediction,
            effort,
            template_variables,
            lora,
        })
    }

    /// Writes the effort of reasoning into the template's variables, unless these say something themselves. `of_model`: the model's name for an
    /// effort.
    pub fn settle_effort<'a>(&'a mut self, of_model: impl FnOnce(&'a str) -> &'a str) {
        let variables = &mut self.template_variables;
        let mut set = |name: &str, value: Value| {
            variables.entry(name).or_insert(value);
        };
        match self.effort.as_deref().map(of_model) {
            // Templates have a name of their own for this, or another one.
            Some("none") => ["enable_thinking", "thinking"].iter().for_each(|name| set(name, false.into())),
            Some(effort) => set("reasoning_effort", effort.into()),
            None => {}
        }
        for (name, other) in [("enable_thinking", "thinking"), ("thinking", "enable_thinking")] {
            if let Some(value) = variables.get(name).cloned() {
                variables.entry(other).or_insert(value);
            }
        }
    }
}

/// Maximum number of messages of a request: more than any context window holds.
const MAX_MESSAGES: usize = 10_000;
/// Maximum number of stop strings of a request.
const MAX_STOPS: usize = 16;
/// Maximum length of a stop string, in bytes. The end of an answer is held back while it may be the start of one.
const MAX_STOP_BYTES: usize = 1_000;

/// Removes `stop` and returns its strings, without empty ones.
fn stop_strings(fields: &mut Map<String, Value>) -> Result<Vec<String>> {
    let stop: Vec<String> = match fields.remove("stop") {
        Some(Value::String(text)) => vec![text],
        Some(Value::Array(texts)) if texts.len() > MAX_STOPS => {
            return Err(AiError::invalid_input(format!("'/stop' has {} entries, at most {MAX_STOPS} are allowed", texts.len())));
        }
        Some(Value::Array(texts)) => texts.into_iter().filter_map(|text| text.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    };
    if stop.iter().any(|text| text.len() > MAX_STOP_BYTES) {
        return Err(AiError::invalid_input(format!("a string in '/stop' is longer than {MAX_STOP_BYTES} bytes")));
    }
    Ok(stop.into_iter().filter(|text| !text.is_empty()).collect())
}

/// Rejects a batch, which is queued and does not come here.
///
/// # Errors
///
/// 3003 for a batch that is to be answered at once, 5006 for `requests` that are no list.
fn refuse_batch(input: &Value) -> Result<()> {
    match input.get("requests") {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(_)) => {
            Err(AiError::new(ErrorCode::BadInput, "'requests' is a batch, which is queued: set queueRequest to true."))
        }
        Some(other) => {
            Err(AiError::invalid_input(format!("Type mismatch of '/requests', 'array' not in '{}'", validate::type_name(other))))
        }
    }
}

/// Rejects the schema's fields that are not supported here, so that an answer never silently ignores them.
fn refuse_unsupported(fields: &Map<String, Value>) -> Result<()> {
    if fields.contains_key("image") {
        return Err(AiError::invalid_input("'image' needs a model that reads images; this one reads text. Remove 'image' from the input."));
    }
    Ok(())
}

/// Names of what the model thought in an assistant's turn.
const THOUGHTS: [&str; 3] = ["reasoning_content", "reasoning", "thinking"];

/// What the model reads of a part of a message's content, with its key: the part's text, or the refusal of an assistant's turn.
fn read_in(part: &Value) -> Option<(&'static str, &Value)> {
    ["text", "refusal"].into_iter().find_map(|key| Some((key, part.get(key)?)))
}

/// The text of a message's content: a text, a part that has a text or a refusal, or a list of such parts.
fn text_of(content: &Value) -> String {
    let of_part = |part: &Value| part.as_str().or_else(|| read_in(part)?.1.as_str()).map(str::to_owned);
    match content {
        Value::Array(parts) => parts.iter().filter_map(of_part).collect(),
        part => of_part(part).unwrap_or_default(),
    }
}

/// Brings a message to the form that chat templates expect: the role `developer` (OpenAI's newer models) becomes `system`, an array of
/// text parts becomes one string, and absent or `null` content becomes an assistant's `refusal`, or an empty string.
fn normalise_message(mut message: Value) -> Value {
    if let Value::Object(fields) = &mut message {
        if fields.get("role").and_then(Value::as_str) == Some("developer") {
            fields.insert("role".into(), "system".into());
        }
        // Templates test only whether the key exists, so an empty list of calls is removed.
        if fields.get("tool_calls").is_some_and(|calls| calls.as_array().is_none_or(Vec::is_empty)) {
            fields.remove("tool_calls");
        }
        let refusal = fields.remove("refusal").unwrap_or_default();
        let content = fields.remove("content").filter(|content| !content.is_null()).unwrap_or(refusal);
        let content = text_of(&content);
        fields.insert("content".into(), Value::String(content));
        // What the model thought in an earlier turn, under every name that templates read. They decide whether it is shown again.
        let thought = THOUGHTS.iter().find_map(|name| fields.get(*name)?.as_str()).map(str::to_owned);
        for name in THOUGHTS {
            match &thought {
                Some(thought) => fields.insert(name.into(), thought.as_str().into()),
                None => fields.remove(name),
            };
        }
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
        let not_met = |text: &str| format!("5006: oneOf at '/' not met, 0 matches: {text}");
        assert_eq!(error_of(json!({"prompt": "a", "temperature": 5.1})), not_met("'/temperature' must be <= 5"));
        assert_eq!(error_of(json!({"prompt": "a", "top_k": 0})), not_met("'/top_k' must be >= 1"));
        assert_eq!(
            error_of(json!({"prompt": "a", "max_tokens": 1.5})),
            not_met("Type mismatch of '/max_tokens', 'integer' not in 'number'")
        );
        assert_eq!(error_of(json!({"prompt": "x".repeat(131_073)})), not_met("Length of '/prompt' must be <= 131072"));
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
    fn messages_accept_text_parts_and_empty_assistant_turns() {
        let request = TextGenerationRequest::from_value(json!({"messages": [
            {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
            {"role": "assistant", "content": null},
        ]}))
        .expect("valid");
        let Prompt::Messages(messages) = request.prompt else { panic!("messages") };
        assert_eq!(messages[0]["content"], "ab");
        assert_eq!(messages[1]["content"], "");
        let one_part = json!({"messages": [{"role": "user", "content": {"type": "text", "text": "a"}}]});
        let request = TextGenerationRequest::from_value(one_part).expect("valid");
        assert!(matches!(request.prompt, Prompt::Messages(messages) if messages[0]["content"] == "a"));
        let refusals = json!({"messages": [
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "No."}]},
            {"role": "assistant", "content": null, "refusal": "Never."},
            {"role": "assistant", "content": "Yes.", "refusal": null},
        ]});
        let Prompt::Messages(messages) = TextGenerationRequest::from_value(refusals).expect("valid").prompt else { panic!("messages") };
        assert_eq!(
            messages,
            ["No.", "Never.", "Yes."].map(|text| json!({"role": "assistant", "content": text})),
            "a template sees the text alone"
        );
        let wrong = |content: Value| error_of(json!({"messages": [{"role": "user", "content": content}]}));
        assert!(wrong(json!({"type": "text"})).ends_with("required properties at '/messages/0/content' are 'text'"));
        assert!(wrong(json!({"type": "image_url"})).ends_with("'/messages/0/content' is an image, and this model reads text only"));
        assert!(wrong(json!(5)).ends_with("Type mismatch of '/messages/0/content', 'string' not in 'integer'"));
        assert!(wrong(json!([5])).ends_with("Type mismatch of '/messages/0/content/0', 'string' not in 'integer'"));
    }

    #[test]
    fn functions_need_a_name_and_guided_json_is_an_object() {
        let functions = |function: Value| error_of(json!({"messages": [], "functions": [function]}));
        assert!(functions(json!({"code": "a"})).ends_with("required properties at '/functions/0' are 'name,code'"));
        assert!(functions(json!({"description": "a"})).ends_with("required properties at '/functions/0' are 'name'"));
        assert!(
            error_of(json!({"prompt": "a", "guided_json": "{}"})).ends_with("Type mismatch of '/guided_json', 'object' not in 'string'")
        );
    }

    #[test]
    fn lone_surrogates_and_deep_nesting_are_errors() {
        let error = TextGenerationRequest::from_json(r#"{"prompt":"\ud800"}"#).expect_err("a lone surrogate");
        assert_eq!(error.code, ErrorCode::InvalidData);
        assert!(TextGenerationRequest::from_json(&"[".repeat(100_000)).is_err(), "deep nesting");
    }

    #[test]
    fn unsupported_features_are_rejected() {
        assert!(error_of(json!({"prompt": "a", "image": [1]})).starts_with("5006: 'image'"));
        assert!(error_of(json!({"prompt": "a", "requests": []})).starts_with("3003: "));
    }
}
