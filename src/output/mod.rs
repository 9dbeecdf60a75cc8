//! Output: generated text and calls → what a client receives, in one object or as server-sent events.

mod binding;
mod openai;
mod text;

pub use openai::Completion;
pub use text::AnswerText;

use crate::engine::FinishReason;
use crate::error::{AiError, ErrorCode, Result};
use crate::tools::ToolCall;
use serde::Serialize;
use serde_json::{Value, json};

/// The last event of every stream that ends well.
const DONE: &str = "data: [DONE]\n\n";

/// Exact token counts of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    /// Prompt tokens that an earlier request had already computed.
    pub cached_tokens: usize,
}

impl Serialize for Usage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        })
        .serialize(serializer)
    }
}

/// A piece of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// At least one character.
    Text(String),
    Call(ToolCall),
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Whole {
    pub text: String,
    pub calls: Vec<ToolCall>,
    pub usage: Usage,
    pub finish_reason: FinishReason,
}

/// What the request asked for, as far as it shows in the answer's form.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Shape {
    pub tools_offered: bool,
    /// JSON mode: the text is JSON.
    pub json: bool,
}

/// The dialect in which an answer is written.
#[derive(Debug, Clone)]
pub enum Dialect {
    /// As `env.AI.run` gives it.
    Binding,
    /// As OpenAI's chat completions give it.
    OpenAi(Completion),
}

impl Dialect {
    /// The answer as one object.
    pub fn object(&self, whole: &Whole, shape: Shape) -> Result<Value> {
        match self {
            Self::Binding => binding::object(whole, shape),
            Self::OpenAi(completion) => Ok(completion.object(whole)),
        }
    }

    /// Events for a part; `index` counts the answer's parts and `call` its calls, both from 0.
    pub fn part(&self, part: &Part, index: usize, call: usize) -> String {
        match self {
            Self::Binding => binding::part(part, call),
            Self::OpenAi(completion) => completion.part(part, index, call),
        }
    }

    /// The last events; `parts` is how many parts there were.
    pub fn end(&self, usage: &Usage, finish_reason: FinishReason, parts: usize) -> String {
        let last = match self {
            Self::Binding => binding::end(usage, finish_reason),
            Self::OpenAi(completion) => completion.end(usage, finish_reason, parts),
        };
        last + DONE
    }
}

/// 5024, in the words of the live service.
pub fn json_mode_not_met() -> AiError {
    AiError::new(ErrorCode::JsonModeNotMet, "JSON Mode couldn't be met")
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}
