//! What the package's `embedding-engine.js` calls.

use crate::embedder::{self, Pooling};
use crate::error::{Error, Result};
use crate::reader;
use js_sys::{Error as JsError, Float32Array, Reflect};
use sha2::{Digest, Sha256};
use std::panic::AssertUnwindSafe;
use wasm_bindgen::prelude::*;

/// Runs once per instance. Makes a panic (a bug) write its message and location to the console.
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// An `Error` with the codes of Workers AI as `internalCode` and `httpCode`.
fn thrown(error: &Error) -> JsValue {
    let (internal, http) = match error {
        Error::InvalidData(_) => (5004, 400),
        Error::OutOfMemory(_) => (3040, 429),
    };
    let thrown = JsError::new(&error.to_string());
    for (key, value) in [("internalCode", internal), ("httpCode", http)] {
        // A new object takes every property.
        let _ = Reflect::set(&thrown, &key.into(), &JsValue::from(value));
    }
    thrown.into()
}

fn to_js<T>(result: Result<T>) -> std::result::Result<T, JsValue> {
    result.map_err(|error| thrown(&error))
}

/// A file that is being read: the weights, or a small one beside them.
#[wasm_bindgen]
pub struct Reader {
    inner: AssertUnwindSafe<reader::Reader>,
    /// If the file's SHA-256 is wanted.
    hash: Option<Sha256>,
}

#[wasm_bindgen]
impl Reader {
    #[wasm_bindgen(constructor)]
    pub fn new(verifies: bool) -> Self {
        Self { inner: AssertUnwindSafe(reader::Reader::new()), hash: verifies.then(Sha256::new) }
    }

    /// Takes the next bytes of the weights.
    pub fn push(&mut self, bytes: &[u8]) -> std::result::Result<(), JsValue> {
        if let Some(hash) = &mut self.hash {
            hash.update(bytes);
        }
        to_js(self.inner.push(bytes))
    }

    /// The SHA-256 of the bytes so far, as hexadecimal digits; `undefined` unless the reader verifies.
    pub fn sha256(&self) -> Option<String> {
        self.hash.clone().map(hexadecimal)
    }

    /// The model. `config` and `tokenizer` are the contents of the other two files; a GGUF has none.
    pub fn finish(self, config: Option<Vec<u8>>, tokenizer: Option<Vec<u8>>) -> std::result::Result<Embedder, JsValue> {
        let model = to_js(self.inner.0.finish(config.as_deref(), tokenizer.as_deref()))?;
        Ok(Embedder(AssertUnwindSafe(model)))
    }
}

/// The SHA-256 of a file, as hexadecimal digits.
#[wasm_bindgen]
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(Sha256::new_with_prefix(bytes))
}

fn hexadecimal(hash: Sha256) -> String {
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A model in memory. Unwind safe: nothing of it changes.
#[wasm_bindgen]
pub struct Embedder(AssertUnwindSafe<embedder::Embedder>);

#[wasm_bindgen]
impl Embedder {
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> usize {
        self.0.width()
    }

    /// Tokenises texts. `cls`: whether the first token's vector is a text's, instead of the mean.
    pub fn start(&self, texts: Vec<String>, cls: bool) -> std::result::Result<Job, JsValue> {
        let pooling = if cls { Pooling::Cls } else { Pooling::Mean };
        Ok(Job(AssertUnwindSafe(to_js(self.0.start(&texts, pooling))?)))
    }

    /// Computes the next batch of a job. Returns whether it was the last one.
    pub fn step(&self, job: &mut Job) -> std::result::Result<bool, JsValue> {
        to_js(self.0.step(&mut job.0))
    }
}

/// Texts that are being embedded.
#[wasm_bindgen]
pub struct Job(AssertUnwindSafe<embedder::Job>);

#[wasm_bindgen]
impl Job {
    /// The vectors, one after the other, and at the end the number of tokens of all texts.
    pub fn finish(self) -> Float32Array {
        let done = self.0.0.finish();
        let out = Float32Array::new_with_length(done.vectors.len() as u32 + 1);
        out.subarray(0, done.vectors.len() as u32).copy_from(&done.vectors);
        out.set_index(done.vectors.len() as u32, done.tokens as f32);
        out
    }
}
