//! Model files that JavaScript reads: any object with `name` and `open(offset)`.

use super::task::settled;
use crate::gguf::{ByteStream, LocalFuture, OpenedSource, Others, Source, SourceError};
use js_sys::{Array, Promise, Reflect, Uint8Array};
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// Maximum bytes that are copied into wasm memory at once.
const PIECE: u32 = 1 << 20;

#[wasm_bindgen]
extern "C" {
    /// A model file, made by the package's `source.js`.
    #[derive(Clone)]
    pub type HostSource;

    #[wasm_bindgen(method, getter)]
    fn name(this: &HostSource) -> String;

    /// Equal for sources of the same bytes only; custom sources have none.
    #[wasm_bindgen(method, getter)]
    fn identity(this: &HostSource) -> Option<String>;

    #[wasm_bindgen(method, getter)]
    fn sha256(this: &HostSource) -> Option<String>;

    /// The other files of the model, if this may be one of several.
    #[wasm_bindgen(method, getter)]
    fn others(this: &HostSource) -> Option<Array>;

    /// Whether the configuration lists the others; otherwise they follow from the name.
    #[wasm_bindgen(method, getter)]
    fn listed(this: &HostSource) -> Option<bool>;

    /// Starts reading at `offset` (bytes). The promise resolves to a `HostStream`.
    #[wasm_bindgen(method, catch)]
    fn open(this: &HostSource, offset: f64) -> Result<Promise, JsValue>;

    /// A read in progress.
    pub type HostStream;

    /// Length of the whole file in bytes, if it is known.
    #[wasm_bindgen(method, getter)]
    fn size(this: &HostStream) -> Option<f64>;

    /// The promise resolves to the next `Uint8Array`, or to `undefined` at the end.
    #[wasm_bindgen(method, catch)]
    fn read(this: &HostStream) -> Result<Promise, JsValue>;

    #[wasm_bindgen(method, catch)]
    fn cancel(this: &HostStream) -> Result<JsValue, JsValue>;
}

/// A [`Source`] over a JavaScript object.
pub struct JsSource(pub HostSource);

impl Source for JsSource {
    fn name(&self) -> String {
        self.0.name()
    }

    fn identity(&self) -> String {
        self.0.identity().unwrap_or_else(|| self.0.name())
    }

    fn sha256(&self) -> Option<String> {
        self.0.sha256()
    }

    fn others(&self) -> Others {
        let others = self.0.others().unwrap_or_default();
        let sources = others.iter().map(|source| Rc::new(JsSource(source.unchecked_into())) as Rc<dyn Source>).collect();
        Others { sources, listed: self.0.listed().unwrap_or_default() }
    }

    fn open(&self, offset: u64) -> LocalFuture<'_, Result<OpenedSource, SourceError>> {
        Box::pin(async move {
            let opening = self.0.open(offset as f64).map_err(failed)?;
            let stream = settled(opening).await.map_err(failed)?.unchecked_into::<HostStream>();
            let size = stream.size().filter(|size| *size >= 0.0).map(|size| size as u64);
            Ok(OpenedSource { size, stream: stream_of(stream) })
        })
    }
}

struct JsStream {
    stream: HostStream,
    /// The last chunk; returned in pieces of [`PIECE`].
    chunk: Uint8Array,
    consumed: u32,
}

impl ByteStream for JsStream {
    fn next(&mut self) -> LocalFuture<'_, Result<Option<Vec<u8>>, SourceError>> {
        Box::pin(async move {
            if self.consumed == self.chunk.length() {
                let read = settled(self.stream.read().map_err(failed)?).await.map_err(failed)?;
                match read.dyn_into::<Uint8Array>() {
                    Ok(chunk) => self.chunk = chunk,
                    Err(_) => return Ok(None),
                }
                self.consumed = 0;
            }
            let end = self.chunk.length().min(self.consumed.saturating_add(PIECE));
            let piece = self.chunk.subarray(self.consumed, end).to_vec();
            self.consumed = end;
            Ok(Some(piece))
        })
    }
}

impl Drop for JsStream {
    fn drop(&mut self) {
        // Closes a connection that was not read to its end. A failure here has no consequences.
        let _ = self.stream.cancel();
    }
}

/// The bytes of a read in progress.
pub fn stream_of(stream: HostStream) -> Box<dyn ByteStream> {
    Box::new(JsStream { stream, chunk: Uint8Array::new_with_length(0), consumed: 0 })
}

/// Converts an error of `source.js`, whose `kind` says whether retrying may help.
fn failed(error: JsValue) -> SourceError {
    let text = |key: &str| Reflect::get(&error, &key.into()).ok().and_then(|value| value.as_string());
    let message = text("message").or_else(|| error.as_string()).unwrap_or_else(|| "unknown reason".into());
    match text("kind").as_deref() {
        Some("not-found") => SourceError::NotFound(message),
        Some("refused") => SourceError::Refused(message),
        Some("changed") => SourceError::Changed(message),
        Some("busy") => {
            let wait_ms = Reflect::get(&error, &"waitMs".into()).ok().and_then(|value| value.as_f64()).unwrap_or_default();
            SourceError::Busy { message, wait_ms: wait_ms as u32 }
        }
        _ => SourceError::Interrupted(message),
    }
}
