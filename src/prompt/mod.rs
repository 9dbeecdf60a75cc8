//! Prompt: a validated request → the text that the model continues.
//!
//! Chat turns are written by the model's own template (Jinja, out of the GGUF); a model without one gets the format
//! that the catalogue names for it.

mod builtin;
mod template;

pub use builtin::template_for;
pub use template::ChatTemplate;

use crate::error::Result;
use crate::input::{Prompt, TextGenerationRequest};
use serde_json::json;

/// The text for the model. A raw prompt stands as it is, an unscoped one becomes a user's turn.
pub fn render(request: &TextGenerationRequest, template: &ChatTemplate) -> Result<String> {
    let variables = &request.template_variables;
    match &request.prompt {
        Prompt::Raw(text) => Ok(text.clone()),
        Prompt::Unscoped(text) => template.render(&[json!({"role": "user", "content": text})], variables),
        Prompt::Messages(messages) => template.render(messages, variables),
    }
}
