//! OpenAI's chat completions: one object, or chunks, each with `choices`.

use super::{CompleteAnswer, Part, Usage, event};
use crate::engine::FinishReason;
use crate::tools::ToolCall;
use serde_json::{Value, json};

/// The fields that every object of one completion has in common.
#[derive(Debug, Clone)]
pub struct Completion {
    pub id: String,
    pub model: String,
    /// Unix time in seconds.
    pub created: u64,
    /// Whether a stream ends with a chunk of token counts (`stream_options.include_usage`).
    pub include_usage: bool,
}

impl Completion {
    /// The answer as one `chat.completion`.
    pub fn object(&self, whole: &CompleteAnswer) -> Value {
        let mut message = json!({"role": "assistant", "content": whole.text, "refusal": null});
        if !whole.calls.is_empty() {
            if whole.text.is_empty() {
                message["content"] = Value::Null;
            }
            message["tool_calls"] = whole.calls.iter().map(ToolCall::nested).collect();
        }
        let choice = json!({"index": 0, "message": message, "logprobs": null, "finish_reason": whole.finish_reason.as_str()});
        json!({
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [choice],
            "usage": whole.usage,
        })
    }

    /// The event for a part: see [`Dialect::part`](super::Dialect::part).
    pub fn part(&self, part: &Part, index: usize, call: usize) -> String {
        let mut delta = match part {
            Part::Text(text) => json!({"content": text}),
            Part::Call(complete) => {
                let mut complete = complete.nested();
                complete["index"] = call.into();
                json!({"tool_calls": [complete]})
            }
        };
        // Only the first chunk has the role.
        if index == 0 {
            delta["role"] = "assistant".into();
        }
        self.chunk(json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": null}]), None)
    }

    /// The last chunks before `[DONE]`: the finish reason and, if requested, the token counts.
    pub fn end(&self, usage: &Usage, finish_reason: FinishReason, parts: usize) -> String {
        let delta = if parts == 0 { json!({"role": "assistant", "content": ""}) } else { json!({}) };
        let last = json!([{"index": 0, "delta": delta, "logprobs": null, "finish_reason": finish_reason.as_str()}]);
        let mut events = self.chunk(last, None);
        if self.include_usage {
            events += &self.chunk(json!([]), Some(usage));
        }
        events
    }

    fn chunk(&self, choices: Value, usage: Option<&Usage>) -> String {
        let mut chunk = json!({
            "id": self.id,
            "object": "chat.completion.chunk",
            "created": self.created,
            "model": self.model,
            "choices": choices,
        });
        if self.include_usage {
            chunk["usage"] = json!(usage);
        }
        event(&chunk)
    }
}
