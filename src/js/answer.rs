//! Answers that JavaScript reads: one object, a stream of server-sent events, or an HTTP response.

use super::convert::to_error;
use super::task::Task;
use crate::ai;
use crate::http::{Body, Response};
use js_sys::{JSON, Uint8Array};
use serde_json::json;
use std::cell::RefCell;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// An answer in progress: `None` while a task reads from it, and once it is complete. Unwind safe, because a task that panics has taken the
/// answer out.
type Slot = AssertUnwindSafe<Rc<RefCell<Option<ai::Answer>>>>;

/// The answer to an accepted request. Freeing it stops the computation.
#[wasm_bindgen]
pub struct Answer {
    slot: Slot,
    stream: bool,
    served_by: String,
    computed_by: Option<ai::ComputedBy>,
}

impl Answer {
    pub fn new(answer: ai::Answer) -> Self {
        let (stream, served_by, computed_by) = (answer.is_stream(), answer.served_by().to_owned(), answer.computed_by());
        Self { slot: AssertUnwindSafe(Rc::new(RefCell::new(Some(answer)))), stream, served_by, computed_by }
    }
}

#[wasm_bindgen]
impl Answer {
    /// Whether the request asked for a stream.
    #[wasm_bindgen(getter)]
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Name of the model file that answers.
    #[wasm_bindgen(getter, js_name = servedBy)]
    pub fn served_by(&self) -> String {
        self.served_by.clone()
    }

    /// Which backend computes the answer, as JSON text: `{backend, reason}`, or `null` if no model does.
    #[wasm_bindgen(getter, js_name = computedBy)]
    pub fn computed_by(&self) -> String {
        json!(self.computed_by).to_string()
    }

    /// The complete answer. The task resolves to `{response, tool_calls, usage, finish_reason}`, or to `undefined` if the answer was
    /// already read.
    pub fn object(&self) -> Task {
        let taken = self.slot.take();
        Task::new(async move {
            let Some(answer) = taken else { return Ok(JsValue::UNDEFINED) };
            let object = answer.object().await.map_err(|error| to_error(&error))?;
            // Passed as JSON text, so that JavaScript itself parses every number.
            JSON::parse(&object.to_string())
        })
    }

    /// The next bytes of the event stream. The task resolves to a `Uint8Array`, or to `undefined` after the last.
    pub fn chunk(&self) -> Task {
        next_chunk(&self.slot)
    }
}

/// The response to an HTTP request. Freeing it stops the computation.
#[wasm_bindgen]
pub struct HttpAnswer {
    status: u16,
    headers: Vec<(String, String)>,
    body: Option<Vec<u8>>,
    slot: Slot,
    stream: bool,
}

impl HttpAnswer {
    pub fn new(response: Response) -> Self {
        let (body, answer) = match response.body {
            Body::Whole(bytes) => (Some(bytes), None),
            Body::Stream(answer) => (None, Some(*answer)),
        };
        let stream = answer.is_some();
        Self { status: response.status, headers: response.headers, body, slot: AssertUnwindSafe(Rc::new(RefCell::new(answer))), stream }
    }
}

#[wasm_bindgen]
impl HttpAnswer {
    #[wasm_bindgen(getter)]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// JSON text: `[[name, value], …]`.
    #[wasm_bindgen(getter)]
    pub fn headers(&self) -> String {
        json!(self.headers).to_string()
    }

    /// The complete body; `undefined` for a stream.
    #[wasm_bindgen(getter)]
    pub fn body(&self) -> Option<Vec<u8>> {
        self.body.clone()
    }

    /// Whether the body is a stream, to be read with `chunk`.
    #[wasm_bindgen(getter)]
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// The next bytes of a stream. The task resolves to a `Uint8Array`, or to `undefined` after the last.
    pub fn chunk(&self) -> Task {
        next_chunk(&self.slot)
    }
}

fn next_chunk(slot: &Slot) -> Task {
    let slot = Rc::clone(slot);
    Task::new(async move {
        let Some(mut answer) = slot.take() else { return Ok(JsValue::UNDEFINED) };
        match answer.next_chunk().await {
            Ok(Some(events)) => {
                slot.replace(Some(answer));
                Ok(Uint8Array::from(events.as_slice()).into())
            }
            Ok(None) => Ok(JsValue::UNDEFINED),
            Err(error) => Err(to_error(&error)),
        }
    })
}
