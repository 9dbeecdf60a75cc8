//! OpenAI's chat completions: one object, or chunks, each with `choices`. Also the older text completions, which some models of Workers AI
//! answer a prompt with.

use super::logprobs::logprobs;
use super::{AnswerShape, Choice, CompleteAnswer, Part, Progress, Usage, add_thought, event};
use crate::tools::ToolCall;
use serde_json::{Value, json};

/// What an answer is called, and how its choices hold the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `chat.completion`, with messages.
    Chat,
    /// The same, of models whose published type knows no content that is `null`, beside calls.
    ChatWithText,
    /// `text_completion`, with texts.
    Text,
}

/// The fields that every object of one completion has in common, and how far it is written.
#[derive(Debug, Clone)]
pub struct Completion {
    pub id: String,
    pub model: String,
    /// Unix time in seconds.
    pub created: u64,
    pub kind: Kind,
    /// Whether a stream ends with a chunk of token counts (`stream_options.include_usage`).
    pub include_usage: bool,
    /// Per choice that has begun: the number of calls so far.
    begun: Vec<Option<usize>>,
}

impl Completion {
    /// Nothing is written yet.
    pub fn new(id: String, model: &str, created: u64, kind: Kind, include_usage: bool) -> Self {
        Self { id, model: model.to_owned(), created, kind, include_usage, begun: Vec::new() }
    }

    /// The answer as one object.
    pub fn object(&self, whole: &CompleteAnswer, shape: AnswerShape) -> Value {
        let choices = whole.choices.iter().enumerate().map(|(index, choice)| match self.kind {
            Kind::Chat => chat_choice(index, choice, shape, Value::Null),
            Kind::ChatWithText => chat_choice(index, choice, shape, "".into()),
            Kind::Text => {
                let reason = choice.finish_reason.as_str();
                let logprobs = logprobs(&choice.logprobs, shape.logprobs);
                let mut listed = json!({"index": index, "text": choice.text, "logprobs": logprobs, "finish_reason": reason});
                add_thought(&mut listed, &choice.thought);
                listed
            }
        });
        json!({
            "id": self.id,
            "object": if self.kind == Kind::Text { "text_completion" } else { "chat.completion" },
            "created": self.created,
            "model": self.model,
            "choices": choices.collect::<Vec<Value>>(),
            "usage": whole.usage,
        })
    }

    /// The chunk for what happened.
    pub fn events(&mut self, progress: &Progress, shape: AnswerShape) -> String {
        let (Progress::Part { choice, logprobs: tokens, .. } | Progress::Finished { choice, logprobs: tokens, .. }) = progress;
        let reason = match progress {
            Progress::Part { .. } => Value::Null,
            Progress::Finished { reason, .. } => reason.as_str().into(),
        };
        let mut change = match self.kind {
            Kind::Chat | Kind::ChatWithText => json!({"index": choice, "delta": self.delta(*choice, progress)}),
            Kind::Text => {
                let text = if let Progress::Part { part: Part::Text(text), .. } = progress { text.as_str() } else { "" };
                let mut change = json!({"index": choice, "text": text});
                if let Progress::Part { part: Part::Thought(thought), .. } = progress {
                    add_thought(&mut change, thought);
                }
                change
            }
        };
        change["logprobs"] = logprobs(tokens, shape.logprobs && !tokens.is_empty());
        change["finish_reason"] = reason;
        self.chunk(json!([change]), None)
    }

    /// The last chunk before `[DONE]`, if there is a further one: the token counts.
    pub fn end(&self, usage: &Usage) -> String {
        if self.include_usage { self.chunk(json!([]), Some(usage)) } else { String::new() }
    }

    fn delta(&mut self, choice: usize, progress: &Progress) -> Value {
        while self.begun.len() <= choice {
            self.begun.push(None);
        }
        let Some(begun) = self.begun.get_mut(choice) else { return json!({}) };
        let is_first = begun.is_none();
        let calls = begun.get_or_insert(0);
        let mut delta = match progress {
            Progress::Part { part: Part::Text(text), .. } => json!({"content": text}),
            Progress::Part { part: Part::Thought(thought), .. } => {
                let mut delta = json!({});
                add_thought(&mut delta, thought);
                delta
            }
            Progress::Part { part: Part::Call(call), .. } => {
                let mut call = call.nested();
                call["index"] = (*calls).into();
                *calls += 1;
                json!({"tool_calls": [call]})
            }
            Progress::Finished { .. } if is_first => json!({"content": ""}),
            Progress::Finished { .. } => json!({}),
        };
        // Only the first chunk has the role.
        if is_first {
            delta["role"] = "assistant".into();
        }
        delta
    }

    fn chunk(&self, choices: Value, usage: Option<&Usage>) -> String {
        let mut chunk = json!({
            "id": self.id,
            "object": if self.kind == Kind::Text { "text_completion" } else { "chat.completion.chunk" },
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

/// `nothing`: the content of an answer that only calls tools.
fn chat_choice(index: usize, choice: &Choice, shape: AnswerShape, nothing: Value) -> Value {
    let mut message = json!({"role": "assistant", "content": choice.text, "refusal": null});
    add_thought(&mut message, &choice.thought);
    if !choice.calls.is_empty() {
        if choice.text.is_empty() {
            message["content"] = nothing;
        }
        message["tool_calls"] = choice.calls.iter().map(ToolCall::nested).collect();
    }
    json!({
        "index": index,
        "message": message,
        "logprobs": logprobs(&choice.logprobs, shape.logprobs),
        "finish_reason": choice.finish_reason.as_str(),
    })
}
