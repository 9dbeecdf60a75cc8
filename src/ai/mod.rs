//! The whole way of a request, without JavaScript: model id and JSON in, an answer that grows out.

mod answer;
mod backends;
mod expect;
mod generation;
mod model;
mod store;

pub use answer::Answer;
pub use backends::{BackendChoice, Kernels, LoadProgress, Phase};
pub use generation::Generation;
pub use model::{ComputedBy, Model};

use crate::catalog;
use crate::engine::{GenerationParams, Limits};
use crate::error::{AiError, Result};
use crate::gguf::Source;
use crate::input::{Prompt, ResponseFormat, TextGenerationRequest};
use crate::output::{AnswerText, Dialect, Shape};
use crate::prompt::render;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use store::ModelStore;

/// Default `max_tokens` for models that are not in the catalogue.
const DEFAULT_MAX_TOKENS: u32 = 256;

/// Where weights come from, and how requests are served.
pub struct Config {
    /// Model id → the file with its weights.
    pub models: HashMap<String, Rc<dyn Source>>,
    /// The small model that stands in for ids of the catalogue without weights.
    pub default: Option<Rc<dyn Source>>,
    /// Refuse such ids with 5007 instead.
    pub strict: bool,
    pub limits: Limits,
    pub backend: BackendChoice,
    /// Told how a load goes on, and of which model id.
    pub on_progress: Option<Rc<dyn Fn(&str, LoadProgress)>>,
    /// Told what its user should know: once per model id.
    pub on_warning: Rc<dyn Fn(&str)>,
}

/// Serves requests with the models of a configuration.
pub struct Ai {
    config: Config,
    store: ModelStore,
    warned: RefCell<HashSet<String>>,
}

impl Ai {
    pub fn new(config: Config) -> Self {
        Self { store: ModelStore::new(config.limits, config.backend), config, warned: RefCell::default() }
    }

    /// Starts a request, whose answer comes in `dialect`. An id that does not exist is told before what is wrong with
    /// the input.
    pub async fn answer(&self, model_id: &str, request: Result<TextGenerationRequest>, dialect: Dialect) -> Result<Answer> {
        self.source_of(model_id)?;
        let request = request?;
        let stream = request.stream;
        let shape = Shape { tools_offered: !request.tools.is_empty(), json: request.response_format != ResponseFormat::Text };
        let generation = self.generate(model_id, request).await?;
        Ok(Answer::new(generation, dialect, shape, stream))
    }

    /// Starts a request. The model is loaded if it is not; nothing is computed before the answer is asked for.
    pub async fn generate(&self, model_id: &str, request: TextGenerationRequest) -> Result<Generation> {
        let source = self.source_of(model_id)?;
        let model = self.load_source(model_id, source).await?;
        let template = model.template(model_id)?;
        let prompt = model.tokenizer.encode(&render(&request, &template)?)?;
        let max_tokens = answer_length(model_id, &request, prompt.len(), model.positions())?;
        let params = GenerationParams { max_tokens, sampling: request.sampling.clone(), end_tokens: Rc::clone(&model.end_tokens) };
        let continues = matches!(request.prompt, Prompt::Raw(_));
        let expectation = expect::expectation(&request, &template, &model)?;
        let text = AnswerText::new(model.tokenizer.stream_decoder(continues), request.stop);
        Generation::start(model, prompt, params, text, expectation).await
    }

    /// Ids that are configured and not in the catalogue.
    pub fn further_models(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.config.models.keys().map(String::as_str).filter(|id| catalog::find(id).is_none()).collect();
        ids.sort_unstable();
        ids
    }

    /// The models in memory.
    pub fn loaded(&self) -> Vec<Rc<Model>> {
        self.store.loaded()
    }

    /// Loads the model that serves `model_id`, so that the first request does not wait for it.
    pub async fn load(&self, model_id: &str) -> Result<Rc<Model>> {
        let source = self.source_of(model_id)?;
        self.load_source(model_id, source).await
    }

    async fn load_source(&self, model_id: &str, source: Rc<dyn Source>) -> Result<Rc<Model>> {
        let on_progress = self.config.on_progress.clone();
        let model_id = model_id.to_owned();
        let report = move |progress: LoadProgress| {
            if let Some(on_progress) = &on_progress {
                on_progress(&model_id, progress);
            }
        };
        self.store.get(source, Rc::new(report)).await
    }

    /// The file that serves a model id: its own, or the stand-in's.
    fn source_of(&self, model_id: &str) -> Result<Rc<dyn Source>> {
        if let Some(source) = self.config.models.get(model_id) {
            return Ok(Rc::clone(source));
        }
        if catalog::find(model_id).is_none() {
            return Err(AiError::no_such_model(model_id));
        }
        let is_default = model_id == catalog::DEFAULT_MODEL_ID;
        let stand_in = self.config.default.as_ref().filter(|_| is_default || !self.config.strict);
        let Some(source) = stand_in else { return Err(AiError::no_such_model(model_id)) };
        if !is_default && self.warned.borrow_mut().insert(model_id.to_owned()) {
            (self.config.on_warning)(&format!(
                "workers-ai-local: {model_id} has no local weights; the small model {} answers in its place. Give it a GGUF with new Ai({{ models: {{ \"{model_id}\": source }} }}), or set strict: true to refuse it.",
                source.name()
            ));
        }
        Ok(Rc::clone(source))
    }
}

/// Most tokens of the answer: the request's limit or the catalogue's default, within the context window.
fn answer_length(model_id: &str, request: &TextGenerationRequest, prompt: usize, positions: usize) -> Result<usize> {
    let card = catalog::find(model_id);
    let window = card.and_then(|card| card.context_window).map_or(positions, |window| positions.min(window as usize));
    let default = card.map_or(DEFAULT_MAX_TOKENS, |card| if request.stream { card.max_tokens_stream } else { card.max_tokens_object });
    let asked = request.max_tokens.unwrap_or(default as usize);
    // Only a limit that the caller chose can be too large; a default gives way to the prompt.
    let needed = prompt.saturating_add(request.max_tokens.unwrap_or(1));
    if needed > window {
        return Err(AiError::context_window_exceeded(prompt.saturating_add(asked), window));
    }
    Ok(asked.min(window - prompt))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_answer_fits_the_context_window() {
        let request = |input| TextGenerationRequest::from_value(input).expect("valid");
        let plain = request(json!({"prompt": "a"}));
        let stream = request(json!({"prompt": "a", "stream": true}));
        let long = request(json!({"prompt": "a", "max_tokens": 2000}));
        let model = "@cf/meta/llama-2-7b-chat-int8";
        assert_eq!(answer_length(model, &plain, 10, 8192), Ok(256));
        assert_eq!(answer_length(model, &stream, 10, 8192), Ok(1800));
        assert_eq!(answer_length(model, &stream, 2000, 8192), Ok(48), "a default gives way");
        assert_eq!(answer_length("@cf/own/model", &stream, 10, 100), Ok(90));
        let error = answer_length(model, &long, 100, 8192).expect_err("too long");
        assert_eq!(
            error.to_string(),
            "5021: The estimated number of input and maximum output tokens (2100) exceeded this model context window limit (2048)."
        );
        assert!(answer_length(model, &plain, 2048, 8192).is_err());
    }
}
