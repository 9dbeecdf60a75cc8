//! Server-sent events of the binding: `data: {"response":"…"}`, a usage event, `[DONE]`.

use super::Usage;
use crate::engine::FinishReason;
use serde_json::{Value, json};

/// The last event of every stream that ends well.
pub const DONE: &str = "data: [DONE]\n\n";

/// A piece of text.
pub fn text_event(piece: &str) -> String {
    event(&json!({"response": piece}))
}

/// The last event before `[DONE]`.
pub fn usage_event(usage: &Usage, finish_reason: FinishReason) -> String {
    event(&json!({"response": "", "usage": usage, "finish_reason": finish_reason.as_str()}))
}

fn event(data: &Value) -> String {
    format!("data: {data}\n\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_one_line_of_json_each() {
        assert_eq!(text_event("a\n\"b\" 中"), "data: {\"response\":\"a\\n\\\"b\\\" 中\"}\n\n");
        let usage = Usage { prompt_tokens: 3, completion_tokens: 2, cached_tokens: 1 };
        assert_eq!(
            usage_event(&usage, FinishReason::Length),
            "data: {\"response\":\"\",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2,\"total_tokens\":5,\"prompt_tokens_details\":{\"cached_tokens\":1}},\"finish_reason\":\"length\"}\n\n"
        );
    }
}
