//! Log probabilities of an answer's tokens, as OpenAI's chat completions write them.

use serde_json::{Value, json};

/// What JSON has in place of −∞.
const IMPOSSIBLE: f32 = -9999.0;

/// A token of an answer with its log probability.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprob {
    pub bytes: Vec<u8>,
    /// Natural logarithm.
    pub logprob: f32,
    /// The likeliest tokens at its place.
    pub top: Vec<(Vec<u8>, f32)>,
}

/// The value of `logprobs` of a choice: `null` if they were not asked for.
pub fn logprobs(tokens: &[TokenLogprob], wanted: bool) -> Value {
    if !wanted {
        return Value::Null;
    }
    let listed = tokens.iter().map(|token| {
        let mut listed = entry(&token.bytes, token.logprob);
        listed["top_logprobs"] = token.top.iter().map(|(bytes, logprob)| entry(bytes, *logprob)).collect();
        listed
    });
    json!({"content": listed.collect::<Vec<Value>>(), "refusal": null})
}

fn entry(bytes: &[u8], logprob: f32) -> Value {
    json!({"token": String::from_utf8_lossy(bytes), "logprob": logprob.max(IMPOSSIBLE), "bytes": bytes})
}
