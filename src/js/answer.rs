//! An answer that JavaScript draws out, as one object or as a stream of server-sent events.

use super::convert::{to_error, to_js};
use super::task::Task;
use crate::ai::Generation;
use crate::engine::FinishReason;
use crate::error::Result;
use crate::output;
use js_sys::Uint8Array;
use std::cell::RefCell;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// A request that was accepted. Freeing it ends the computation.
#[wasm_bindgen]
pub struct Answer {
    /// `None` while a task draws from it, and once it is complete.
    generation: Rc<RefCell<Option<Generation>>>,
    stream: bool,
    served_by: String,
}

impl Answer {
    pub fn new(generation: Generation, stream: bool) -> Self {
        let served_by = generation.served_by().to_owned();
        Self { generation: Rc::new(RefCell::new(Some(generation))), stream, served_by }
    }
}

#[wasm_bindgen]
impl Answer {
    /// Whether a stream was asked for.
    #[wasm_bindgen(getter)]
    pub fn stream(&self) -> bool {
        self.stream
    }

    /// Name of the model file that answers.
    #[wasm_bindgen(getter, js_name = servedBy)]
    pub fn served_by(&self) -> String {
        self.served_by.clone()
    }

    /// The whole answer; the task gives `{response, usage, finish_reason}`.
    pub fn object(&self) -> Task {
        let taken = self.generation.take();
        Task::new(async move {
            let Some(mut generation) = taken else { return Ok(JsValue::UNDEFINED) };
            let whole = async {
                let mut text = String::new();
                while let Some(piece) = generation.next_piece().await? {
                    text.push_str(&piece);
                }
                let reason = generation.finish_reason().unwrap_or(FinishReason::Stop);
                Ok(output::object(&text, generation.usage(), reason))
            };
            let whole: Result<_> = whole.await;
            whole.map(|object| to_js(&object)).map_err(|error| to_error(&error))
        })
    }

    /// The next bytes of the event stream; the task gives `undefined` after the last.
    pub fn chunk(&self) -> Task {
        let slot = Rc::clone(&self.generation);
        Task::new(async move {
            let Some(mut generation) = slot.take() else { return Ok(JsValue::UNDEFINED) };
            match generation.next_piece().await {
                Ok(Some(piece)) => {
                    let event = output::text_event(&piece);
                    slot.replace(Some(generation));
                    Ok(Uint8Array::from(event.as_bytes()).into())
                }
                Ok(None) => {
                    let reason = generation.finish_reason().unwrap_or(FinishReason::Stop);
                    let last = output::usage_event(generation.usage(), reason) + output::DONE;
                    Ok(Uint8Array::from(last.as_bytes()).into())
                }
                Err(error) => Err(to_error(&error)),
            }
        })
    }
}
