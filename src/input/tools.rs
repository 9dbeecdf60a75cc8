//! Tools, tool choice and response format of an input.

use crate::error::{AiError, Result};
use crate::input::ResponseFormat;
use crate::tools::{Tool, ToolChoice};
use serde_json::{Map, Value, json};

/// The tools of a validated input, in either shape.
pub fn tools(fields: &mut Map<String, Value>) -> Result<Vec<Tool>> {
    let Some(Value::Array(listed)) = fields.remove("tools") else { return Ok(Vec::new()) };
    let mut tools: Vec<Tool> = Vec::with_capacity(listed.len());
    for (index, listing) in listed.into_iter().enumerate() {
        let Value::Object(mut listing) = listing else { continue };
        let mut function = match listing.remove("function") {
            Some(Value::Object(function)) => function,
            _ => listing,
        };
        let mut text = |key: &str| match function.remove(key) {
            Some(Value::String(text)) => Some(text),
            _ => None,
        };
        let (name, description) = (text("name").unwrap_or_default(), text("description"));
        if tools.iter().any(|tool| tool.name == name) {
            return Err(AiError::invalid_input(format!("'/tools/{index}': there is more than one tool named '{name}'")));
        }
        let parameters = match function.remove("parameters") {
            Some(Value::Object(schema)) if !schema.is_empty() => Value::Object(schema),
            _ => json!({"type": "object", "properties": {}}),
        };
        tools.push(Tool { name, description, parameters });
    }
    Ok(tools)
}

/// Whether the model may or must call one of `tools`.
pub fn tool_choice(fields: &mut Map<String, Value>, tools: &[Tool]) -> Result<ToolChoice> {
    let unusable = |reason: &str| Err(AiError::invalid_input(format!("'/tool_choice' {reason}")));
    let choice = match fields.remove("tool_choice") {
        None => ToolChoice::Auto,
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            // An older word of the same meaning that clients send.
            "required" | "any" => ToolChoice::Required,
            _ => return unusable("must be 'auto', 'none', 'required' or {type: 'function', function: {name}}"),
        },
        Some(choice) => match choice.get("function").unwrap_or(&choice).get("name").and_then(Value::as_str) {
            Some(name) => ToolChoice::Function(name.to_owned()),
            None => return unusable("must be 'auto', 'none', 'required' or {type: 'function', function: {name}}"),
        },
    };
    match &choice {
        ToolChoice::Required if tools.is_empty() => unusable("is 'required', but there are no 'tools'"),
        ToolChoice::Function(name) if !tools.iter().any(|tool| tool.name == *name) => {
            unusable(&format!("names '{name}', which is not among the 'tools'"))
        }
        _ => Ok(choice),
    }
}

/// What the answer is to be: text, any JSON object, or JSON of a schema (bare, or wrapped as OpenAI wraps it).
pub fn response_format(fields: &mut Map<String, Value>) -> Result<ResponseFormat> {
    let Some(format) = fields.remove("response_format") else { return Ok(ResponseFormat::Text) };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object") => match format.get("schema").or_else(|| format.get("json_schema")) {
            Some(schema @ Value::Object(_)) => Ok(ResponseFormat::JsonSchema(unwrapped(schema))),
            _ => Ok(ResponseFormat::JsonObject),
        },
        Some("json_schema") => match format.get("json_schema").or_else(|| format.get("schema")) {
            // Clients that want JSON of no particular schema leave it out.
            None | Some(Value::Null) => Ok(ResponseFormat::JsonObject),
            Some(schema) => Ok(ResponseFormat::JsonSchema(unwrapped(schema))),
        },
        _ => Err(AiError::invalid_input("'/response_format/type' must be 'text', 'json_object' or 'json_schema'")),
    }
}

/// The schema inside OpenAI's `{name, schema, strict}`; a bare schema is itself.
fn unwrapped(schema: &Value) -> Value {
    let wraps = |fields: &Map<String, Value>| {
        fields.get("schema").is_some_and(|inner| inner.is_object() || inner.is_boolean())
            && !["type", "properties", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"].iter().any(|key| fields.contains_key(*key))
    };
    match schema {
        Value::Object(fields) if wraps(fields) => fields["schema"].clone(),
        // `{name}` alone asks for JSON without saying which.
        Value::Object(fields)
            if fields.contains_key("name") && fields.keys().all(|key| ["name", "description", "strict"].contains(&key.as_str())) =>
        {
            json!({"type": "object"})
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(value: Value) -> Map<String, Value> {
        let Value::Object(fields) = value else { panic!("an object") };
        fields
    }

    #[test]
    fn both_shapes_of_tools() {
        let parameters = json!({"type": "object", "properties": {"a": {"type": "string"}}});
        let flat = json!({"tools": [{"name": "f", "parameters": parameters}]});
        let nested = json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": parameters}}]});
        let wanted = vec![Tool { name: "f".into(), description: None, parameters }];
        assert_eq!(tools(&mut fields(flat)).expect("tools"), wanted);
        assert_eq!(tools(&mut fields(nested)).expect("tools"), wanted);
        assert!(tools(&mut fields(json!({"tools": [{"name": "f"}, {"name": "f"}]}))).is_err());
    }

    #[test]
    fn choices() {
        let offered = tools(&mut fields(json!({"tools": [{"name": "f"}]}))).expect("tools");
        let choice = |value: Value| tool_choice(&mut fields(json!({"tool_choice": value})), &offered);
        assert_eq!(choice(json!("required")), Ok(ToolChoice::Required));
        assert_eq!(choice(json!({"type": "function", "function": {"name": "f"}})), Ok(ToolChoice::Function("f".into())));
        assert!(choice(json!({"type": "function", "function": {"name": "g"}})).is_err());
        assert!(choice(json!("perhaps")).is_err());
        assert!(tool_choice(&mut fields(json!({"tool_choice": "required"})), &[]).is_err());
    }

    #[test]
    fn both_forms_of_a_schema() {
        let schema = json!({"type": "object", "properties": {"schema": {"type": "string"}}});
        let bare = json!({"response_format": {"type": "json_schema", "json_schema": schema}});
        let wrapped = json!({"response_format": {"type": "json_schema", "json_schema": {"name": "n", "schema": schema, "strict": true}}});
        assert_eq!(response_format(&mut fields(bare)), Ok(ResponseFormat::JsonSchema(schema.clone())));
        assert_eq!(response_format(&mut fields(wrapped)), Ok(ResponseFormat::JsonSchema(schema)));
        assert_eq!(response_format(&mut fields(json!({"response_format": {"type": "json_object"}}))), Ok(ResponseFormat::JsonObject));
        assert_eq!(response_format(&mut fields(json!({"response_format": {"type": "json_schema"}}))), Ok(ResponseFormat::JsonObject));
        assert!(response_format(&mut fields(json!({"response_format": {"type": "xml"}}))).is_err());
    }
}
