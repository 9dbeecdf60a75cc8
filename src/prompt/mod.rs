//! Prompt: a validated request → the text that the model continues.
//!
//! Chat turns are rendered by the model's own template (Jinja, from the GGUF). For a model without one, the format that the
//! catalogue names is used.

mod builtin;
mod template;
mod tools;

pub use builtin::template_for;
pub use template::ChatTemplate;

use crate::error::Result;
use crate::input::{Prompt, TextGenerationRequest};
use crate::tools::ToolChoice;
use serde_json::{Value, json};

/// Renders the text that the model continues. A raw prompt is returned unchanged; an unscoped prompt becomes one user turn.
///
/// If the template does not support tools, tools and tool turns are written into the messages instead.
///
/// # Errors
///
/// 5004 if the template fails or rejects the messages.
pub fn render(request: &TextGenerationRequest, template: &ChatTemplate) -> Result<String> {
    let variables = &request.template_variables;
    let turns = match &request.prompt {
        Prompt::Raw(text) => return Ok(text.clone()),
        Prompt::Unscoped(text) => vec![json!({"role": "user", "content": text})],
        Prompt::Messages(messages) => tools::normalise_turns(messages),
    };
    let offered = if request.tool_choice == ToolChoice::None { &[][..] } else { &request.tools };
    let tool_turns = turns.iter().any(|turn| turn.get("tool_calls").is_some() || turn["role"] == "tool");
    if !template.supports_tools() && (tool_turns || !offered.is_empty()) {
        return template.render(&tools::inline_tools(&turns, offered), variables);
    }
    let mut variables = variables.clone();
    if !offered.is_empty() {
        variables.insert("tools".into(), offered.iter().map(|tool| tool.for_template()).collect::<Vec<Value>>().into());
    }
    template.render(&turns, &variables)
}
