//! Prompt: a validated request → the text that the model continues.
//!
//! Chat turns are rendered by the model's own template (Jinja, from the GGUF). For a model without one, the format that the
//! catalogue names is used.

mod builtin;
mod jinja;
mod json;
mod metered;
mod python;
mod template;
mod tools;

pub use builtin::template_for;
pub use template::ChatTemplate;

use crate::error::Result;
use crate::input::{Prompt, TextGenerationRequest};
use crate::tools::ToolChoice;
use serde_json::{Map, Value, json};

/// Renders the text that the model continues. A raw prompt is returned unchanged; an unscoped prompt becomes one user turn.
///
/// If the template does not support tools, tools and tool turns are written into the messages instead.
///
/// `as_text` marks the names of control tokens in the texts of user, tool and system turns as text: only the template and raw prompts can
/// make control tokens.
///
/// # Errors
///
/// 5004 if the template fails or rejects the messages.
pub fn render(request: &TextGenerationRequest, template: &ChatTemplate, as_text: &dyn Fn(&str) -> String) -> Result<String> {
    let variables = &request.template_variables;
    let mut turns = match &request.prompt {
        Prompt::Raw(text) => return Ok(text.clone()),
        Prompt::Unscoped(text) => vec![json!({"role": "user", "content": text})],
        Prompt::Messages(messages) => tools::normalise_turns(messages),
    };
    for turn in turns.iter_mut().filter(|turn| turn["role"] != "assistant") {
        if let Some(content) = turn.get_mut("content") {
            mark_as_text(content, as_text);
        }
    }
    let offered = if request.tool_choice == ToolChoice::None { &[][..] } else { &request.tools };
    let tool_turns = turns.iter().any(|turn| turn.get("tool_calls").is_some() || turn["role"] == "tool");
    if !template.supports_tools() && (tool_turns || !offered.is_empty()) {
        return render_turns(template, &tools::inline_tools(&turns, offered), variables);
    }
    let mut variables = variables.clone();
    if !offered.is_empty() {
        variables.insert("tools".into(), offered.iter().map(|tool| tool.for_template()).collect::<Vec<Value>>().into());
    }
    render_turns(template, &turns, &variables)
}

/// Renders turns as they are. If the template rejects them, tries what some templates need: the arguments of calls as JSON text, and system
/// turns in front of the first user turn (Mistral's and Gemma's templates reject system turns).
///
/// # Errors
///
/// The error of the turns as they are, if nothing helps.
fn render_turns(template: &ChatTemplate, turns: &[Value], variables: &Map<String, Value>) -> Result<String> {
    let mut turns = turns.to_vec();
    if template.asks_for_null_content() {
        turns.iter_mut().for_each(with_null_content);
    }
    let rendered = template.render(&turns, variables);
    if rendered.is_ok() {
        return rendered;
    }
    let in_text = with_arguments_in_text(&turns);
    let merged = without_system_turns(&turns);
    let both = merged.as_deref().and_then(with_arguments_in_text);
    let other = [in_text, merged, both].into_iter().flatten().find_map(|turns| template.render(&turns, variables).ok());
    other.map_or(rendered, Ok)
}

/// Marks a turn's content: a text, or a list of parts that have texts.
fn mark_as_text(content: &mut Value, as_text: &dyn Fn(&str) -> String) {
    match content {
        Value::String(text) => *text = as_text(text),
        Value::Array(parts) => parts.iter_mut().for_each(|part| mark_as_text(part, as_text)),
        Value::Object(fields) => fields.get_mut("text").into_iter().for_each(|text| mark_as_text(text, as_text)),
        _ => {}
    }
}

/// Sets the content of a turn that consists of calls to `null`, as OpenAI's API does.
fn with_null_content(turn: &mut Value) {
    if turn.get("tool_calls").is_some() && turn["content"] == "" {
        turn["content"] = Value::Null;
    }
}

/// The turns with the arguments of calls as JSON text; `None` if there are no calls.
fn with_arguments_in_text(turns: &[Value]) -> Option<Vec<Value>> {
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

/// The turns with the texts of all system turns in front of the first user turn; `None` if there is no system turn.
fn without_system_turns(turns: &[Value]) -> Option<Vec<Value>> {
    let (system, mut others): (Vec<Value>, Vec<Value>) = turns.iter().cloned().partition(|turn| turn["role"] == "system");
    let texts: Vec<&str> = system.iter().filter_map(|turn| turn["content"].as_str()).collect();
    if system.is_empty() {
        return None;
    }
    let text = texts.join("\n\n");
    match others.first_mut() {
        Some(first) if first["role"] == "user" => {
            let content = first["content"].as_str().unwrap_or_default();
            first["content"] = format!("{text}\n\n{content}").into();
        }
        _ => others.insert(0, json!({"role": "user", "content": text})),
    }
    Some(others)
}
