//! What computes embeddings, as the package provides it.

use super::task::settled;
use crate::ai::{Embeddings, Vectors};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::LocalFuture;
use crate::input::Pooling;
use js_sys::{Promise, Reflect};
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    /// Made by the package's `embeddings.js`.
    pub type HostEmbeddings;

    /// The configured ids of embedding models.
    #[wasm_bindgen(method, getter)]
    fn ids(this: &HostEmbeddings) -> Vec<String>;

    #[wasm_bindgen(method, catch)]
    fn embed(this: &HostEmbeddings, model: &str, texts: Vec<String>, cls: bool) -> std::result::Result<HostEmbedding, JsValue>;

    type HostEmbedding;

    /// Resolves to `HostVectors`.
    #[wasm_bindgen(method, getter)]
    fn vectors(this: &HostEmbedding) -> Promise;

    /// Nobody waits for the vectors any more.
    #[wasm_bindgen(method, catch)]
    fn cancel(this: &HostEmbedding) -> std::result::Result<JsValue, JsValue>;

    type HostVectors;

    #[wasm_bindgen(method, getter)]
    fn numbers(this: &HostVectors) -> Vec<f32>;

    #[wasm_bindgen(method, getter)]
    fn width(this: &HostVectors) -> u32;

    #[wasm_bindgen(method, getter)]
    fn tokens(this: &HostVectors) -> u32;

    #[wasm_bindgen(method, getter, js_name = servedBy)]
    fn served_by(this: &HostVectors) -> String;
}

/// Vectors whose request may end before they come.
struct Embedding {
    host: HostEmbedding,
    come: bool,
}

impl Drop for Embedding {
    fn drop(&mut self) {
        if !self.come {
            // A failure here has no consequences.
            let _ = self.host.cancel();
        }
    }
}

/// [`Embeddings`] over a JavaScript object.
pub struct JsEmbeddings {
    host: HostEmbeddings,
    ids: Vec<String>,
}

impl JsEmbeddings {
    pub fn new(host: HostEmbeddings) -> Self {
        Self { ids: host.ids(), host }
    }
}

impl Embeddings for JsEmbeddings {
    fn own_ids(&self) -> &[String] {
        &self.ids
    }

    fn embed<'a>(&'a self, model_id: &'a str, texts: &'a [String], pooling: Pooling) -> LocalFuture<'a, Result<Vectors>> {
        Box::pin(async move {
            let host = self.host.embed(model_id, texts.to_vec(), pooling == Pooling::Cls).map_err(|error| failed(&error))?;
            let mut embedding = Embedding { host, come: false };
            let vectors = settled(embedding.host.vectors()).await;
            embedding.come = true;
            let vectors = vectors.map_err(|error| failed(&error))?.unchecked_into::<HostVectors>();
            Ok(Vectors {
                numbers: vectors.numbers(),
                width: vectors.width() as usize,
                tokens: vectors.tokens() as usize,
                served_by: vectors.served_by(),
                pooling: Some(pooling),
            })
        })
    }
}

/// The host's errors have codes of Workers AI.
fn failed(error: &JsValue) -> AiError {
    let get = |key: &str| Reflect::get(error, &key.into()).unwrap_or(JsValue::UNDEFINED);
    let number = |key: &str| get(key).as_f64().map(|number| number as u16);
    let text = get("description").as_string().or_else(|| get("message").as_string()).unwrap_or_else(|| "unknown reason".into());
    match (number("internalCode"), number("httpCode")) {
        (Some(internal), Some(http)) => AiError::new(ErrorCode::from_numbers(internal, http), text),
        _ => AiError::invalid_data(text),
    }
}
