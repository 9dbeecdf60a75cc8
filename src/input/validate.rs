//! The published input schema: validation with the messages of the live service's validator (`@cloudflare/cabidela`), and the
//! schema itself for the models API.

use super::{read_in, responses};
use crate::catalog::Shape;
use crate::error::{AiError, Result};
use serde_json::{Map, Value, json};

/// The alternative of the schema's top-level `oneOf` that an input matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Branch {
    Prompt,
    Messages,
}

/// Maximum length of a prompt or of a message's content, in UTF-16 code units (JavaScript's `length`).
const MAX_TEXT: usize = 131_072;

/// Type and inclusive range of a scalar field.
enum Rule {
    Boolean,
    Number(f64, f64),
    Integer(f64, f64),
}

/// `Err` holds the reason, without the prefix that [`not_met`] adds.
type Outcome = std::result::Result<(), String>;

/// The scalar fields. Where the published schemas disagree on a range, this is the union of the ranges.
const FIELDS: &[(&str, Rule)] = &[
    ("raw", Rule::Boolean),
    ("stream", Rule::Boolean),
    ("max_tokens", Rule::Integer(0.0, f64::INFINITY)),
    ("max_completion_tokens", Rule::Integer(0.0, f64::INFINITY)),
    ("temperature", Rule::Number(0.0, 5.0)),
    ("top_p", Rule::Number(0.0, 2.0)),
    ("top_k", Rule::Integer(1.0, 50.0)),
    ("seed", Rule::Integer(1.0, 9_999_999_999.0)),
    ("repetition_penalty", Rule::Number(0.0, 2.0)),
    ("frequency_penalty", Rule::Number(-2.0, 2.0)),
    ("presence_penalty", Rule::Number(-2.0, 2.0)),
    ("parallel_tool_calls", Rule::Boolean),
];

/// The scalar fields that only chat completions have.
const CHAT_FIELDS: &[(&str, Rule)] =
    &[("n", Rule::Integer(1.0, MAX_CHOICES)), ("logprobs", Rule::Boolean), ("top_logprobs", Rule::Integer(0.0, 20.0))];

/// The most choices (`n`) of a request: they are computed in one batch.
const MAX_CHOICES: f64 = 4.0;
/// Range of the biases in `logit_bias`, and the most entries.
const BIASES: std::ops::RangeInclusive<f64> = -100.0..=100.0;
const MAX_BIASES: usize = 1024;

/// The JSON Schemas of input and output, `{"input": …, "output": …}`, as the models API returns them.
pub fn published_schemas(shape: Shape) -> Value {
    let chat = shape.is_chat();
    let text = || json!({"type": "string", "maxLength": MAX_TEXT});
    let listed = FIELDS.iter().chain(CHAT_FIELDS.iter().filter(|_| chat));
    let plain = listed.map(|(key, rule)| {
        let schema = match rule {
            Rule::Boolean => json!({"type": "boolean"}),
            Rule::Number(low, high) => json!({"type": "number", "minimum": low, "maximum": high}),
            Rule::Integer(low, high) if high.is_finite() => json!({"type": "integer", "minimum": *low as u64, "maximum": *high as u64}),
            Rule::Integer(low, _) => json!({"type": "integer", "minimum": *low as u64}),
        };
        ((*key).to_owned(), schema)
    });
    let strings = || json!({"type": ["string", "array"], "items": {"type": "string"}});
    let mut common: Map<String, Value> = plain.collect();
    let further = [
        ("lora", json!({"type": "string"})),
        ("stop", strings()),
        ("response_format", json!({"type": "object", "properties": {"type": {"type": "string"}, "json_schema": {}}})),
        ("guided_json", json!({"type": "object"})),
        ("tool_choice", json!({"type": ["string", "object"]})),
        ("chat_template_kwargs", json!({"type": "object"})),
        ("reasoning_effort", json!({"type": ["string", "null"]})),
    ];
    let of_chat = [
        (
            "logit_bias",
            json!({"type": "object", "additionalProperties": {"type": "number", "minimum": BIASES.start(), "maximum": BIASES.end()}}),
        ),
        ("prediction", json!({"type": "object", "properties": {"type": {"type": "string"}, "content": strings()}})),
    ];
    common.extend(further.into_iter().chain(of_chat.into_iter().filter(|_| chat)).map(|(key, schema)| (key.to_owned(), schema)));
    let branch = |title: &str, own: Value| {
        let mut properties = own;
        if let Value::Object(properties) = &mut properties {
            properties.extend(common.clone());
        }
        json!({"title": title, "properties": properties, "required": [title.to_lowercase()]})
    };
    let part = json!({
        "type": "object",
        "properties": {"type": {"type": "string"}, "text": text(), "refusal": text()},
        "anyOf": [{"required": ["text"]}, {"required": ["refusal"]}],
    });
    let content = json!({"anyOf": [text(), part, {"type": "array", "items": {"anyOf": [text(), part]}}, {"type": "null"}]});
    let message = json!({"type": "object", "properties": {"role": {"type": "string"}, "content": content}, "required": ["role"]});
    let function = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "description": {"type": "string"}, "parameters": {"type": "object"}},
        "required": ["name"],
    });
    let tool = json!({"type": "object", "oneOf": [
        function,
        {"properties": {"type": {"type": "string"}, "function": function}, "required": ["type", "function"]},
    ]});
    let named_code = json!({
        "type": "object",
        "properties": {"name": {"type": "string"}, "code": {"type": "string"}},
        "required": ["name"],
    });
    let mut inputs = vec![
        branch("Prompt", json!({"prompt": {"type": "string", "minLength": 1, "maxLength": MAX_TEXT}})),
        branch(
            "Messages",
            json!({
                "messages": {"type": "array", "items": message},
                "functions": {"type": "array", "items": named_code},
                "tools": {"type": "array", "items": tool},
            }),
        ),
    ];
    let mut outputs = vec![if chat { chat_completion() } else { response() }];
    if shape == Shape::ChatOrText {
        outputs.push(text_completion());
    }
    if shape == Shape::ChatOrResponses {
        inputs.push(responses::schema());
        outputs.push(json!({
            "type": "object",
            "contentType": "application/json",
            "properties": {"id": {"type": "string"}, "object": {"const": "response"}, "output": {"type": "array"}, "usage": {"type": ["object", "null"]}},
            "required": ["id", "object", "output"],
        }));
    }
    outputs.push(json!({"type": "string", "contentType": "text/event-stream", "format": "binary"}));
    json!({"input": {"type": "object", "oneOf": inputs}, "output": {"oneOf": outputs}})
}

fn response() -> Value {
    let call = json!({"type": "object", "properties": {"arguments": {}, "name": {"type": "string"}}});
    json!({
        "type": "object",
        "contentType": "application/json",
        "properties": {
            // Text; in JSON mode the value itself; null beside calls.
            "response": {},
            "tool_calls": {"type": "array", "items": call},
            "usage": {"type": "object"},
        },
        "required": ["response"],
    })
}

fn text_completion() -> Value {
    let choice = json!({
        "type": "object",
        "properties": {"index": {"type": "integer"}, "text": {"type": "string"}, "finish_reason": {"type": ["string", "null"]}},
        "required": ["index", "text", "finish_reason"],
    });
    json!({
        "type": "object",
        "contentType": "application/json",
        "properties": {"id": {"type": "string"}, "object": {"const": "text_completion"}, "choices": {"type": "array", "items": choice}},
        "required": ["id", "object", "choices"],
    })
}

fn chat_completion() -> Value {
    let text = || json!({"type": ["string", "null"]});
    let message = json!({
        "type": "object",
        "properties": {"role": {"type": "string"}, "content": text(), "reasoning_content": text(), "tool_calls": {"type": "array"}},
        "required": ["role", "content"],
    });
    let choice = json!({
        "type": "object",
        "properties": {"index": {"type": "integer"}, "message": message, "logprobs": {"type": ["object", "null"]}, "finish_reason": text()},
        "required": ["index", "message", "finish_reason"],
    });
    json!({
        "type": "object",
        "contentType": "application/json",
        "properties": {
            "id": {"type": "string"},
            "object": {"const": "chat.completion"},
            "created": {"type": "integer"},
            "model": {"type": "string"},
            "choices": {"type": "array", "items": choice},
            "usage": {"type": "object"},
        },
        "required": ["id", "object", "created", "model", "choices"],
    })
}

/// Validates an input whose `null` fields have been removed and returns the alternative that it matches.
///
/// # Errors
///
/// 5006 with the text of the live service's validator.
pub fn check(input: &Value) -> Result<Branch> {
    let Value::Object(fields) = input else {
        return Err(AiError::invalid_input(format!("Type mismatch of '/', 'object' not in '{}'", type_name(input))));
    };
    let branch = match (fields.contains_key("prompt"), fields.contains_key("messages")) {
        (true, true) => return Err(AiError::invalid_input("oneOf at '/' not met, 2 matches")),
        (false, false) => {
            return Err(not_met("required properties at '/' are 'prompt', required properties at '/' are 'messages'".into()));
        }
        (true, false) => Branch::Prompt,
        (false, true) => Branch::Messages,
    };
    let outcome = match branch {
        Branch::Prompt => check_prompt(&fields["prompt"]),
        Branch::Messages => check_messages(&fields["messages"]),
    };
    outcome.and_then(|()| check_fields(fields)).map_err(not_met)?;
    Ok(branch)
}

/// The value of a non-negative integer field. JSON has only one number type, so `2.0` is an integer.
pub fn integer(value: &Value) -> Option<u64> {
    value.as_u64().or_else(|| value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0).map(|number| number as u64))
}

fn not_met(reason: String) -> AiError {
    AiError::invalid_input(format!("oneOf at '/' not met, 0 matches: {reason}"))
}

pub fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn mismatch(path: &str, wanted: &str, value: &Value) -> String {
    format!("Type mismatch of '{path}', '{wanted}' not in '{}'", type_name(value))
}

fn check_text(path: &str, value: &Value) -> Outcome {
    let Value::String(text) = value else { return Err(mismatch(path, "string", value)) };
    // A UTF-16 code unit needs at least one byte of UTF-8, so most texts pass without counting.
    if text.len() > MAX_TEXT && text.encode_utf16().count() > MAX_TEXT {
        return Err(format!("Length of '{path}' must be <= {MAX_TEXT}"));
    }
    Ok(())
}

fn check_prompt(value: &Value) -> Outcome {
    check_text("/prompt", value)?;
    if value.as_str() == Some("") {
        return Err("Length of '/prompt' must be >= 1".into());
    }
    Ok(())
}

fn check_messages(value: &Value) -> Outcome {
    let Value::Array(messages) = value else { return Err(mismatch("/messages", "array", value)) };
    for (index, message) in messages.iter().enumerate() {
        let path = format!("/messages/{index}");
        let Value::Object(fields) = message else { return Err(mismatch(&path, "object", message)) };
        let Some(role) = fields.get("role") else { return Err(format!("required properties at '{path}' are 'role,content'")) };
        if !role.is_string() {
            return Err(mismatch(&format!("{path}/role"), "string", role));
        }
        let content_path = format!("{path}/content");
        match fields.get("content") {
            // Clients omit the content of assistant turns that only have tool calls.
            None | Some(Value::Null) if role.as_str() == Some("assistant") => {}
            None => return Err(format!("required properties at '{path}' are 'role,content'")),
            Some(Value::Array(parts)) => {
                for (part_index, part) in parts.iter().enumerate() {
                    check_part(&format!("{content_path}/{part_index}"), part)?;
                }
            }
            Some(content) => check_part(&content_path, content)?,
        }
    }
    Ok(())
}

/// Checks a text, `{type: "text", text}` or `{type: "refusal", refusal}`, which is a part of an assistant's turn.
fn check_part(path: &str, part: &Value) -> Outcome {
    match read_in(part) {
        Some((key, text)) => check_text(&format!("{path}/{key}"), text),
        None if part.get("type").and_then(Value::as_str).is_some_and(|kind| kind.contains("image")) => {
            Err(format!("'{path}' is an image, and this model reads text only"))
        }
        None if part.is_object() => Err(format!("required properties at '{path}' are 'text'")),
        None => check_text(path, part),
    }
}

fn check_fields(fields: &Map<String, Value>) -> Outcome {
    for (key, rule) in FIELDS.iter().chain(CHAT_FIELDS) {
        let Some(value) = fields.get(*key) else { continue };
        let path = format!("/{key}");
        let (low, high) = match rule {
            Rule::Boolean if value.is_boolean() => continue,
            Rule::Boolean => return Err(mismatch(&path, "boolean", value)),
            Rule::Number(..) if !value.is_number() => return Err(mismatch(&path, "number", value)),
            Rule::Integer(..) if type_name(value) != "integer" => return Err(mismatch(&path, "integer", value)),
            Rule::Number(low, high) | Rule::Integer(low, high) => (*low, *high),
        };
        let number = value.as_f64().unwrap_or(f64::NAN);
        if number < low {
            return Err(format!("'{path}' must be >= {low}"));
        }
        if number.is_nan() || number > high {
            return Err(format!("'{path}' must be <= {high}"));
        }
    }
    match fields.get("stop") {
        None | Some(Value::String(_)) => {}
        Some(Value::Array(texts)) => {
            if let Some(index) = texts.iter().position(|text| !text.is_string()) {
                return Err(mismatch(&format!("/stop/{index}"), "string", &texts[index]));
            }
        }
        Some(other) => return Err(mismatch("/stop", "string", other)),
    }
    check_biases(fields)?;
    check_list(fields, "tools", check_tool)?;
    check_list(fields, "functions", check_function)?;
    for key in ["response_format", "guided_json"] {
        match fields.get(key) {
            Some(value) if !value.is_object() => return Err(mismatch(&format!("/{key}"), "object", value)),
            _ => {}
        }
    }
    Ok(())
}

/// Checks `logit_bias`: tokens as decimal numbers, with their biases.
fn check_biases(fields: &Map<String, Value>) -> Outcome {
    let Some(value) = fields.get("logit_bias") else { return Ok(()) };
    let Value::Object(entries) = value else { return Err(mismatch("/logit_bias", "object", value)) };
    if entries.len() > MAX_BIASES {
        return Err(format!("'/logit_bias' has {} entries, at most {MAX_BIASES} are allowed", entries.len()));
    }
    for (token, bias) in entries {
        let path = format!("/logit_bias/{token}");
        if token.parse::<u32>().is_err() {
            return Err(format!("'{path}' is not the number of a token of the model's vocabulary"));
        }
        let Some(number) = bias.as_f64() else { return Err(mismatch(&path, "number", bias)) };
        if !BIASES.contains(&number) {
            return Err(format!("'{path}' must be >= {} and <= {}", BIASES.start(), BIASES.end()));
        }
    }
    Ok(())
}

/// Checks that the field, if present, is an array of objects, and applies `check` to each of them.
fn check_list(fields: &Map<String, Value>, key: &str, check: impl Fn(&str, &Map<String, Value>) -> Outcome) -> Outcome {
    let Some(value) = fields.get(key) else { return Ok(()) };
    let path = format!("/{key}");
    let Value::Array(list) = value else { return Err(mismatch(&path, "array", value)) };
    for (index, entry) in list.iter().enumerate() {
        let path = format!("{path}/{index}");
        let Value::Object(entry) = entry else { return Err(mismatch(&path, "object", entry)) };
        check(&path, entry)?;
    }
    Ok(())
}

/// Accepts `{name, code}`, and OpenAI's older form of a tool, which has no code.
fn check_function(path: &str, function: &Map<String, Value>) -> Outcome {
    if function.contains_key("code") { check_strings(path, function, &["name", "code"]) } else { check_definition(path, function) }
}

/// Accepts a flat tool or OpenAI's `{type, function}`. Description and parameters are optional.
fn check_tool(path: &str, tool: &Map<String, Value>) -> Outcome {
    let (path, function) = match tool.get("function") {
        None => (path.to_owned(), tool),
        Some(Value::Object(function)) => (format!("{path}/function"), function),
        Some(other) => return Err(mismatch(&format!("{path}/function"), "object", other)),
    };
    if !function.contains_key("name") {
        let needed = format!("required properties at '{path}' are 'name,description,parameters'");
        let both = format!("oneOf at '{path}' not met, 0 matches: {needed}, required properties at '{path}' are 'type,function'");
        return Err(if tool.contains_key("function") { needed } else { both });
    }
    check_definition(&path, function)
}

/// Checks the name, the description and the parameters of a tool.
fn check_definition(path: &str, function: &Map<String, Value>) -> Outcome {
    check_strings(path, function, &["name"])?;
    match function.get("description") {
        None | Some(Value::Null | Value::String(_)) => {}
        Some(other) => return Err(mismatch(&format!("{path}/description"), "string", other)),
    }
    match function.get("parameters") {
        None | Some(Value::Null | Value::Object(_)) => Ok(()),
        Some(other) => Err(mismatch(&format!("{path}/parameters"), "object", other)),
    }
}

/// Checks that the object has each of `keys`, with a string as its value.
fn check_strings(path: &str, object: &Map<String, Value>, keys: &[&str]) -> Outcome {
    for key in keys {
        match object.get(*key) {
            Some(Value::String(_)) => {}
            Some(other) => return Err(mismatch(&format!("{path}/{key}"), "string", other)),
            None => return Err(format!("required properties at '{path}' are '{}'", keys.join(","))),
        }
    }
    Ok(())
}
