//! Parses `tools`, `tool_choice` and `response_format` of a validated input.

use crate::error::{AiError, Result};
use crate::input::ResponseFormat;
use crate::tools::{Tool, ToolChoice};
use serde_json::{Map, Value, json};

/// Maximum number of tools of a request.
pub const MAX_TOOLS: usize = 128;

/// Removes `tools` from a validated input and returns them. Accepts both shapes: flat, and OpenAI's `{type, function}`; and its older list of
/// `functions`, as far as these have no code of their own.
///
/// A tool without parameters accepts an object without properties.
///
/// # Errors
///
/// 5006 for more than [`MAX_TOOLS`] tools, and if two tools have the same name.
pub fn tools(fields: &mut Map<String, Value>) -> Result<Vec<Tool>> {
    let mut list = |key: &str| match fields.remove(key) {
        Some(Value::Array(listed)) => listed,
        _ => Vec::new(),
    };
    let mut listed = list("tools");
    listed.extend(list("functions").into_iter().filter(|function| function.get("code").is_none()));
    if listed.len() > MAX_TOOLS {
        return Err(AiError::invalid_input(format!("'/tools' has {} entries, at most {MAX_TOOLS} are allowed", listed.len())));
    }
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

/// What `tool_choice` may be.
const CHOICES: &str =
    "must be 'auto', 'none', 'required', {type: 'function', function: {name}} or {type: 'allowed_tools', allowed_tools: {mode, tools}}";

/// Removes `tool_choice` from a validated input and returns it. Absent means [`ToolChoice::Auto`]. Of `allowed_tools`, only these remain in `tools`.
///
/// # Errors
///
/// 5006 for an unknown value, for `required` without tools, and for a function that is not in `tools`.
pub fn tool_choice(fields: &mut Map<String, Value>, tools: &mut Vec<Tool>) -> Result<ToolChoice> {
    let unusable = |reason: &str| Err(AiError::invalid_input(format!("'/tool_choice' {reason}")));
    let is_listed = |name: &str, tools: &[Tool]| tools.iter().any(|tool| tool.name == name);
    let mut choice = fields.remove("tool_choice");
    if let Some(allowed) = choice.as_ref().filter(|choice| choice["type"] == "allowed_tools") {
        // The Responses API has mode and tools beside the type.
        let allowed = allowed.get("allowed_tools").unwrap_or(allowed);
        let Some(listed) = allowed["tools"].as_array() else { return unusable(CHOICES) };
        let Some(names) = listed.iter().map(name_of).collect::<Option<Vec<&str>>>() else { return unusable(CHOICES) };
        if let Some(name) = names.iter().find(|name| !is_listed(name, tools)) {
            return unusable(&format!("allows '{name}', which is not among the 'tools'"));
        }
        tools.retain(|tool| names.contains(&tool.name.as_str()));
        choice = Some(allowed["mode"].clone());
    }
    let choice = match choice {
        None => ToolChoice::Auto,
        Some(Value::String(choice)) => match choice.as_str() {
            "auto" => ToolChoice::Auto,
            "none" => ToolChoice::None,
            // Clients also send `any`, an older word for `required`.
            "required" | "any" => ToolChoice::Required,
            _ => return unusable(CHOICES),
        },
        Some(choice) => match name_of(&choice) {
            Some(name) => ToolChoice::Function(name.to_owned()),
            None => return unusable(CHOICES),
        },
    };
    match &choice {
        ToolChoice::Required if tools.is_empty() => unusable("is 'required', but there are no 'tools'"),
        ToolChoice::Function(name) if !is_listed(name, tools) => unusable(&format!("names '{name}', which is not among the 'tools'")),
        _ => Ok(choice),
    }
}

/// The name of the function in `{type, function: {name}}` or `{type, name}`.
fn name_of(choice: &Value) -> Option<&str> {
    choice.get("function").unwrap_or(choice).get("name")?.as_str()
}

/// Removes `response_format` from a validated input and returns it. A schema may be bare or wrapped in OpenAI's
/// `{name, schema, strict}`. Absent means the schema of `guided_json`, or [`ResponseFormat::Text`].
///
/// # Errors
///
/// 5006 for an unknown `type`.
pub fn response_format(fields: &mut Map<String, Value>) -> Result<ResponseFormat> {
    let Some(format) = fields.remove("response_format") else {
        return Ok(fields.remove("guided_json").map_or(ResponseFormat::Text, |schema| ResponseFormat::JsonSchema(unwrapped(&schema))));
    };
    match format.get("type").and_then(Value::as_str) {
        Some("text") => Ok(ResponseFormat::Text),
        Some("json_object") => match format.get("schema").or_else(|| format.get("json_schema")) {
            Some(schema @ Value::Object(_)) => Ok(ResponseFormat::JsonSchema(unwrapped(schema))),
            _ => Ok(ResponseFormat::JsonObject),
        },
        Some("json_schema") => match format.get("json_schema").or_else(|| format.get("schema")) {
            // Clients leave the schema out to ask for any JSON object.
            None | Some(Value::Null) => Ok(ResponseFormat::JsonObject),
            Some(schema) => Ok(ResponseFormat::JsonSchema(unwrapped(schema))),
        },
        _ => Err(AiError::invalid_input("'/response_format/type' must be 'text', 'json_object' or 'json_schema'")),
    }
}

/// Returns the schema inside OpenAI's `{name, schema, strict}`; returns a bare schema unchanged.
fn unwrapped(schema: &Value) -> Value {
    let wraps = |fields: &Map<String, Value>| {
        fields.get("schema").is_some_and(|inner| inner.is_object() || inner.is_boolean())
            && !["type", "properties", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"].iter().any(|key| fields.contains_key(*key))
    };
    match schema {
        Value::Object(fields) if wraps(fields) => fields["schema"].clone(),
        // A wrapper without `schema`, such as `{name}`, asks for any JSON object.
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
    fn functions_without_code_are_tools() {
        let listed = json!({"functions": [{"name": "f", "description": "d"}, {"name": "g", "code": "return 1"}], "tools": [{"name": "t"}]});
        let names: Vec<String> = tools(&mut fields(listed)).expect("tools").into_iter().map(|tool| tool.name).collect();
        assert_eq!(names, ["t", "f"]);
    }

    #[test]
    fn choices() {
        let offered = tools(&mut fields(json!({"tools": [{"name": "f"}]}))).expect("tools");
        let choice = |value: Value| tool_choice(&mut fields(json!({"tool_choice": value})), &mut offered.clone());
        assert_eq!(choice(json!("required")), Ok(ToolChoice::Required));
        assert_eq!(choice(json!({"type": "function", "function": {"name": "f"}})), Ok(ToolChoice::Function("f".into())));
        assert!(choice(json!({"type": "function", "function": {"name": "g"}})).is_err());
        assert!(choice(json!("perhaps")).is_err());
        assert!(tool_choice(&mut fields(json!({"tool_choice": "required"})), &mut Vec::new()).is_err());
    }

    #[test]
    fn allowed_tools() {
        let chosen = |choice: Value| {
            let mut offered = tools(&mut fields(json!({"tools": [{"name": "f"}, {"name": "g"}]}))).expect("tools");
            let choice = tool_choice(&mut fields(json!({"tool_choice": choice})), &mut offered)?;
            Ok::<_, AiError>((choice, offered.into_iter().map(|tool| tool.name).collect::<Vec<String>>()))
        };
        let nested = json!({"mode": "required", "tools": [{"type": "function", "function": {"name": "g"}}]});
        let wanted = Ok((ToolChoice::Required, vec!["g".to_owned()]));
        assert_eq!(chosen(json!({"type": "allowed_tools", "allowed_tools": nested})), wanted);
        let flat = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "f"}]});
        assert_eq!(chosen(flat), Ok((ToolChoice::Auto, vec!["f".to_owned()])));
        let refused = |choice: Value| chosen(choice).expect_err("an error").to_string();
        assert!(refused(json!({"type": "allowed_tools", "mode": "auto", "tools": [{"name": "h"}]})).contains("allows 'h'"));
        assert!(refused(json!({"type": "allowed_tools", "mode": "required", "tools": []})).contains("there are no 'tools'"));
        assert!(refused(json!({"type": "allowed_tools", "mode": "auto"})).contains("allowed_tools: {mode, tools}"));
        assert!(refused(json!({"type": "allowed_tools", "tools": [{"name": "f"}]})).contains("allowed_tools: {mode, tools}"));
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
        let guided = json!({"guided_json": {"type": "object"}});
        assert_eq!(response_format(&mut fields(guided)), Ok(ResponseFormat::JsonSchema(json!({"type": "object"}))));
    }
}
