//! Output: generated text → what a client receives: one object, or server-sent events.

mod sse;
mod text;

pub use sse::{DONE, text_event, usage_event};
pub use text::AnswerText;

use crate::engine::FinishReason;
use serde::Serialize;
use serde_json::{Value, json};

/// Exact token counts of one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    pub prompt_tokens: usize,
    pub completion_tokens: usize,
    /// Prompt tokens that an earlier request had already computed.
    pub cached_tokens: usize,
}

impl Serialize for Usage {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        json!({
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        })
        .serialize(serializer)
    }
}

/// The answer as one object.
pub fn object(response: &str, usage: &Usage, finish_reason: FinishReason) -> Value {
    json!({"response": response, "usage": usage, "finish_reason": finish_reason.as_str()})
}
