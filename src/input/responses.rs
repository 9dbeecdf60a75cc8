//! The input of OpenAI's Responses API → the same request as for a chat completion.

use super::{read_in, text_of};
use crate::error::{AiError, Result};
use serde_json::{Map, Value, json};

/// Fields with the same meaning in both, and those that only have another name.
const SAME: [&str; 11] = [
    "stream",
    "temperature",
    "top_p",
    "top_logprobs",
    "parallel_tool_calls",
    "tools",
    "seed",
    "stop",
    "user",
    "lora",
    "chat_template_kwargs",
];
const RENAMED: [(&str, &str); 1] = [("max_output_tokens", "max_completion_tokens")];
/// Fields that need the memory of a service, and what to do instead.
const REFUSED: [(&str, &str); 4] = [
    ("previous_response_id", "No responses are kept here: send the earlier turns in 'input'."),
    ("conversation", "No conversations are kept here: send the earlier turns in 'input'."),
    ("prompt", "No prompts are kept here: send the text in 'instructions' and 'input'."),
    ("background", "Responses are computed while they are awaited: leave 'background' out."),
];

/// Whether an input is one of the Responses API, for models that take both.
pub fn is_for_responses(input: &Value) -> bool {
    let has = |key: &str| input.get(key).is_some_and(|value| !value.is_null());
    // An object as `prompt` names a stored one of the Responses API.
    has("input") && !has("messages") && !input.get("prompt").is_some_and(Value::is_string)
}

/// The JSON Schema of such an input.
pub fn schema() -> Value {
    let text = || json!({"type": "string"});
    let mut properties = json!({
        "input": {"type": ["string", "array"], "items": {"type": "object"}},
        "instructions": text(),
        "max_output_tokens": {"type": "integer", "minimum": 0},
        "reasoning": {"type": "object", "properties": {"effort": {"type": ["string", "null"]}, "summary": {"type": ["string", "null"]}}},
        "text": {"type": "object", "properties": {"format": {"type": "object"}}},
        "tool_choice": {"type": ["string", "object"]},
        "include": {"type": "array", "items": text()},
    });
    for key in SAME {
        properties[key] = json!({});
    }
    json!({"title": "Responses", "properties": properties, "required": ["input"]})
}

/// The input of a chat completion for an input of the Responses API.
///
/// # Errors
///
/// 5006 for an input that does not fit, and for what needs the memory of a service.
pub fn as_chat_input(input: &Value) -> Result<Value> {
    let given = |key: &str| input.get(key).filter(|value| !value.is_null());
    for (key, advice) in REFUSED {
        if given(key).is_some_and(|value| *value != Value::Bool(false)) {
            return Err(AiError::invalid_input(format!("'/{key}' is not supported. {advice}")));
        }
    }
    let mut fields = Map::new();
    for key in SAME {
        fields.extend(given(key).map(|value| (key.to_owned(), value.clone())));
    }
    for (key, name) in RENAMED {
        fields.extend(given(key).map(|value| (name.to_owned(), value.clone())));
    }
    // Unlike `reasoning_effort`, `null` stands for the model's own.
    if let Some(effort) = given("reasoning").and_then(|reasoning| reasoning.get("effort")).filter(|effort| !effort.is_null()) {
        fields.insert("reasoning_effort".into(), effort.clone());
    }
    if given("include").and_then(Value::as_array).is_some_and(|listed| listed.iter().any(|name| name == "message.output_text.logprobs")) {
        fields.insert("logprobs".into(), true.into());
    }
    fields.extend(given("tool_choice").map(|choice| ("tool_choice".to_owned(), tool_choice(choice))));
    if let Some(format) = given("text").and_then(|text| text.get("format")).filter(|format| !format.is_null()) {
        fields.insert("response_format".into(), response_format(format));
    }
    fields.insert("messages".into(), Value::Array(messages(given("instructions"), given("input"))?));
    Ok(Value::Object(fields))
}

/// `{type: "function", name}` → `{type: "function", function: {name}}`.
fn tool_choice(choice: &Value) -> Value {
    match choice.get("name") {
        Some(name) => json!({"type": "function", "function": {"name": name}}),
        None => choice.clone(),
    }
}

/// `{type: "json_schema", name, schema, strict}` → `{type: "json_schema", json_schema: {name, schema, strict}}`.
fn response_format(format: &Value) -> Value {
    match format.get("schema") {
        Some(schema) => {
            json!({"type": "json_schema", "json_schema": {"name": format["name"], "schema": schema, "strict": format["strict"]}})
        }
        None => format.clone(),
    }
}

fn messages(instructions: Option<&Value>, input: Option<&Value>) -> Result<Vec<Value>> {
    let mut messages = Messages::default();
    match instructions {
        None => {}
        Some(Value::String(text)) => messages.list.push(json!({"role": "system", "content": text})),
        Some(_) => return Err(AiError::invalid_input("Type mismatch of '/instructions', 'string' expected")),
    }
    match input {
        Some(Value::String(text)) => messages.list.push(json!({"role": "user", "content": text})),
        Some(Value::Array(items)) => {
            for (index, item) in items.iter().enumerate() {
                messages.add(item, &format!("/input/{index}"))?;
            }
        }
        Some(_) => return Err(AiError::invalid_input("Type mismatch of '/input', 'string' or 'array' expected")),
        None => return Err(AiError::invalid_input("required properties at '/' are 'input'")),
    }
    Ok(messages.list)
}

/// Messages that are made of items.
#[derive(Default)]
struct Messages {
    list: Vec<Value>,
    /// What the model thought before its next message or call.
    thought: Option<String>,
}

impl Messages {
    fn add(&mut self, item: &Value, path: &str) -> Result<()> {
        let kind = item.get("type").and_then(Value::as_str).unwrap_or("message");
        match kind {
            "message" => {
                let Some(role) = item.get("role").and_then(Value::as_str) else {
                    return Err(AiError::invalid_input(format!("required properties at '{path}' are 'role,content'")));
                };
                let content = item.get("content").map(|content| as_parts(content, path)).transpose()?.unwrap_or_default();
                let mut message = json!({"role": role, "content": content});
                if role == "assistant" {
                    self.take_thought(&mut message);
                }
                self.list.push(message);
            }
            "function_call" => {
                let call = json!({
                    "id": item["call_id"],
                    "type": "function",
                    "function": {"name": item["name"], "arguments": item["arguments"]},
                });
                // Calls of one turn follow each other, or the text of that turn.
                if self.list.last().is_none_or(|last| last["role"] != "assistant") || self.thought.is_some() {
                    let mut message = json!({"role": "assistant", "content": ""});
                    self.take_thought(&mut message);
                    self.list.push(message);
                }
                if let Some(Value::Object(last)) = self.list.last_mut()
                    && let Value::Array(calls) = last.entry("tool_calls").or_insert_with(|| json!([]))
                {
                    calls.push(call);
                }
            }
            "function_call_output" => {
                let output = item.get("output").map(|output| as_parts(output, path)).transpose()?.unwrap_or_default();
                self.list.push(json!({"role": "tool", "tool_call_id": item["call_id"], "content": output}));
            }
            "reasoning" => {
                let text = ["content", "summary"].iter().filter_map(|key| item.get(*key)).map(text_of).find(|text| !text.is_empty());
                self.thought = text.or(self.thought.take());
            }
            other => {
                return Err(AiError::invalid_input(format!(
                    "'{path}' is of the type '{other}', which is not supported here. Send messages, function calls and their outputs."
                )));
            }
        }
        Ok(())
    }

    fn take_thought(&mut self, message: &mut Value) {
        if let Some(thought) = self.thought.take() {
            message["reasoning_content"] = thought.into();
        }
    }
}

/// A text, or the texts of parts.
fn as_parts(content: &Value, path: &str) -> Result<Value> {
    let Value::Array(parts) = content else { return Ok(content.clone()) };
    let mut texts = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        match read_in(part) {
            Some((_, text)) => texts.push(json!({"type": "text", "text": text})),
            None => {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or("nothing known");
                return Err(AiError::invalid_input(format!(
                    "'{path}/content/{index}' is of the type '{kind}', and this model reads text only"
                )));
            }
        }
    }
    Ok(Value::Array(texts))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Prompt, ResponseFormat, TextGenerationRequest};
    use crate::tools::ToolChoice;

    fn messages_of(input: Value) -> Value {
        as_chat_input(&input).expect("valid")["messages"].clone()
    }

    #[test]
    fn items_become_turns() {
        assert_eq!(messages_of(json!({"input": "Hi"})), json!([{"role": "user", "content": "Hi"}]));
        let items = json!([
            {"role": "user", "content": [{"type": "input_text", "text": "Hi"}]},
            {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
            {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Well"}]},
            {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
            {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c1", "output": "1"},
            {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "2"}]},
        ]);
        let messages = messages_of(json!({"instructions": "Be brief.", "input": items}));
        let roles: Vec<&str> = messages.as_array().expect("a list").iter().filter_map(|message| message["role"].as_str()).collect();
        assert_eq!(roles, ["system", "user", "assistant", "tool", "tool"]);
        assert_eq!(messages[2]["reasoning_content"], "Hm.");
        assert_eq!(messages[2]["tool_calls"].as_array().map(Vec::len), Some(2));
        assert_eq!(messages[4]["tool_call_id"], "c2");
    }

    #[test]
    fn fields_become_those_of_a_chat_completion() {
        let input = as_chat_input(&json!({
            "input": "Hi",
            "max_output_tokens": 9,
            "reasoning": {"effort": "low"},
            "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": true}},
            "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": true}],
            "tool_choice": {"type": "function", "name": "f"},
            "include": ["message.output_text.logprobs"],
            "previous_response_id": null,
        }));
        let request = TextGenerationRequest::from_value(input.expect("valid")).expect("valid");
        assert_eq!((request.max_tokens, request.effort.as_deref(), request.logprobs), (Some(9), Some("low"), Some(0)));
        assert_eq!(request.tool_choice, ToolChoice::Function("f".into()));
        assert!(matches!(request.response_format, ResponseFormat::JsonSchema(_)));
        assert!(matches!(request.prompt, Prompt::Messages(messages) if messages.len() == 1));
    }

    #[test]
    fn null_as_effort_is_the_models_own() {
        // As our own responses repeat it.
        let input = as_chat_input(&json!({"input": "Hi", "reasoning": {"effort": null, "summary": null}})).expect("valid");
        assert_eq!(TextGenerationRequest::from_value(input).expect("valid").effort, None);
    }

    #[test]
    fn a_stored_prompt_is_one_of_the_responses_api() {
        let input = json!({"input": "a", "prompt": {"id": "pmpt_1"}});
        assert!(is_for_responses(&input));
        assert!(as_chat_input(&input).expect_err("an error").to_string().contains("send the text in 'instructions' and 'input'"));
        assert!(!is_for_responses(&json!({"input": "a", "prompt": "b"})));
    }

    #[test]
    fn what_needs_a_service_is_refused() {
        let error = |input: Value| as_chat_input(&input).expect_err("an error").to_string();
        assert!(error(json!({"input": "a", "previous_response_id": "resp_1"})).contains("send the earlier turns in 'input'"));
        assert!(error(json!({"input": "a", "background": true})).starts_with("5006: '/background'"));
        assert!(error(json!({})).starts_with("5006: required properties at '/' are 'input'"));
        assert!(error(json!({"input": [{"type": "item_reference", "id": "1"}]})).contains("'item_reference'"));
        assert!(error(json!({"input": [{"role": "user", "content": [{"type": "input_image"}]}]})).contains("reads text only"));
        assert!(error(json!({"input": 5})).contains("/input"));
    }
}
