//! What answers in place of the local models, as the package configures it.

use super::source::{HostStream, stream_of};
use super::task::settled;
use crate::ai::{Forwarded, Reply, Substitute, error_of};
use crate::error::{AiError, Result};
use crate::gguf::LocalFuture;
use js_sys::{Promise, Reflect};
use serde_json::Value;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// Made by the package's `substitute.js`.
    pub type HostSubstitute;

    /// `input` is JSON text.
    #[wasm_bindgen(method, catch)]
    fn ask(this: &HostSubstitute, model: &str, input: &str, openai: bool) -> std::result::Result<HostQuestion, JsValue>;

    #[wasm_bindgen(method, getter)]
    fn records(this: &HostSubstitute) -> bool;

    /// `input` and `answer` are JSON text.
    #[wasm_bindgen(method, catch)]
    fn record(this: &HostSubstitute, model: &str, input: &str, answer: &str) -> std::result::Result<JsValue, JsValue>;

    type HostQuestion;

    /// Resolves to a `HostReply`, or to `undefined` if a local model is to answer.
    #[wasm_bindgen(method, getter)]
    fn reply(this: &HostQuestion) -> Promise;

    /// Nobody waits for the reply any more.
    #[wasm_bindgen(method, catch)]
    fn cancel(this: &HostQuestion) -> std::result::Result<JsValue, JsValue>;

    type HostReply;

    /// The service's answer as server-sent events.
    #[wasm_bindgen(method, getter)]
    fn stream(this: &HostReply) -> Option<HostStream>;

    /// Without a stream, JSON text with one of these: `prepared`, the parts of an answer; `object`, that of the service; `error`, that of the service as
    /// the binding's body has it.
    #[wasm_bindgen(method, getter)]
    fn text(this: &HostReply) -> Option<String>;
}

/// A question whose request may end before the reply.
struct Question {
    host: HostQuestion,
    replied: bool,
}

impl Drop for Question {
    fn drop(&mut self) {
        if !self.replied {
            // A failure here has no consequences.
            let _ = self.host.cancel();
        }
    }
}

/// A [`Substitute`] over a JavaScript object.
pub struct JsSubstitute(pub HostSubstitute);

impl Substitute for JsSubstitute {
    fn ask<'a>(&'a self, model_id: &'a str, input: &'a Value, openai: bool) -> LocalFuture<'a, Result<Option<Reply>>> {
        Box::pin(async move {
            let host = self.0.ask(model_id, &input.to_string(), openai).map_err(|error| failed(&error))?;
            let mut question = Question { host, replied: false };
            let reply = settled(question.host.reply()).await;
            question.replied = true;
            let reply = reply.map_err(|error| failed(&error))?;
            if reply.is_undefined() {
                return Ok(None);
            }
            let reply = reply.unchecked_into::<HostReply>();
            if let Some(stream) = reply.stream() {
                return Ok(Some(Reply::Forwarded(Forwarded::Stream(stream_of(stream)))));
            }
            let mut value: Value =
                serde_json::from_str(&reply.text().unwrap_or_default()).map_err(|error| AiError::invalid_data(error.to_string()))?;
            match value.get_mut("prepared") {
                Some(prepared) => Ok(Some(Reply::Prepared(prepared.take()))),
                None => match error_of(&value["error"]) {
                    Some(error) => Err(error),
                    None => Ok(Some(Reply::Forwarded(Forwarded::Object(value["object"].take())))),
                },
            }
        })
    }

    fn records(&self) -> bool {
        self.0.records()
    }

    fn record(&self, model_id: &str, input: &Value, answer: &Value) {
        // `substitute.js` reports what fails.
        let _ = self.0.record(model_id, &input.to_string(), &answer.to_string());
    }
}

/// What the program's own functions throw is part of the message.
fn failed(error: &JsValue) -> AiError {
    let message = Reflect::get(error, &"message".into()).ok().and_then(|message| message.as_string());
    AiError::invalid_data(message.or_else(|| error.as_string()).unwrap_or_else(|| "unknown reason".into()))
}
