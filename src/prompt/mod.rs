//! Prompt: a validated request → the text that the model continues.
//!
//! Chat turns are written by the model's own template (Jinja, out of the GGUF); a model without one gets the format
//! that the catalogue names for it.

mod builtin;
mod template;
mod tools;

pub use builtin::template_for;
pub use template::ChatTemplate;

use crate::error::Result;
use crate::input::{Prompt, TextGenerationRequest};
use crate::tools::ToolChoice;
use serde_json::{Value, json};

/// The text for the model. A raw prompt stands as it is, an unscoped one becomes a user's turn.
pub fn render(request: &TextGenerationRequest, template: &ChatTemplate) -> Result<String> {
    let variables = &request.template_variables;
    let turns = match &request.prompt {
        Prompt::Raw(text) => return Ok(text.clone()),
        Prompt::Unscoped(text) => vec![json!({"role": "user", "content": text})],
        Prompt::Messages(messages) => tools::normalise_turns(messages),
    };
    let offered = if request.tool_choice == ToolChoice::None { &[][..] } else { &request.tools };
    let tool_turns = turns.iter().any(|turn| turn.get("tool_calls").is_some() || turn["role"] == "tool");
    if !template.has_tool_slot() && (tool_turns || !offered.is_empty()) {
        return template.render(&tools::without_slot(&turns, offered), variables);
    }
    let mut variables = variables.clone();
    if !offered.is_empty() {
        variables.insert("tools".into(), offered.iter().map(|tool| tool.for_template()).collect::<Vec<Value>>().into());
    }
    template.render(&turns, &variables)
}
