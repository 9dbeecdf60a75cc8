//! Output: generated text and calls → the client's object or server-sent events, in the binding's or OpenAI's dialect.

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

/// The last event of every stream that ends without an error.
const DONE: &str = "data: [DONE]\n\n";

/// Exact token counts of one request. Serialises with `total_tokens` and `prompt_tokens_details`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    /// Prompt tokens whose keys and values were still in a KV cache from an earlier request.
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
    /// At least one character of text.
    Text(String),
    /// A complete call.
    Call(ToolCall),
}

/// A complete answer.
#[derive(Debug, Clone, PartialEq)]
pub struct CompleteAnswer {
    pub text: String,
    pub calls: Vec<ToolCall>,
    pub usage: Usage,
    pub finish_reason: FinishReason,
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
}

/// The dialect in which an answer is written.
#[derive(Debug, Clone)]
pub enum Dialect {
    /// The format of `env.AI.run`.
    Binding,
    /// The format of OpenAI's chat completions.
    OpenAi(Completion),
}

impl Dialect {
    /// The answer as one object.
    ///
    /// # Errors
    ///
    /// In [`Dialect::Binding`], 5024 if the text is not JSON in JSON mode.
    pub fn object(&self, whole: &CompleteAnswer, shape: AnswerShape) -> Result<Value> {
        match self {
            Self::Binding => binding::object(whole, shape),
            Self::OpenAi(completion) => Ok(completion.object(whole)),
        }
    }

    /// The events for a part, as text. `index` is the part's number within the answer and `call` the number of the call, both from 0.
    pub fn part(&self, part: &Part, index: usize, call: usize) -> String {
        match self {
            Self::Binding => binding::part(part, call),
            Self::OpenAi(completion) => completion.part(part, index, call),
        }
    }

    /// The last events, `[DONE]` included. `parts` is the number of parts in the answer.
    pub fn end(&self, usage: &Usage, finish_reason: FinishReason, parts: usize) -> String {
        let last = match self {
            Self::Binding => binding::end(usage, finish_reason),
            Self::OpenAi(completion) => completion.end(usage, finish_reason, parts),
        };
        last + DONE
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
