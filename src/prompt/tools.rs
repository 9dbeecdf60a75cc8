//! Tools and tool turns in a conversation, for templates that support tools and for those that do not.

use crate::tools::{Tool, call_of_text};
use serde_json::{Map, Value, json};

/// Converts tool turns to the one form that templates expect: OpenAI's, with arguments as objects.
///
/// It accepts two forms: calls in `tool_calls` whose results refer to them by id, and the older form, where the assistant's content
/// is the call as JSON text and the result has no id. Ids are replaced by ones that every template accepts; the model needs them
/// only to match results with calls.
pub fn normalise_turns(messages: &[Value]) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::with_capacity(messages.len());
    // Calls without a result so far: (the client's id, the function's name, our id).
    let mut open: Vec<(Option<String>, String, String)> = Vec::new();
    let mut count = 0;
    for (index, message) in messages.iter().enumerate() {
        let mut message = message.clone();
        let answered = messages.get(index + 1).is_some_and(|next| role(next) == "tool");
        match role(&message) {
            "assistant" => {
                let calls = calls_of(&message, answered);
                if let (Some(calls), Value::Object(fields)) = (calls, &mut message) {
                    open.clear();
                    let mut written = Vec::new();
                    for (id, name, arguments) in calls {
                        count += 1;
                        let own = format!("call{count:05}");
                        written.push(json!({"id": own, "type": "function", "function": {"name": name, "arguments": arguments}}));
                        open.push((id, name, own));
                    }
                    if !fields.contains_key("tool_calls") {
                        fields.insert("content".into(), Value::String(String::new()));
                    }
                    fields.insert("tool_calls".into(), Value::Array(written));
                }
            }
            "tool" => {
                let text = |key: &str| message.get(key).and_then(Value::as_str).map(str::to_owned);
                let (id, name) = (text("tool_call_id"), text("name"));
                let by_id = open.iter().position(|call| id.is_some() && call.0 == id);
                let by_name = || open.iter().position(|call| name.as_ref() == Some(&call.1));
                let answers = by_id.or_else(by_name).or(if open.is_empty() { None } else { Some(0) });
                if let (Some(answers), Value::Object(fields)) = (answers, &mut message) {
                    let (_, name, own) = open.remove(answers);
                    fields.insert("name".into(), Value::String(name));
                    fields.insert("tool_call_id".into(), Value::String(own));
                }
            }
            _ => {}
        }
        out.push(message);
    }
    out
}

/// Rewrites normalised turns for a template that does not support tools: the tools are described in the system turn, and calls and results are
/// [written as text](inline_turns).
pub fn inline_tools(messages: &[Value], tools: &[Tool]) -> Vec<Value> {
    let mut out = inline_turns(messages, true, true);
    if !tools.is_empty() {
        let instructions = instructions(tools);
        match out.first_mut() {
            Some(first) if role(first) == "system" => first["content"] = Value::String(format!("{}\n\n{instructions}", text_of(first))),
            _ => out.insert(0, json!({"role": "system", "content": instructions})),
        }
    }
    out
}

/// Rewrites normalised turns for a template that does not show the calls in a turn, or the turns of results: calls become the JSON text that our
/// own prompt asks for, results become user turns.
pub fn inline_turns(messages: &[Value], calls: bool, results: bool) -> Vec<Value> {
    let mut out: Vec<Value> = Vec::with_capacity(messages.len() + 1);
    for message in messages {
        let mut message = message.clone();
        let text = text_of(&message).to_owned();
        if let Value::Object(fields) = &mut message {
            if calls && let Some(Value::Array(listed)) = fields.remove("tool_calls") {
                let written = listed.iter().map(|call| {
                    let function = call.get("function").unwrap_or(call);
                    format!("{{\"name\": {}, \"arguments\": {}}}", function["name"], function["arguments"])
                });
                let parts: Vec<String> = Some(text.clone()).filter(|text| !text.is_empty()).into_iter().chain(written).collect();
                fields.insert("content".into(), parts.join("\n").into());
            }
            if results && fields.get("role").is_some_and(|role| role == "tool") {
                let name = fields.remove("name");
                let name = name.as_ref().and_then(Value::as_str).unwrap_or("the function");
                fields.insert("content".into(), format!("Result of {name}: {text}").into());
                fields.insert("role".into(), "user".into());
                fields.remove("tool_call_id");
            }
        }
        // Templates that do not know results often require user and assistant turns to alternate.
        match out.last_mut() {
            Some(last) if results && role(&message) == "user" && role(last) == "user" => {
                last["content"] = Value::String(format!("{}\n{}", text_of(last), text_of(&message)))
            }
            _ => out.push(message),
        }
    }
    out
}

/// Normalised turns with each call of a turn in a turn of its own, followed by its result.
pub fn with_calls_apart(messages: &[Value]) -> Vec<Value> {
    let mut out = Vec::with_capacity(messages.len());
    let mut rest = messages;
    while let Some((message, after)) = rest.split_first() {
        let calls = message.get("tool_calls").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
        let (results, after) = after.split_at_checked(after.iter().take_while(|turn| role(turn) == "tool").count()).unwrap_or((&[], after));
        let mut results: Vec<&Value> = results.iter().collect();
        for (index, call) in calls.iter().enumerate() {
            let mut turn = message.clone();
            turn["tool_calls"] = json!([call]);
            if index > 0 {
                turn["content"] = "".into();
            }
            out.push(turn);
            let (own, others) = results.into_iter().partition(|result| result.get("tool_call_id") == call.get("id"));
            let own: Vec<&Value> = own;
            out.extend(own.into_iter().cloned());
            results = others;
        }
        if calls.is_empty() {
            out.push(message.clone());
        }
        out.extend(results.into_iter().cloned());
        rest = after;
    }
    out
}

/// The turns with `null` as the content of those that consist of calls, as OpenAI's API has them; `None` if there are none.
pub fn with_null_content(turns: &[Value]) -> Option<Vec<Value>> {
    let mut turns = turns.to_vec();
    let mut changed = false;
    for turn in turns.iter_mut().filter(|turn| turn.get("tool_calls").is_some() && turn["content"] == "") {
        turn["content"] = Value::Null;
        changed = true;
    }
    changed.then_some(turns)
}

/// The turns with the arguments of calls as JSON text; `None` if there are no calls.
pub fn with_arguments_in_text(turns: &[Value]) -> Option<Vec<Value>> {
    let mut turns = turns.to_vec();
    let calls = turns.iter_mut().filter_map(|turn| turn.get_mut("tool_calls")?.as_array_mut()).flatten();
    let arguments: Vec<&mut Value> = calls.filter_map(|call| call.get_mut("function")?.get_mut("arguments")).collect();
    if arguments.is_empty() {
        return None;
    }
    for value in arguments {
        *value = Value::String(value.to_string());
    }
    Some(turns)
}

/// The default prompt that describes the tools and the format of a call.
fn instructions(tools: &[Tool]) -> String {
    let listed: Vec<String> = tools
        .iter()
        .map(|tool| {
            let mut listing = Map::new();
            listing.insert("name".into(), Value::String(tool.name.clone()));
            if let Some(description) = &tool.description {
                listing.insert("description".into(), Value::String(description.clone()));
            }
            listing.insert("parameters".into(), tool.parameters.clone());
            Value::Object(listing).to_string()
        })
        .collect();
    format!(
        "You can call these functions, described by JSON Schema:\n{}\n\nTo call a function, answer with nothing but JSON in this form:\n{{\"name\": \"the function's name\", \"arguments\": {{\"parameter\": \"value\"}}}}\nIf no function helps, answer in plain words.",
        listed.join("\n")
    )
}

/// (the client's id, the function's name, the arguments).
type Call = (Option<String>, String, Value);

/// The calls of an assistant turn, in either form. The older form counts only if a tool turn follows (`answered`).
fn calls_of(message: &Value, answered: bool) -> Option<Vec<Call>> {
    if let Some(calls) = message.get("tool_calls").and_then(Value::as_array).filter(|calls| !calls.is_empty()) {
        let call = |call: &Value| {
            let function = call.get("function").unwrap_or(call);
            let name = function.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
            // Templates call `.items()` on arguments or write them as JSON, so anything that is no object would make them fail.
            let arguments = match function.get("arguments") {
                Some(Value::String(text)) => serde_json::from_str(text).unwrap_or_default(),
                Some(value) => value.clone(),
                None => Value::Null,
            };
            let arguments = if arguments.is_object() { arguments } else { json!({}) };
            (call.get("id").and_then(Value::as_str).map(str::to_owned), name, arguments)
        };
        return Some(calls.iter().map(call).collect());
    }
    let (name, arguments) = answered.then(|| call_of_text(text_of(message)))??;
    Some(vec![(None, name, arguments)])
}

fn role(message: &Value) -> &str {
    message.get("role").and_then(Value::as_str).unwrap_or_default()
}

fn text_of(message: &Value) -> &str {
    message.get("content").and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn weather() -> Tool {
        Tool { name: "get_weather".into(), description: Some("The weather.".into()), parameters: json!({"type": "object"}) }
    }

    #[test]
    fn both_forms_of_tool_turns_become_one() {
        let newer = [
            json!({"role": "user", "content": "Weather?"}),
            json!({"role": "assistant", "content": "", "tool_calls": [{"id": "x", "type": "function", "function": {"name": "get_weather", "arguments": "{\"city\":\"Ghent\"}"}}]}),
            json!({"role": "tool", "tool_call_id": "x", "content": "rain"}),
        ];
        let older = [
            json!({"role": "user", "content": "Weather?"}),
            json!({"role": "assistant", "content": "{\"name\":\"get_weather\",\"arguments\":{\"city\":\"Ghent\"}}"}),
            json!({"role": "tool", "name": "get_weather", "content": "rain"}),
        ];
        let wanted = normalise_turns(&newer);
        assert_eq!(normalise_turns(&older), wanted);
        assert_eq!(wanted[1]["tool_calls"][0]["function"], json!({"name": "get_weather", "arguments": {"city": "Ghent"}}));
        assert_eq!(wanted[2]["tool_call_id"], wanted[1]["tool_calls"][0]["id"]);
        assert_eq!(wanted[2]["name"], "get_weather");
    }

    #[test]
    fn json_content_without_a_tool_turn_is_not_a_call() {
        let messages =
            [json!({"role": "assistant", "content": "{\"name\":\"a\",\"arguments\":{}}"}), json!({"role": "user", "content": "b"})];
        assert_eq!(normalise_turns(&messages), messages);
    }

    #[test]
    fn a_template_without_tool_support_gets_plain_turns() {
        let messages = normalise_turns(&[
            json!({"role": "system", "content": "Be kind."}),
            json!({"role": "user", "content": "Weather?"}),
            json!({"role": "assistant", "content": null, "tool_calls": [{"id": "x", "function": {"name": "get_weather", "arguments": "{}"}}]}),
            json!({"role": "tool", "tool_call_id": "x", "content": "rain"}),
            json!({"role": "user", "content": "So?"}),
        ]);
        let plain = inline_tools(&messages, &[weather()]);
        let roles: Vec<&str> = plain.iter().map(role).collect();
        assert_eq!(roles, ["system", "user", "assistant", "user"]);
        assert!(text_of(&plain[0]).starts_with("Be kind.\n\nYou can call"));
        assert_eq!(text_of(&plain[2]), "{\"name\": \"get_weather\", \"arguments\": {}}");
        assert_eq!(text_of(&plain[3]), "Result of get_weather: rain\nSo?");
    }
}
