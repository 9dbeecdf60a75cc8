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

    /// The promise resolves to a `HostReply`, or to `undefined` if a local model is to answer. `input` is JSON text.
    #[wasm_bindgen(method, catch)]
    fn ask(this: &HostSubstitute, model: &str, input: &str, openai: bool) -> std::result::Result<Promise, JsValue>;

    #[wasm_bindgen(method, getter)]
    fn records(this: &HostSubstitute) -> bool;

    /// `input` and `answer` are JSON text.
    #[wasm_bindgen(method, catch)]
    fn record(this: &HostSubstitute, model: &str, input: &str, answer: &str) -> std::result::Result<JsValue, JsValue>;

    /// A reply: exactly one of its properties is set. All but `stream` are JSON text.
    type HostReply;

    /// The parts of an answer.
    #[wasm_bindgen(method, getter)]
    fn prepared(this: &HostReply) -> Option<String>;

    /// The service's answer as one object.
    #[wasm_bindgen(method, getter)]
    fn object(this: &HostReply) -> Option<String>;

    /// The service's answer as server-sent events.
    #[wasm_bindgen(method, getter)]
    fn stream(this: &HostReply) -> Option<HostStream>;

    /// The service's error, as the binding's body has it.
    #[wasm_bindgen(method, getter)]
    fn error(this: &HostReply) -> Option<String>;
}

/// A [`Substitute`] over a JavaScript object.
pub struct JsSubstitute(pub HostSubstitute);

impl Substitute for JsSubstitute {
    fn ask<'a>(&'a self, model_id: &'a str, input: &'a Value, openai: bool) -> LocalFuture<'a, Result<Option<Reply>>> {
        Box::pin(async move {
            let asked = self.0.ask(model_id, &input.to_string(), openai).map_err(|error| failed(&error))?;
            let reply = settled(asked).await.map_err(|error| failed(&error))?;
            if reply.is_undefined() {
                return Ok(None);
            }
            let reply = reply.unchecked_into::<HostReply>();
            if let Some(stream) = reply.stream() {
                return Ok(Some(Reply::Forwarded(Forwarded::Stream(stream_of(stream)))));
            }
            let value = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| AiError::invalid_data(error.to_string()));
            if let Some(prepared) = reply.prepared() {
                return Ok(Some(Reply::Prepared(value(&prepared)?)));
            }
            if let Some(object) = reply.object() {
                return Ok(Some(Reply::Forwarded(Forwarded::Object(value(&object)?))));
            }
            let error = value(&reply.error().unwrap_or_default())?;
            Err(error_of(&error).unwrap_or_else(|| AiError::invalid_data(error.to_string())))
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
