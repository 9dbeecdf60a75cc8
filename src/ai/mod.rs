//! Serves requests from end to end, without JavaScript: takes a model id and JSON, returns an answer that grows.

mod adapters;
mod answer;
mod backends;
mod expect;
mod generation;
mod memory;
mod model;
mod nonce;
mod prepared;
mod slot;
mod store;
mod substitute;
mod templates;

pub use adapters::{Lora, id_of as id_of_lora};
pub use answer::Answer;
pub use backends::{BackendChoice, LoadProgress, Phase, ShaderProgress};
pub use generation::Generation;
pub use memory::Memory;
pub use model::{ComputedBy, Model};
pub use nonce::Nonce;
pub use prepared::Prepared;
pub use substitute::{Forwarded, Reply, Substitute, error_of};

use crate::catalog;
use crate::engine::{GenerationParams, Limits};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::Source;
use crate::input::{Prompt, ResponseFormat, TextGenerationRequest};
use crate::output::{AnswerShape, AnswerText, Dialect};
use crate::prompt::{ChatTemplate, render};
use crate::tools::ToolChoice;
use adapters::{AdapterStore, for_another_model};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use store::{ModelStore, Place};
use substitute::Recorder;

/// Default `max_tokens` for models that are not in the catalogue.
const DEFAULT_MAX_TOKENS: u32 = 256;

/// Receives a model id and the progress of its load.
pub type ProgressCallback = Rc<dyn Fn(&str, LoadProgress)>;

/// Configuration of an [`Ai`]: where weights come from, and how requests are served.
pub struct Config {
    /// Model id → the file with its weights.
    pub models: HashMap<String, Rc<dyn Source>>,
    /// LoRA adapters by their names.
    pub loras: HashMap<String, Lora>,
    /// The small model that serves catalogue ids for which `models` has no weights.
    pub default: Option<Rc<dyn Source>>,
    /// Refuse such ids with 5007 instead of using `default`.
    pub strict: bool,
    pub limits: Limits,
    pub backend: BackendChoice,
    /// The memory of this instance.
    pub memory: Rc<Memory>,
    /// Called with a model id and the progress of its load.
    pub on_progress: Option<ProgressCallback>,
    /// Called with warnings for the user, once per model id.
    pub on_warning: Rc<dyn Fn(&str)>,
    /// What may answer in place of the models.
    pub substitute: Option<Rc<dyn Substitute>>,
}

/// Serves requests with the configured models.
pub struct Ai {
    config: Config,
    store: ModelStore,
    adapters: AdapterStore,
    warned: RefCell<HashSet<String>>,
}

impl Ai {
    pub fn new(mut config: Config) -> Self {
        let store = ModelStore::new(config.limits, config.backend, Rc::clone(&config.memory));
        let adapters = AdapterStore::new(std::mem::take(&mut config.loras), Rc::clone(&config.memory));
        Self { store, adapters, config, warned: RefCell::default() }
    }

    /// Starts a request whose answer is written in `dialect`. `input`: its JSON, or why it could not be read.
    ///
    /// # Errors
    ///
    /// Like [`Ai::generate`]; 5006 if `input` does not fit the schema. 5007 (no such model) takes precedence over both. Those of the
    /// substitute.
    pub async fn answer(&self, model_id: &str, input: Result<Value>, dialect: Dialect, nonce: Nonce) -> Result<Answer> {
        let reply = self.substituted(model_id, input.as_ref().ok(), &dialect).await?;
        let (prepared, recorder) = match reply {
            Substituted::By(Reply::Forwarded(forwarded)) => return Ok(Answer::new(forwarded, dialect, AnswerShape::default(), None)),
            Substituted::By(Reply::Prepared(answer)) => (Some(answer), None),
            Substituted::No(recorder) => (None, recorder),
        };
        match &prepared {
            Some(answer) if prepared::names_model(answer) => {}
            Some(_) => self.known(model_id)?,
            None => drop(self.source_of(model_id)?),
        }
        let request = TextGenerationRequest::from_value(input?)?;
        let shape = AnswerShape {
            stream: request.stream,
            tools_offered: !request.tools.is_empty(),
            json: request.response_format != ResponseFormat::Text,
        };
        if let Some(answer) = prepared {
            return Ok(Answer::new(Prepared::new(&answer, request, nonce)?, dialect, shape, None));
        }
        match self.generate(model_id, request, nonce).await {
            Ok(generation) => Ok(Answer::new(generation, dialect, shape, recorder)),
            Err(error) => {
                if let Some(recorder) = recorder {
                    recorder.failed(&error);
                }
                Err(error)
            }
        }
    }

    /// The substitute's reply to a request.
    async fn substituted(&self, model_id: &str, input: Option<&Value>, dialect: &Dialect) -> Result<Substituted> {
        let (Some(substitute), Some(input)) = (&self.config.substitute, input) else { return Ok(Substituted::No(None)) };
        if let Some(reply) = substitute.ask(model_id, input, matches!(dialect, Dialect::OpenAi(_))).await? {
            return Ok(Substituted::By(reply));
        }
        let recorder = || Recorder::new(Rc::clone(substitute), model_id, input.clone());
        Ok(Substituted::No(substitute.records().then(recorder)))
    }

    /// Starts a request. Loads the model if necessary; computes nothing before the answer is read.
    ///
    /// # Errors
    ///
    /// 5007 if no file serves the model id; an error of the load; 5005 if there is no such adapter, or if it does not fit the model; 5004 if the
    /// chat template cannot be used; 5006 if a schema cannot
    /// be guaranteed; 5021 if prompt and answer exceed the context window; 3040 if too many requests are in progress;
    /// [`ErrorCode::NeedsMoreMemory`](crate::error::ErrorCode::NeedsMoreMemory) if another instance is to answer.
    pub async fn generate(&self, model_id: &str, request: TextGenerationRequest, nonce: Nonce) -> Result<Generation> {
        let source = self.source_of(model_id)?;
        let lora = request.lora.as_deref().map(|name| self.lora_for(name, model_id, &*source)).transpose()?;
        // Kept until the request is in the engine, where it has a place of its own.
        let place = self.store.place(&*source).await?;
        let model = self.load_source(model_id, Rc::clone(&source), Some(&place)).await?;
        let adapter = match lora {
            Some((name, lora)) => match self.adapters.get(&name, &lora, &model, source.identity(), &place).await {
                Err(error) if error.code == ErrorCode::NeedsMoreMemory => return Err(self.store.give_up(&*source)),
                adapter => Some(adapter?),
            },
            None => None,
        };
        let (text, template) = self.rendered(&model, &request)?;
        let prompt = model.tokenizer.encode(&text)?;
        let max_tokens = answer_length(model_id, &request, prompt.len(), model.positions())?;
        if model.is_too_large_with(prompt.len() + max_tokens) {
            return Err(self.store.give_up(&*source));
        }
        let mut sampling = request.sampling.clone();
        sampling.seed.get_or_insert(nonce.seed());
        let continues = matches!(request.prompt, Prompt::Raw(_));
        let expectation = expect::expectation(&request, &template, &model)?;
        // A call constrains the answer from the token on that begins it.
        let ahead = expectation.call_constraint.is_none();
        let params =
            GenerationParams { max_tokens, sampling, end_tokens: Rc::clone(&model.end_tokens), ahead, adapter, ticket: nonce.ticket };
        let text = AnswerText::new(model.tokenizer.stream_decoder(continues), request.stop);
        let generation = Generation::start(model, prompt, params, text, expectation, nonce).await;
        drop(place);
        generation
    }

    /// The adapter of a request, with its name.
    ///
    /// # Errors
    ///
    /// 5005 if there is none of this name, or if it is for another model than `source`.
    fn lora_for(&self, name: &str, model_id: &str, source: &dyn Source) -> Result<(String, Rc<Lora>)> {
        let (name, lora) = self.adapters.find(name)?;
        match &lora.model {
            Some(own) if own != model_id && !self.is_served_by(own, source) => Err(for_another_model(&name, own, model_id)),
            _ => Ok((name, lora)),
        }
    }

    /// Whether a file serves a model id.
    fn is_served_by(&self, model_id: &str, source: &dyn Source) -> bool {
        let is_default = model_id == catalog::DEFAULT_MODEL_ID || (!self.config.strict && catalog::is_known(model_id));
        let default = self.config.default.as_ref().filter(|_| is_default);
        self.config.models.get(model_id).or(default).is_some_and(|own| own.identity() == source.identity())
    }

    /// The tokens of a request's prompt and its text, as the model would continue it. Computes no answer.
    ///
    /// # Errors
    ///
    /// The errors of [`Ai::load`]; 5004 if the chat template fails.
    pub async fn tokenize(&self, model_id: &str, request: &TextGenerationRequest) -> Result<(Vec<u32>, String)> {
        let model = self.load(model_id).await?;
        let (text, _) = self.rendered(&model, request)?;
        Ok((model.tokenizer.encode(&text)?, model.tokenizer.without_marks(text)))
    }

    /// The text that the model continues, and the chat template that rendered it.
    fn rendered(&self, model: &Model, request: &TextGenerationRequest) -> Result<(String, Rc<ChatTemplate>)> {
        let offers_tools = !request.tools.is_empty() && request.tool_choice != ToolChoice::None;
        let (template, problem) = model.template(offers_tools)?;
        if let Some(problem) = problem {
            self.warn_once(format!("template of {}", model.name), || {
                format!("the chat template of {} cannot be used, so a built-in one is used instead. {problem}", model.name)
            });
        }
        Ok((render(request, &template, &|text| model.tokenizer.as_text(text))?, template))
    }

    /// Configured ids that are not in the catalogue, sorted.
    pub fn further_models(&self) -> Vec<&str> {
        let mut ids: Vec<&str> = self.config.models.keys().map(String::as_str).filter(|id| catalog::find(id).is_none()).collect();
        ids.sort_unstable();
        ids
    }

    /// Adds a LoRA adapter, in place of one of the same name.
    pub fn add_lora(&self, name: String, lora: Lora) {
        self.adapters.add(name, lora);
    }

    /// The LoRA adapters by their names, in order.
    pub fn loras(&self) -> Vec<(String, Rc<Lora>)> {
        self.adapters.all()
    }

    /// The models in memory.
    pub fn loaded(&self) -> Vec<Rc<Model>> {
        self.store.loaded()
    }

    /// Loads the model that serves `model_id`, so that the first request does not have to wait for it.
    ///
    /// # Errors
    ///
    /// 5007 if no file serves the model id; an error of the load.
    pub async fn load(&self, model_id: &str) -> Result<Rc<Model>> {
        let source = self.source_of(model_id)?;
        self.load_source(model_id, source, None).await
    }

    async fn load_source(&self, model_id: &str, source: Rc<dyn Source>, place: Option<&Place>) -> Result<Rc<Model>> {
        let on_progress = self.config.on_progress.clone();
        let model_id = model_id.to_owned();
        let report = move |progress: LoadProgress| {
            if let Some(on_progress) = &on_progress {
                on_progress(&model_id, progress);
            }
        };
        let model = self.store.get(source, Rc::new(report), place).await?;
        if let Some(splitting) = model.tokenizer.unknown_splitting() {
            self.warn_once(format!("splitting of {}", model.name), || {
                format!(
                    "{} splits texts by '{splitting}' (tokenizer.ggml.pre), which this version does not know. They are split like GPT-2's, so the model may see other tokens than it was trained with.",
                    model.name
                )
            });
        }
        Ok(model)
    }

    /// Warns the user, once for each subject.
    fn warn_once(&self, subject: String, text: impl FnOnce() -> String) {
        if self.warned.borrow_mut().insert(subject) {
            (self.config.on_warning)(&format!("workers-ai-local: {}", text()));
        }
    }

    /// # Errors
    ///
    /// 5007 if a model id is neither in the catalogue nor configured.
    fn known(&self, model_id: &str) -> Result<()> {
        if catalog::is_known(model_id) || self.config.models.contains_key(model_id) {
            return Ok(());
        }
        let mut error = AiError::no_such_model(model_id);
        if let Some(nearest) = catalog::nearest(model_id, self.config.models.keys().map(String::as_str)) {
            error.text += &format!(". Did you mean {nearest}?");
        }
        Err(error)
    }

    /// The file that serves a model id: its own, or the default model's.
    fn source_of(&self, model_id: &str) -> Result<Rc<dyn Source>> {
        if let Some(source) = self.config.models.get(model_id) {
            return Ok(Rc::clone(source));
        }
        self.known(model_id)?;
        let is_default = model_id == catalog::DEFAULT_MODEL_ID;
        let default = self.config.default.as_ref().filter(|_| is_default || !self.config.strict);
        let Some(source) = default else { return Err(AiError::no_such_model(model_id)) };
        if !is_default {
            self.warn_once(model_id.to_owned(), || {
                format!(
                    "{model_id} has no local weights; the small model {} answers instead. Give it a GGUF with new Ai({{ models: {{ \"{model_id}\": source }} }}), or set strict: true to refuse it.",
                    source.name()
                )
            });
        }
        Ok(Rc::clone(source))
    }
}

/// Who answers a request.
enum Substituted {
    By(Reply),
    /// A local model. Its answer is to be recorded if there is a recorder.
    No(Option<Recorder>),
}

/// Maximum tokens of the answer: the request's limit or the catalogue's default, within the context window. `prompt` is the
/// prompt's length in tokens, `positions` what the model can hold.
fn answer_length(model_id: &str, request: &TextGenerationRequest, prompt: usize, positions: usize) -> Result<usize> {
    let card = catalog::find(model_id);
    let window = card.and_then(|card| card.context_window).map_or(positions, |window| positions.min(window as usize));
    let default = card.map_or(DEFAULT_MAX_TOKENS, |card| if request.stream { card.max_tokens_stream } else { card.max_tokens_object });
    let asked = request.max_tokens.unwrap_or(default as usize);
    // Only a limit that the caller chose can be too large; a default is reduced to what the prompt leaves.
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
        assert_eq!(answer_length(model, &stream, 2000, 8192), Ok(48), "a default is reduced");
        assert_eq!(answer_length("@cf/own/model", &stream, 10, 100), Ok(90));
        let error = answer_length(model, &long, 100, 8192).expect_err("too long");
        assert_eq!(
            error.to_string(),
            "5021: The estimated number of input and maximum output tokens (2100) exceeded this model context window limit (2048)."
        );
        assert!(answer_length(model, &plain, 2048, 8192).is_err());
    }
}
