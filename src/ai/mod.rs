//! Serves requests from end to end, without JavaScript: takes a model id and JSON, returns an answer that grows.

mod adapters;
mod answer;
mod backends;
mod choices;
mod embedder;
mod embeddings;
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
mod thinking;
mod vectors;

pub use adapters::{Lora, id_of as id_of_lora};
pub use answer::Answer;
pub use backends::{BackendChoice, LoadProgress, Phase, ShaderProgress};
pub use choices::Choices;
pub use embeddings::{Embedded, Embeddings};
pub use memory::Memory;
pub use model::{ComputedBy, Model};
pub use nonce::Nonce;
pub use prepared::Prepared;
pub use substitute::{Forwarded, Reply, Substitute, error_of};
pub use vectors::Vectors;

use crate::catalog::{self, Shape};
use crate::catalog_embeddings;
use crate::engine::{GenerationParams, Limits};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::Source;
use crate::input::{Prompt, ResponseFormat, TextGenerationRequest, as_chat_input, is_for_responses};
use crate::output::{AnswerShape, AnswerText, Completion, Dialect, Kind, Response, ThoughtReader};
use crate::prompt::{ChatTemplate, render};
use crate::sampling::SamplingParams;
use crate::tools::ToolChoice;
use adapters::{AdapterStore, for_another_model};
use embedder::EmbedderStore;
use generation::Plan;
use serde::Serialize;
use serde_json::Value;
use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use store::{ModelStore, Place};
use substitute::Recorder;
use thinking::Thinking;

/// Default `max_tokens` for models that are not in the catalogue.
const DEFAULT_MAX_TOKENS: u32 = 256;
/// Default `max_tokens` of the stand-in for models that have no limit: a very small model does not always end its answer.
const STAND_IN_MAX_TOKENS: u32 = 2000;

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
    /// What computes the embedding models that the engine does not.
    pub embeddings: Option<Rc<dyn Embeddings>>,
    /// The embedding model that serves catalogue ids of such models for which `models` has no weights, if it is one file.
    pub default_embeddings: Option<Rc<dyn Source>>,
}

/// Serves requests with the configured models.
pub struct Ai {
    config: Config,
    store: ModelStore,
    embedders: EmbedderStore,
    adapters: AdapterStore,
    warned: RefCell<HashSet<String>>,
}

impl Ai {
    pub fn new(mut config: Config) -> Self {
        let store = ModelStore::new(config.limits, config.backend, Rc::clone(&config.memory));
        let embedders = EmbedderStore::new(Rc::clone(&config.memory));
        let adapters = AdapterStore::new(std::mem::take(&mut config.loras), Rc::clone(&config.memory));
        Self { store, embedders, adapters, config, warned: RefCell::default() }
    }

    /// Starts a request whose answer is written as `api` has it. `input`: its JSON, or why it could not be read.
    ///
    /// # Errors
    ///
    /// Like [`Ai::generate`]; 5006 if `input` does not fit the schema. 5007 (no such model) takes precedence over both. Those of the
    /// substitute.
    pub async fn answer(&self, model_id: &str, input: Result<Value>, api: Api, nonce: Nonce) -> Result<Answer> {
        if self.embeds(model_id) {
            return Ok(Answer::new(self.embed(model_id, input).await?, Dialect::binding(), AnswerShape::default(), None));
        }
        let dialect = dialect_of(model_id, input.as_ref().ok(), api, nonce);
        let reply = self.substituted(model_id, input.as_ref().ok(), api).await?;
        let input = match (&dialect, input) {
            (Dialect::Responses(_), Ok(input)) => as_chat_input(&input),
            (_, input) => input,
        };
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
        let mut request = TextGenerationRequest::from_value(input?)?;
        settle_effort(model_id, &mut request);
        if !dialect.has_choices() {
            request.choices = 1;
        }
        request.logprobs = request.logprobs.filter(|_| dialect.has_logprobs());
        let shape = AnswerShape {
            stream: request.stream,
            tools_offered: !request.tools.is_empty(),
            json: request.response_format != ResponseFormat::Text && !request.guided,
            logprobs: request.logprobs.is_some(),
            object_arguments: catalog::find(model_id).is_some_and(|card| card.shape == Shape::ResponseWithObjects),
        };
        if let Some(answer) = prepared {
            return Ok(Answer::new(Prepared::new(&answer, &request, nonce)?, dialect, shape, None));
        }
        match self.generate(model_id, request, nonce).await {
            Ok(choices) => Ok(Answer::new(choices, dialect, shape, recorder)),
            Err(error) => {
                if let Some(recorder) = recorder {
                    recorder.failed(&error);
                }
                Err(error)
            }
        }
    }

    /// The substitute's reply to a request.
    async fn substituted(&self, model_id: &str, input: Option<&Value>, api: Api) -> Result<Substituted> {
        let (Some(substitute), Some(input)) = (&self.config.substitute, input) else { return Ok(Substituted::No(None)) };
        if let Some(reply) = substitute.ask(model_id, input, api == Api::ChatCompletions).await? {
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
    /// be guaranteed, or if `logit_bias` names a token that the model does not have; 5021 if prompt and answer exceed the context window; 3040 if too many requests are in progress;
    /// [`ErrorCode::NeedsMoreMemory`](crate::error::ErrorCode::NeedsMoreMemory) if another instance is to answer.
    pub async fn generate(&self, model_id: &str, request: TextGenerationRequest, nonce: Nonce) -> Result<Choices> {
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
        let vocabulary = model.tokenizer.vocabulary_size();
        if let Some((token, _)) = request.sampling.logit_bias.iter().find(|(token, _)| *token as usize >= vocabulary) {
            return Err(AiError::invalid_input(format!(
                "'/logit_bias/{token}' is not the number of a token of the model's vocabulary, which has {vocabulary}"
            )));
        }
        let (text, template, thinking) = self.rendered(&model, &request)?;
        let prompt = model.tokenizer.encode(&text)?;
        let is_stand_in = !self.config.models.contains_key(model_id);
        let max_tokens = answer_length(model_id, &request, prompt.len(), model.positions(), is_stand_in)?;
        if model.is_too_large_with(prompt.len() + max_tokens) {
            return Err(self.store.give_up(&*source));
        }
        let seed = request.sampling.seed.unwrap_or(nonce.seed());
        let continues = matches!(request.prompt, Prompt::Raw(_));
        let prediction = request.prediction.as_deref().map(|text| model.tokenizer.encode_text(text)).transpose()?.unwrap_or_default();
        let plan = |choice: usize| {
            let mut expectation = expect::expectation(&request, &template, &model)?;
            expectation.thinks_first = thinking.is_certain && expectation.constraint.is_some();
            let params = GenerationParams {
                max_tokens,
                // Choices differ by their seeds.
                sampling: SamplingParams { seed: Some(seed.wrapping_add(choice as u64)), ..request.sampling.clone() },
                logprobs: request.logprobs,
                prediction: prediction.clone(),
                adapter: adapter.clone(),
                end_tokens: Rc::clone(&model.end_tokens),
                // A call constrains the answer from the token on that begins it, the end of a thought from the next one on.
                ahead: expectation.call_constraint.is_none() && !expectation.thinks_first,
                ticket: nonce.ticket,
            };
            let thoughts = thinking.tags.map(|tags| ThoughtReader::new(tags, thinking.has_begun));
            let text = AnswerText::new(model.tokenizer.stream_decoder(continues), thoughts, request.stop.clone());
            Ok(Plan { prompt: prompt.clone(), params, text, tags: thinking.tags, expectation, nonce, choice })
        };
        let plans = (0..request.choices.max(1)).map(plan).collect::<Result<Vec<Plan>>>()?;
        let choices = Choices::start(model, plans).await;
        drop(place);
        choices
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
        let is_default = model_id == catalog::DEFAULT_MODEL_ID || (!self.config.strict && catalog::find(model_id).is_some());
        let default = self.config.default.as_ref().filter(|_| is_default);
        self.config.models.get(model_id).or(default).is_some_and(|own| own.identity() == source.identity())
    }

    /// A request's prompt, as the model would continue it. Computes no answer.
    ///
    /// # Errors
    ///
    /// The errors of [`Ai::load`]; 5004 if the chat template fails.
    pub async fn tokenize(&self, model_id: &str, mut request: TextGenerationRequest) -> Result<TokenizedPrompt> {
        settle_effort(model_id, &mut request);
        let model = self.load(model_id).await?;
        let (text, ..) = self.rendered(&model, &request)?;
        let tokens = model.tokenizer.encode(&text)?;
        let pieces = tokens.iter().map(|token| model.tokenizer.piece(*token)).collect();
        Ok(TokenizedPrompt { tokens, pieces, text: model.tokenizer.without_marks(text) })
    }

    /// The text that the model continues, the chat template that rendered it, and whether a thought comes first.
    fn rendered(&self, model: &Model, request: &TextGenerationRequest) -> Result<(String, Rc<ChatTemplate>, Thinking)> {
        let offers_tools = !request.tools.is_empty() && request.tool_choice != ToolChoice::None;
        let (template, problem) = model.template(offers_tools)?;
        if let Some(problem) = problem {
            self.warn_once(format!("template of {}", model.name), || {
                format!("the chat template of {} cannot be used, so a built-in one is used instead. {problem}", model.name)
            });
        }
        let mut text = render(request, &template, &|text| model.tokenizer.as_text(text))?;
        let thinking = Thinking::of(&template, request, &mut text);
        Ok((text, template, thinking))
    }

    /// The ids that the configuration gives models.
    fn own_ids(&self) -> impl Iterator<Item = &str> {
        let embeddings = self.config.embeddings.as_ref().map(|host| host.own_ids()).unwrap_or_default();
        self.config.models.keys().chain(embeddings).map(String::as_str)
    }

    /// Configured ids that are not in the catalogue, sorted.
    pub fn further_models(&self) -> Vec<&str> {
        let mut ids: Vec<&str> =
            self.own_ids().filter(|id| catalog::find(id).is_none() && catalog_embeddings::find(id).is_none()).collect();
        ids.sort_unstable();
        ids.dedup();
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
        let model = self.store.get(source, self.progress_of(model_id), place).await?;
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

    /// Reports the progress of a load for a model id.
    fn progress_of(&self, model_id: &str) -> Rc<dyn Fn(LoadProgress)> {
        let (on_progress, model_id) = (self.config.on_progress.clone(), model_id.to_owned());
        Rc::new(move |progress| {
            if let Some(on_progress) = &on_progress {
                on_progress(&model_id, progress);
            }
        })
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
        if catalog::find(model_id).is_some() || self.config.models.contains_key(model_id) {
            return Ok(());
        }
        let mut error = AiError::no_such_model(model_id);
        if let Some(nearest) = catalog::nearest(model_id, self.own_ids().chain(catalog_embeddings::CARDS.iter().map(|card| card.id))) {
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

/// A prompt as the model reads it.
#[derive(Debug, Serialize)]
pub struct TokenizedPrompt {
    pub tokens: Vec<u32>,
    /// The text of each token; see [`Tokenizer::piece`](crate::tokenizer::Tokenizer::piece).
    pub pieces: Vec<String>,
    pub text: String,
}

/// The API by which a request came, which determines how its answer is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// `run`, of the binding and over REST: each model has its own shape.
    Run,
    /// OpenAI's chat completions, of every model.
    ChatCompletions,
    /// OpenAI's responses, of every model.
    Responses,
}

/// Gives the template the model's own name for the effort of reasoning.
fn settle_effort(model_id: &str, request: &mut TextGenerationRequest) {
    request.settle_effort(|effort| catalog::find(model_id).map_or(effort, |card| card.effort(effort)));
}

/// How the answer to a request is written.
fn dialect_of(model_id: &str, input: Option<&Value>, api: Api, nonce: Nonce) -> Dialect {
    let shape = catalog::find(model_id).map_or(Shape::Response, |card| card.shape);
    if api == Api::Run && !shape.is_chat() {
        return Dialect::binding();
    }
    let takes_responses = shape == Shape::ChatOrResponses && input.is_some_and(is_for_responses);
    if api == Api::Responses || (api == Api::Run && takes_responses) {
        let nothing = Value::Null;
        return Dialect::Responses(Box::new(Response::new(&nonce.request_id(), model_id, nonce.created, input.unwrap_or(&nothing))));
    }
    let has = |key: &str| input.and_then(|input| input.get(key)).is_some_and(|value| !value.is_null());
    let kind = match (api, shape) {
        (Api::Run, Shape::ChatOrText) if has("prompt") => Kind::Text,
        (Api::Run, Shape::ChatOrText) => Kind::ChatWithText,
        _ => Kind::Chat,
    };
    // `run` has always told the token counts at the end of a stream.
    let asked = input.and_then(|input| input.get("stream_options")?.get("include_usage")?.as_bool());
    let include_usage = asked.unwrap_or(api == Api::Run);
    Dialect::Completions(Completion::new(format!("chatcmpl-{}", nonce.request_id()), model_id, nonce.created, kind, include_usage))
}

/// Who answers a request.
enum Substituted {
    By(Reply),
    /// A local model. Its answer is to be recorded if there is a recorder.
    No(Option<Recorder>),
}

/// Maximum tokens of the answer: the request's limit or the catalogue's default, within the context window. `prompt` is the
/// prompt's length in tokens, `positions` what the model can hold. `is_stand_in`: the small model answers for another one.
fn answer_length(model_id: &str, request: &TextGenerationRequest, prompt: usize, positions: usize, is_stand_in: bool) -> Result<usize> {
    let card = catalog::find(model_id);
    let window = card.and_then(|card| card.context_window).map_or(positions, |window| positions.min(window as usize));
    let rest = if is_stand_in { STAND_IN_MAX_TOKENS } else { u32::MAX };
    let default = match card {
        None => DEFAULT_MAX_TOKENS,
        Some(card) if request.stream => card.max_tokens_stream.unwrap_or(rest),
        Some(card) => card.max_tokens_object.unwrap_or(rest),
    };
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
        assert_eq!(answer_length(model, &plain, 10, 8192, true), Ok(256));
        assert_eq!(answer_length(model, &stream, 10, 8192, true), Ok(1800));
        assert_eq!(answer_length(model, &stream, 2000, 8192, true), Ok(48), "a default is reduced");
        assert_eq!(answer_length("@cf/own/model", &stream, 10, 100, false), Ok(90));
        let error = answer_length(model, &long, 100, 8192, true).expect_err("too long");
        assert_eq!(
            error.to_string(),
            "5021: The estimated number of input and maximum output tokens (2100) exceeded this model context window limit (2048)."
        );
        assert!(answer_length(model, &plain, 2048, 8192, true).is_err());
        let unlimited = "@cf/zai-org/glm-5.3";
        assert_eq!(answer_length(unlimited, &plain, 10, 8192, false), Ok(8182), "what the window leaves");
        assert_eq!(answer_length(unlimited, &plain, 10, 8192, true), Ok(2000), "of the stand-in less");
    }
}
