//! Prompt: a validated request → the text that the model continues.
//!
//! Chat turns are rendered by the model's own template (Jinja, from the GGUF). For a model without one, the format that
//! its vocabulary shows is used.

mod builtin;
mod jinja;
mod json;
mod metered;
mod probe;
mod python;
mod template;
mod tools;

pub use builtin::{ChatFormat, template_for};
pub use template::ChatTemplate;

use crate::error::{AiError, Result};
use crate::input::{Prompt, TextGenerationRequest};
use crate::tools::ToolChoice;
use serde_json::{Map, Value, json};

/// Renders the text that the model continues. A raw prompt is returned unchanged; an unscoped prompt becomes one user turn.
///
/// What the template does not show is written into the messages instead: tools, calls, results. Where it shows only one call of a turn, each call
/// gets a turn of its own.
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
    let shown = template.shown();
    let offered = if request.tool_choice == ToolChoice::None { &[][..] } else { &request.tools };
    let tool_turns = turns.iter().any(|turn| turn.get("tool_calls").is_some() || turn["role"] == "tool");
    if !shown.tools && (tool_turns || !offered.is_empty()) {
        return render_turns(template, &tools::inline_tools(&turns, offered), variables);
    }
    let mut variables = variables.clone();
    if !offered.is_empty() {
        variables.insert("tools".into(), offered.iter().map(|tool| tool.for_template()).collect::<Vec<Value>>().into());
    }
    if tool_turns && !shown.parallel_calls {
        turns = tools::with_calls_apart(&turns);
    }
    if tool_turns && !(shown.calls && shown.results) {
        turns = tools::inline_turns(&turns, !shown.calls, !shown.results);
    }
    render_turns(template, &turns, &variables)
}

/// Renders turns in the forms that templates want, one after the other until one does not fail:
/// - content of a turn that consists of calls is `null` if the template asks for that, otherwise empty;
/// - arguments of calls are objects, otherwise JSON text;
/// - system turns stay where they are, unless the template rejects them or leaves them out (Mistral's and Gemma's, Phi-3's): then their texts
///   go in front of the first user turn.
///
/// # Errors
///
/// The first error, if nothing helps.
fn render_turns(template: &ChatTemplate, turns: &[Value], variables: &Map<String, Value>) -> Result<String> {
    let with_null = template.asks_for_null_content().then(|| tools::with_null_content(turns)).flatten();
    let mut failure = None;
    for turns in [with_null.as_deref(), Some(turns)].into_iter().flatten() {
        let merged = without_system_turns(turns);
        let as_given = Some(turns).filter(|_| template.shown().system_turns || merged.is_none());
        for turns in [as_given, merged.as_deref()].into_iter().flatten() {
            for turns in [Some(turns.to_vec()), tools::with_arguments_in_text(turns)].into_iter().flatten() {
                match template.render(&turns, variables) {
                    Ok(text) => return Ok(text),
                    Err(error) => failure.get_or_insert(error),
                };
            }
        }
    }
    Err(failure.unwrap_or_else(|| AiError::invalid_data("There is nothing to render.")))
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
