//! The wasm class `Ai`.

use super::answer::Answer;
use super::convert::{property, to_error, to_js};
use super::source::{HostSource, JsSource};
use super::task::Task;
use crate::ai;
use crate::catalog;
use crate::engine::Limits;
use crate::gguf::Source;
use crate::input::TextGenerationRequest;
use js_sys::{Function, Object};
use serde_json::json;
use std::collections::HashMap;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// Runs once per instance: a panic (a bug) is written to the console with its place.
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// Text generation over local models. The package's `Ai` gives it its JavaScript manners.
#[wasm_bindgen]
pub struct Ai {
    inner: Rc<ai::Ai>,
}

#[wasm_bindgen]
impl Ai {
    /// `config`: `{ models: {id: source}, default: source, strict, caches, queue, onProgress, onWarning }`, its sources
    /// as `source.js` makes them.
    #[wasm_bindgen(constructor)]
    pub fn new(config: &JsValue) -> Ai {
        let mut models: HashMap<String, Rc<dyn Source>> = HashMap::new();
        let configured = property(config, "models");
        if configured.is_object() {
            for id in Object::keys(&Object::from(configured.clone())).iter().filter_map(|id| id.as_string()) {
                let source = property(&configured, &id).unchecked_into::<HostSource>();
                models.insert(id, Rc::new(JsSource(source)));
            }
        }
        let default = property(config, "default");
        let default = default.is_object().then(|| Rc::new(JsSource(default.unchecked_into())) as Rc<dyn Source>);
        let mut limits = Limits::default();
        let number = |key: &str| property(config, key).as_f64().filter(|value| *value >= 1.0).map(|value| value as usize);
        limits.caches = number("caches").unwrap_or(limits.caches);
        limits.sequences = number("queue").unwrap_or(limits.sequences);
        let on_progress = property(config, "onProgress").dyn_into::<Function>().ok().map(|callback| {
            Rc::new(move |progress: ai::ModelProgress| {
                let value = to_js(&json!({"model": progress.model, "loaded": progress.loaded, "total": progress.total}));
                // A callback that throws must not end the load.
                let _ = callback.call1(&JsValue::UNDEFINED, &value);
            }) as Rc<dyn Fn(ai::ModelProgress)>
        });
        let on_warning = property(config, "onWarning").dyn_into::<Function>().ok();
        let on_warning = Rc::new(move |text: &str| match &on_warning {
            Some(callback) => drop(callback.call1(&JsValue::UNDEFINED, &text.into())),
            None => web_sys::console::warn_1(&text.into()),
        });
        let strict = property(config, "strict").is_truthy();
        Ai { inner: Rc::new(ai::Ai::new(ai::Config { models, default, strict, limits, on_progress, on_warning })) }
    }

    /// Starts a request; the task gives an [`Answer`].
    /// `input` is JSON text, as `JSON.stringify` writes it.
    pub fn generate(&self, model: String, input: &str) -> Task {
        let inner = Rc::clone(&self.inner);
        let request = TextGenerationRequest::from_json(input);
        Task::new(async move {
            let started = async {
                // An id that does not exist is told before what is wrong with the input.
                inner.check_model(&model)?;
                let request = request?;
                let stream = request.stream;
                Ok(Answer::new(inner.generate(&model, request).await?, stream))
            };
            started.await.map(JsValue::from).map_err(|error| to_error(&error))
        })
    }

    /// Loads the model that serves an id; the task gives `{model, backend}`.
    pub fn load(&self, model: String) -> Task {
        let inner = Rc::clone(&self.inner);
        Task::new(async move {
            let loaded = inner.load(&model).await.map_err(|error| to_error(&error))?;
            Ok(to_js(&json!({"model": loaded.name, "backend": loaded.backend_name()})))
        })
    }

    /// What is loaded and how much was computed: `{models: [{name, backend, active, tokens}]}`.
    pub fn stats(&self) -> JsValue {
        let models: Vec<_> = self
            .inner
            .loaded()
            .iter()
            .map(|model| {
                let (active, tokens) = model.activity();
                json!({"name": model.name, "backend": model.backend_name(), "active": active, "tokens": tokens})
            })
            .collect();
        to_js(&json!({"models": models}))
    }
}

/// The catalogue, filtered and paged by `params` (JSON text).
#[wasm_bindgen]
pub fn models(params: &str) -> JsValue {
    to_js(&catalog::search(&serde_json::from_str(params).unwrap_or_default()))
}

/// Multiplies random matrices by the kernels of this build and by their plain twin: `[results that differ, results]`.
/// For tests.
#[wasm_bindgen(js_name = compareKernels)]
pub fn compare_kernels(seed: u32, rounds: u32) -> Vec<u32> {
    let (different, compared) = crate::backend::cpu::compare_with_twin(u64::from(seed), rounds as usize);
    vec![different as u32, compared as u32]
}
