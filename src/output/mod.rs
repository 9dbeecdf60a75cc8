//! Output: generated text and calls → the client's object or server-sent events, in one of the dialects of Workers AI.

pub mod binding;
mod completions;
mod logprobs;
mod responses;
mod text;
mod thoughts;

pub use completions::{Completion, Kind};
pub use logprobs::TokenLogprob;
pub use responses::Response;
pub use text::{AnswerText, Piece};
pub use thoughts::{Tags, ThoughtReader};

use crate::engine::FinishReason;
use crate::error::{AiError, ErrorCode, Result};
use crate::tools::ToolCall;
use serde::Serialize;
use serde_json::{Value, json};

/// The last event of a stream that ends without an error, except in the format of responses.
const DONE: &str = "data: [DONE]\n\n";

/// Exact token counts of one request. Serialises with `total_tokens` and the details.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    /// Prompt tokens whose keys and values were still in a KV cache from an earlier request.
    pub cached_tokens: usize,
    /// Completion tokens of thoughts.
    pub reasoning_tokens: usize,
}

impl Usage {
    /// The counts of one request's answers together: the prompt, which they share, counts once.
    pub fn of_choices(mut each: impl Iterator<Item = Self>) -> Self {
        let mut usage = each.next().unwrap_or_default();
        for other in each {
            usage.completion_tokens += other.completion_tokens;
            usage.reasoning_tokens += other.reasoning_tokens;
        }
        usage
    }
}

impl Serialize for Usage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut usage = json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        });
        if self.reasoning_tokens > 0 {
            usage["completion_tokens_details"] = json!({"reasoning_tokens": self.reasoning_tokens});
        }
        usage.serialize(serializer)
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// At least one character of what the model thinks before it answers.
    Thought(String),
    /// At least one character of text.
    Text(String),
    /// A complete call.
    Call(ToolCall),
}

/// What happens next in an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Progress {
    /// The answer number `choice`, from 0, goes on. `logprobs`: those of the tokens since its last part.
    Part { choice: usize, part: Part, logprobs: Vec<TokenLogprob> },
    /// It is complete.
    Finished { choice: usize, reason: FinishReason, logprobs: Vec<TokenLogprob> },
}

/// One complete answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Choice {
    pub thought: String,
    pub text: String,
    pub calls: Vec<ToolCall>,
    pub logprobs: Vec<TokenLogprob>,
    pub finish_reason: FinishReason,
}

impl Choice {
    fn add(&mut self, part: Part) {
        match part {
            Part::Thought(thought) => self.thought.push_str(&thought),
            Part::Text(text) => self.text.push_str(&text),
            Part::Call(call) => self.calls.push(call),
        }
    }
}

/// The complete answers to one request.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct CompleteAnswer {
    /// At least one.
    pub choices: Vec<Choice>,
    pub usage: Usage,
}

impl CompleteAnswer {
    /// Adds what has happened.
    pub fn add(&mut self, progress: Progress) {
        let (Progress::Part { choice, .. } | Progress::Finished { choice, .. }) = &progress;
        let index = *choice;
        while self.choices.len() <= index {
            self.choices.push(Choice::default());
        }
        let Some(choice) = self.choices.get_mut(index) else { return };
        match progress {
            Progress::Part { part, logprobs, .. } => {
                choice.add(part);
                choice.logprobs.extend(logprobs);
            }
            Progress::Finished { reason, logprobs, .. } => {
                choice.finish_reason = reason;
                choice.logprobs.extend(logprobs);
            }
        }
    }
}

/// The properties of the request that determine the form of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AnswerShape {
    /// A stream of events instead of one object.
    pub stream: bool,
    /// The request has tools, so the answer has `tool_calls`.
    pub tools_offered: bool,
    /// JSON mode: the text is JSON.
    pub json: bool,
    /// The request asks for log probabilities.
    pub logprobs: bool,
    /// In the binding's own object, the `arguments` of a call's `function` are an object, not JSON text.
    pub object_arguments: bool,
}

/// The dialect in which an answer is written, and how far it is written.
#[derive(Debug, Clone)]
pub enum Dialect {
    /// `env.AI.run`'s own format, of the older models. It has one choice.
    Binding(binding::Events),
    /// The format of OpenAI's chat completions.
    Completions(Completion),
    /// The format of OpenAI's responses. It has one choice.
    Responses(Box<Response>),
}

impl Dialect {
    /// The binding's own format.
    pub fn binding() -> Self {
        Self::Binding(binding::Events::default())
    }

    /// Whether an answer can have more than one choice.
    pub fn has_choices(&self) -> bool {
        matches!(self, Self::Completions(_))
    }

    /// Whether an answer can have log probabilities.
    pub fn has_logprobs(&self) -> bool {
        !matches!(self, Self::Binding(_))
    }

    /// The answer as one object.
    ///
    /// # Errors
    ///
    /// In the binding's own format, 5024 if the text is not JSON in JSON mode.
    pub fn object(&self, whole: &CompleteAnswer, shape: AnswerShape) -> Result<Value> {
        match self {
            Self::Binding(_) => binding::object(whole, shape),
            Self::Completions(completion) => Ok(completion.object(whole, shape)),
            Self::Responses(response) => Ok(response.object(whole, shape)),
        }
    }

    /// The events for what happened, as text.
    pub fn events(&mut self, progress: &Progress, shape: AnswerShape) -> String {
        match self {
            Self::Binding(events) => events.events(progress),
            Self::Completions(completion) => completion.events(progress, shape),
            Self::Responses(response) => response.events(progress, shape),
        }
    }

    /// The last events.
    pub fn end(&mut self, usage: &Usage) -> String {
        match self {
            Self::Binding(events) => events.end(usage) + DONE,
            Self::Completions(completion) => completion.end(usage) + DONE,
            Self::Responses(response) => response.end(usage),
        }
    }
}

/// 5024, with the text of the live service.
pub fn json_mode_not_met() -> AiError {
    AiError::new(ErrorCode::JsonModeNotMet, "JSON Mode couldn't be met")
}

/// One server-sent event.
fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

/// Writes what the model thought into an object that has the text beside it, under both names that clients read.
fn add_thought(object: &mut Value, thought: &str) {
    if !thought.is_empty() {
        object["reasoning_content"] = thought.into();
        object["reasoning"] = thought.into();
    }
}
