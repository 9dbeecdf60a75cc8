//! The wasm class `Ai`.

use super::answer::{Answer, HttpAnswer};
use super::convert::{property, to_error, to_js};
use super::embeddings::{HostEmbeddings, JsEmbeddings};
use super::source::{HostSource, JsSource};
use super::substitute::{HostSubstitute, JsSubstitute};
use super::task::Task;
use crate::ai::{self, Embeddings, Nonce, Substitute};
use crate::engine::{Limits, blame};
use crate::error::{AiError, ErrorCode};
use crate::gguf::Source;
use crate::http::{self, Cors};
use crate::input::{self, TextGenerationRequest};
use crate::listing;
use crate::lora::AdapterFiles;
use js_sys::{Array, Function, Object};
use serde_json::json;
use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use wasm_bindgen::prelude::*;

/// Runs once per instance. Makes a panic (a bug) write its message and location to the console.
#[wasm_bindgen(start)]
fn start() {
    console_error_panic_hook::set_once();
}

/// Text generation with local models. The package's `Ai` wraps it for JavaScript programs.
#[wasm_bindgen]
pub struct Ai {
    /// Unwind safe: a task that panics is dropped with its borrows and places, and the engine makes itself whole again.
    inner: AssertUnwindSafe<Rc<ai::Ai>>,
    cors: Rc<Cors>,
}

#[wasm_bindgen]
impl Ai {
    /// `config`: `{ models: {id: source}, loras: {name: {model, gguf} or {model, config, weights}}, default: source, strict, backend, caches, queue, cors,
    /// onProgress, onWarning, memory, substitute, embeddings, defaultEmbeddings }`, with sources made by `source.js`, a substitute made by `substitute.js`, and what
    /// `embeddings.js` makes.
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
        let loras = loras_from(&property(config, "loras"));
        let default = property(config, "default");
        let default = default.is_object().then(|| Rc::new(JsSource(default.unchecked_into())) as Rc<dyn Source>);
        let default_embeddings = property(config, "defaultEmbeddings");
        let default_embeddings =
            default_embeddings.is_object().then(|| Rc::new(JsSource(default_embeddings.unchecked_into())) as Rc<dyn Source>);
        let mut limits = Limits::default();
        let number = |key: &str| property(config, key).as_f64().filter(|value| *value >= 1.0).map(|value| value as usize);
        limits.caches = number("caches").unwrap_or(limits.caches);
        limits.sequences = number("queue").unwrap_or(limits.sequences);
        let on_progress = property(config, "onProgress").dyn_into::<Function>().ok().map(|callback| {
            Rc::new(move |model: &str, progress: ai::LoadProgress| {
                let ai::LoadProgress { phase, bytes, kernels } = progress;
                let mut value = json!({"model": model, "phase": phase, "loaded": bytes.loaded, "total": bytes.total});
                if let Some(kernels) = kernels {
                    value["kernels"] = json!(kernels);
                }
                // A callback that throws must not end the load.
                let _ = callback.call1(&JsValue::UNDEFINED, &to_js(&value));
            }) as Rc<dyn Fn(&str, ai::LoadProgress)>
        });
        let on_warning = property(config, "onWarning").dyn_into::<Function>().ok();
        let on_warning = Rc::new(move |text: &str| match &on_warning {
            Some(callback) => drop(callback.call1(&JsValue::UNDEFINED, &text.into())),
            None => web_sys::console::warn_1(&text.into()),
        });
        let strict = property(config, "strict").is_truthy();
        let backend = match property(config, "backend").as_string().as_deref() {
            Some("webgpu") => ai::BackendChoice::WebGpu,
            Some("cpu") => ai::BackendChoice::Cpu,
            _ => ai::BackendChoice::Auto,
        };
        let cors = Rc::new(cors_from(&property(config, "cors")));
        let substitute = property(config, "substitute");
        let substitute =
            substitute.is_object().then(|| Rc::new(JsSubstitute(substitute.unchecked_into::<HostSubstitute>())) as Rc<dyn Substitute>);
        let embeddings = property(config, "embeddings");
        let embeddings =
            embeddings.is_object().then(|| Rc::new(JsEmbeddings::new(embeddings.unchecked_into::<HostEmbeddings>())) as Rc<dyn Embeddings>);
        let memory = property(config, "memory");
        let bytes = property(&memory, "bytes").as_f64().map_or(u64::MAX, |bytes| bytes as u64);
        let advice = property(&memory, "advice").as_string().unwrap_or_default();
        let memory = Rc::new(ai::Memory::new(bytes, property(&memory, "elsewhere").is_truthy(), advice));
        let config = ai::Config {
            models,
            loras,
            default,
            strict,
            limits,
            backend,
            memory,
            on_progress,
            on_warning,
            substitute,
            embeddings,
            default_embeddings,
        };
        let inner = Rc::new(ai::Ai::new(config));
        Ai { inner: AssertUnwindSafe(inner), cors }
    }

    /// Starts a request. The task resolves to an [`Answer`]. `input` is JSON text, as `JSON.stringify` writes it. `random` (16 bytes),
    /// `created` (Unix time in seconds) and `ticket` are the request's [`Nonce`].
    pub fn generate(&self, model: String, input: String, random: &[u8], created: f64, ticket: u32) -> Task {
        let nonce = nonce_of(random, created, ticket);
        let inner = Rc::clone(&self.inner);
        Task::new(async move {
            let parsed = input::parse(&input);
            drop(input);
            let answer = inner.answer(&model, parsed, ai::Api::Run, nonce).await;
            answer.map(|answer| Answer::new(answer).into()).map_err(|error| to_error(&error))
        })
    }

    /// Answers an HTTP request. The task resolves to an [`HttpAnswer`]. `headers` is JSON text, `[[name, value], …]` with
    /// names in lower case. The caller omits a body of more than `maxBodyBytes()` and sets `too_large`.
    #[expect(clippy::too_many_arguments, reason = "wasm-bindgen passes no structs")]
    pub fn fetch(
        &self,
        method: String,
        url: String,
        headers: &str,
        body: Option<Vec<u8>>,
        too_large: bool,
        random: &[u8],
        created: f64,
        ticket: u32,
    ) -> Task {
        let (inner, cors) = (Rc::clone(&self.inner), Rc::clone(&self.cors));
        let headers = serde_json::from_str(headers).unwrap_or_default();
        let request =
            http::Request { method, url, headers, body: body.unwrap_or_default(), too_large, nonce: nonce_of(random, created, ticket) };
        Task::new(async move {
            let response = http::handle(&inner, &cors, &request).await;
            match response.needs_more_memory {
                true => Err(to_error(&AiError::new(ErrorCode::NeedsMoreMemory, "The model needs more memory."))),
                false => Ok(HttpAnswer::new(response).into()),
            }
        })
    }

    /// Renders and tokenises a request without computing an answer. The task resolves to `{tokens, pieces, text}`. `input` is JSON text.
    pub fn tokenize(&self, model: String, input: String) -> Task {
        let inner = Rc::clone(&self.inner);
        Task::new(async move {
            let tokenized = match TextGenerationRequest::from_json(&input) {
                Ok(request) => inner.tokenize(&model, request).await,
                Err(error) => Err(error),
            };
            Ok(to_js(&tokenized.map_err(|error| to_error(&error))?))
        })
    }

    /// Loads the model that serves a model id. The task resolves to `{model, backend, reason}`.
    pub fn load(&self, model: String) -> Task {
        let inner = Rc::clone(&self.inner);
        Task::new(async move {
            if inner.embeds(&model) {
                let name = inner.load_embeddings(&model).await.map_err(|error| to_error(&error))?;
                return Ok(to_js(&json!({"model": name, "backend": "cpu", "reason": null})));
            }
            let loaded = inner.load(&model).await.map_err(|error| to_error(&error))?;
            let ai::ComputedBy { backend, reason } = loaded.computed_by();
            Ok(to_js(&json!({"model": loaded.name, "backend": backend, "reason": reason})))
        })
    }

    /// Adds a LoRA adapter, in place of one of the same name. `lora`: as in the configuration.
    #[wasm_bindgen(js_name = addLora)]
    pub fn add_lora(&self, name: String, lora: &JsValue) {
        if let Some(lora) = lora_from(lora) {
            self.inner.add_lora(name, lora);
        }
    }

    /// The loaded models, and how much they have computed: `{models: [{name, backend, reason, active, tokens, gpu}]}`; `gpu` only if a
    /// GPU computes the model.
    pub fn stats(&self) -> JsValue {
        let models: Vec<_> = self
            .inner
            .loaded()
            .iter()
            .map(|model| {
                let (active, tokens) = model.activity();
                let ai::ComputedBy { backend, reason } = model.computed_by();
                let mut facts = json!({"name": model.name, "backend": backend, "reason": reason, "active": active, "tokens": tokens});
                if let Some(gpu) = model.gpu() {
                    facts["gpu"] = json!(gpu);
                }
                facts
            })
            .collect();
        to_js(&json!({"models": models}))
    }
}

/// The adapters of a configuration.
fn loras_from(configured: &JsValue) -> HashMap<String, ai::Lora> {
    let mut loras = HashMap::new();
    if !configured.is_object() {
        return loras;
    }
    for name in Object::keys(&Object::from(configured.clone())).iter().filter_map(|name| name.as_string()) {
        if let Some(lora) = lora_from(&property(configured, &name)) {
            loras.insert(name, lora);
        }
    }
    loras
}

/// An adapter, as the package configures it.
fn lora_from(configured: &JsValue) -> Option<ai::Lora> {
    let file = |key: &str| {
        let source = property(configured, key);
        source.is_object().then(|| Rc::new(JsSource(source.unchecked_into::<HostSource>())) as Rc<dyn Source>)
    };
    let files = match file("gguf") {
        Some(gguf) => AdapterFiles::Gguf(gguf),
        None => AdapterFiles::Peft { config: file("config")?, weights: file("weights")? },
    };
    Some(ai::Lora { model: property(configured, "model").as_string(), files, id: property(configured, "id").as_string() })
}

fn nonce_of(random: &[u8], created: f64, ticket: u32) -> Nonce {
    Nonce { random: random.try_into().unwrap_or_default(), created: created as u64, ticket }
}

/// The ticket of the request that the engine worked for when the instance trapped; 0 if that is unknown.
#[wasm_bindgen(js_name = blamedTicket)]
pub fn blamed_ticket() -> u32 {
    blame::ticket()
}

/// `true` or "*" allows every origin, a list or another string only the origins in it; anything else is off.
fn cors_from(value: &JsValue) -> Cors {
    if value.as_bool() == Some(true) || value.as_string().as_deref() == Some("*") {
        return Cors::Any;
    }
    if Array::is_array(value) {
        let origins: Vec<String> = Array::from(value).iter().filter_map(|origin| origin.as_string()).collect();
        return if origins.iter().any(|origin| origin == "*") { Cors::Any } else { Cors::Origins(origins) };
    }
    value.as_string().map_or(Cors::Off, |origin| Cors::Origins(vec![origin]))
}

/// Maximum length of the body of an HTTP request, in bytes.
#[wasm_bindgen(js_name = maxBodyBytes)]
pub fn max_body_bytes() -> usize {
    http::MAX_BODY_BYTES
}

/// The catalogue, filtered and paged by `params` (JSON text).
#[wasm_bindgen]
pub fn models(params: &str) -> JsValue {
    to_js(&listing::search(&serde_json::from_str(params).unwrap_or_default()))
}

/// Multiplies random matrices with the kernels of this build and with their reference implementation. Returns
/// `[results that differ, results]`. For tests.
#[wasm_bindgen(js_name = compareKernels)]
pub fn compare_kernels(seed: u32, rounds: u32) -> Vec<u32> {
    let (different, compared) = kernels::products::compare_with_reference(u64::from(seed), rounds as usize);
    vec![different as u32, compared as u32]
}

/// Times the kernels of this build, for about `milliseconds` each. Returns JSON text,
/// `[{type, op, bytes, multiplyAdds, seconds}, …]`. For benchmarks.
#[wasm_bindgen(js_name = benchKernels)]
pub fn bench_kernels(milliseconds: f64) -> String {
    let measured: Vec<_> = kernels::products::measure(milliseconds)
        .iter()
        .map(|one| {
            let op = if one.rows == 1 { "decode" } else { "prefill" };
            json!({"type": one.format, "op": op, "bytes": one.bytes, "multiplyAdds": one.multiply_adds, "seconds": one.seconds})
        })
        .collect();
    json!(measured).to_string()
}

/// Makes this thread (a worker that shares the memory) compute for the other threads. Never returns.
#[cfg(target_feature = "atomics")]
#[wasm_bindgen(js_name = workThread)]
pub fn work_thread() {
    kernels::threads::help()
}
