//! Whole requests on the real model, without JavaScript: what an answer is, and what the engine promises.

mod common;

use common::{LLAMA2, LLAMA31, ai_with, real_model, start, text_of};
use serde_json::json;
use workers_ai_local::ai::Ai;
use workers_ai_local::engine::{FinishReason, Limits};
use workers_ai_local::error::ErrorCode;

fn real_ai() -> Ai {
    ai_with(real_model(), Limits::default()).0
}

#[test]
fn a_question_is_answered_and_counted() {
    let ai = real_ai();
    pollster::block_on(async {
        let mut answer = start(&ai, LLAMA31, json!({"prompt": "What is the capital of France?", "temperature": 0, "max_tokens": 24}))
            .await
            .expect("started");
        let text = text_of(&mut answer).await.expect("text");
        println!("{text}");
        assert!(text.contains("Paris"), "{text}");
    });
}
