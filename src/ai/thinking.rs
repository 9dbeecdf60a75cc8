//! Whether an answer begins with a thought, by the model's chat template.

use crate::input::{Prompt, ResponseFormat, TextGenerationRequest};
use crate::output::Tags;
use crate::prompt::ChatTemplate;
use crate::tools::ToolChoice;

/// What is known about the thought before an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Thinking {
    /// The marks around it, if there may be one.
    pub tags: Option<Tags>,
    /// The prompt has its opening tag.
    pub has_begun: bool,
    /// There will be one, so a grammar begins after it.
    pub is_certain: bool,
}

impl Thinking {
    /// `prompt`: what `template` made of the request. If the answer has a grammar and the model would open a thought itself, the prompt opens it:
    /// then the grammar can wait for its end.
    pub fn of(template: &ChatTemplate, request: &TextGenerationRequest, prompt: &mut String) -> Self {
        let Some(tags) = template.thought_tags().filter(|_| !matches!(request.prompt, Prompt::Raw(_))) else { return Self::default() };
        if tags.closes_at_end(prompt) {
            return Self::default();
        }
        let constrained = request.response_format != ResponseFormat::Text
            || matches!(request.tool_choice, ToolChoice::Required | ToolChoice::Function(_)) && !request.tools.is_empty();
        let mut has_begun = tags.opens_at_end(prompt);
        if constrained && !has_begun && template.thinks_by_default() {
            prompt.push_str(tags.open);
            prompt.push('\n');
            has_begun = true;
        }
        Self { tags: Some(tags), has_begun, is_certain: has_begun }
    }
}
