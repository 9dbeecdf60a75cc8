//! Substitutes for a local model: answers that were prepared (a script, a record of earlier answers), or that the real service gives.

use crate::engine::FinishReason;
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::{ByteStream, LocalFuture, SourceError};
use crate::output::{Part, Progress, Usage};
use serde_json::{Value, json};
use std::rc::Rc;

/// What may answer in place of the local models.
pub trait Substitute {
    /// The reply to a request, `None` if a local model is to answer it. `input` is not validated yet; `openai`: the answer is written as a chat completion, whatever the
    /// model.
    ///
    /// # Errors
    ///
    /// Of the service, if it was asked; 5004 if the substitute itself fails.
    fn ask<'a>(&'a self, model_id: &'a str, input: &'a Value, openai: bool) -> LocalFuture<'a, Result<Option<Reply>>>;

    /// Whether it wants to know what the local models answer.
    fn records(&self) -> bool;

    /// Receives a local model's answer, in the form of [`Prepared`](super::Prepared).
    fn record(&self, model_id: &str, input: &Value, answer: &Value);
}

/// A substitute's reply.
pub enum Reply {
    /// The parts of an answer: see [`Prepared`](super::Prepared).
    Prepared(Value),
    /// The service's answer, which is passed on as it is.
    Forwarded(Forwarded),
}

/// An answer of the service, in the dialect of the request.
pub enum Forwarded {
    Object(Value),
    /// Server-sent events.
    Stream(Box<dyn ByteStream>),
}

impl Forwarded {
    /// The next bytes of a stream.
    ///
    /// # Errors
    ///
    /// 3008 if the connection breaks off.
    pub async fn next(&mut self) -> Result<Option<Vec<u8>>> {
        match self {
            Self::Object(_) => Ok(None),
            Self::Stream(stream) => stream
                .next()
                .await
                .map_err(|error| AiError::new(ErrorCode::Aborted, format!("The answer of the service broke off: {}", message_of(error)))),
        }
    }
}

fn message_of(error: SourceError) -> String {
    match error {
        SourceError::NotFound(text) | SourceError::Refused(text) | SourceError::Changed(text) | SourceError::Interrupted(text) => text,
        SourceError::Busy { message, .. } => message,
    }
}

/// The error of a body as [`AiError::wire_body`] makes it.
pub fn error_of(body: &Value) -> Option<AiError> {
    let number = |key: &str| body[key].as_u64().and_then(|number| u16::try_from(number).ok());
    let code = ErrorCode::from_numbers(number("internalCode")?, number("httpCode")?);
    Some(AiError::new(code, body["description"].as_str().unwrap_or_default()))
}

/// Collects a local model's answers to a request for a substitute that records.
pub struct Recorder {
    pub substitute: Rc<dyn Substitute>,
    pub model_id: String,
    pub input: Value,
    /// By their choices; of each its parts and how it ended.
    choices: Vec<(Vec<Value>, FinishReason)>,
}

impl Recorder {
    pub fn new(substitute: Rc<dyn Substitute>, model_id: &str, input: Value) -> Self {
        Self { substitute, model_id: model_id.to_owned(), input, choices: Vec::new() }
    }

    pub fn progress(&mut self, progress: &Progress) {
        match progress {
            Progress::Part { choice, part, .. } => self.choice(*choice).0.push(match part {
                Part::Thought(thought) => json!({"thought": thought}),
                Part::Text(text) => json!({"text": text}),
                Part::Call(call) => json!({"call": {"name": call.name, "arguments": call.arguments}}),
            }),
            Progress::Finished { choice, reason, .. } => self.choice(*choice).1 = *reason,
        }
    }

    fn choice(&mut self, index: usize) -> &mut (Vec<Value>, FinishReason) {
        if self.choices.len() <= index {
            self.choices.resize_with(index + 1, Default::default);
        }
        &mut self.choices[index]
    }

    /// All answers are complete.
    pub fn finished(mut self, usage: &Usage) {
        self.choice(0);
        let mut choices = self.choices.into_iter().map(|(parts, reason)| json!({"parts": parts, "finish_reason": reason.as_str()}));
        let mut answer = choices.next().unwrap_or_default();
        answer["usage"] = json!(usage);
        let others: Vec<Value> = choices.collect();
        if !others.is_empty() {
            answer["others"] = Value::from(others);
        }
        self.substitute.record(&self.model_id, &self.input, &answer);
    }

    /// The answer ended with an error. Only errors that the same request causes every time are recorded.
    pub fn failed(mut self, error: &AiError) {
        use ErrorCode::{ContextWindowExceeded, InvalidInput, JsonModeNotMet};
        if matches!(error.code, ContextWindowExceeded | InvalidInput | JsonModeNotMet) {
            let answer = json!({"parts": self.choice(0).0, "error": error.wire_body()});
            self.substitute.record(&self.model_id, &self.input, &answer);
        }
    }
}
