//! Embeddings: requests for models that the engine computes, or the host in a module of its own.

use super::embedder::{Computer, Embedder};
use super::substitute::{Forwarded, Recorder, Reply};
use super::vectors::Vectors;
use super::{Ai, Api, Substituted};
use crate::catalog_embeddings;
use crate::error::{AiError, Result};
use crate::gguf::{LocalFuture, Source};
use crate::input::{EmbeddingRequest, Pooling};
use serde_json::{Value, json};
use std::rc::Rc;

/// The host's part of embeddings: the models that the engine does not compute.
pub trait Embeddings {
    /// Configured ids of embedding models, whoever computes them; they need not be in the catalogue.
    fn own_ids(&self) -> &[String];

    /// The vectors of texts. Without texts it only loads the model.
    ///
    /// # Errors
    ///
    /// 5007 if the configuration has no model for the id; those of its load.
    fn embed<'a>(&'a self, model_id: &'a str, texts: &'a [String], pooling: Pooling) -> LocalFuture<'a, Result<Vectors>>;
}

/// A loaded embedding model.
enum Loaded {
    Own(Rc<Embedder>),
    Host(Rc<dyn Embeddings>),
}

/// A complete answer.
pub struct Embedded {
    pub object: Value,
    pub tokens: usize,
    pub served_by: String,
}

impl Ai {
    /// Whether a model id is one of an embedding model.
    pub fn embeds(&self, model_id: &str) -> bool {
        self.is_of_host(model_id) || catalog_embeddings::find(model_id).is_some()
    }

    /// Whether the host's configuration says that an id is one of an embedding model.
    fn is_of_host(&self, model_id: &str) -> bool {
        self.config.embeddings.as_ref().is_some_and(|host| host.own_ids().iter().any(|id| id == model_id))
    }

    /// The host's part, for an id that has files of its own, or for which the default model may answer.
    ///
    /// # Errors
    ///
    /// 5007 for any other id.
    fn host_for(&self, model_id: &str) -> Result<&Rc<dyn Embeddings>> {
        let has_files = || self.config.models.contains_key(model_id) || self.is_of_host(model_id);
        let is_answered = !self.config.strict || model_id == catalog_embeddings::DEFAULT_ID || has_files();
        self.config.embeddings.as_ref().filter(|_| is_answered).ok_or_else(|| AiError::no_such_model(model_id))
    }

    /// Answers a request for an embedding model, in the binding's form.
    ///
    /// # Errors
    ///
    /// That of `input`; 5007 if no model answers for the id; 5006 if the input does not fit the schema; those of the substitute and of the
    /// model's load.
    pub fn embed<'a>(&'a self, model_id: &'a str, input: Result<Value>) -> LocalFuture<'a, Result<Embedded>> {
        // In a box: it has several callers, of which each would get a copy.
        Box::pin(async move {
            let recorder = match self.substituted(model_id, input.as_ref().ok(), Api::Run).await? {
                Substituted::By(Reply::Forwarded(Forwarded::Object(object))) => {
                    return Ok(Embedded { object, tokens: 0, served_by: "service".into() });
                }
                Substituted::By(Reply::Forwarded(Forwarded::Stream(_))) => {
                    return Err(AiError::invalid_data("The service answered with a stream, which embeddings never are."));
                }
                Substituted::By(Reply::Prepared(answer)) => return prepared(&answer),
                Substituted::No(recorder) => recorder,
            };
            if !self.embeds(model_id) {
                self.known(model_id)?;
                return Err(AiError::invalid_input(format!("{model_id} generates text, and this request is for an embedding model")));
            }
            // Said before the input is read, as with ids of text generation.
            self.host_for(model_id)?;
            let request = EmbeddingRequest::from_value(input?)?;
            let vectors = match self.loaded_embeddings(model_id).await? {
                Loaded::Own(embedder) => embedder.embed(&request.instructed()).await?,
                Loaded::Host(host) => host.embed(model_id, &request.texts, request.pooling).await?,
            };
            let Vectors { numbers, width, tokens, pooling, served_by } = vectors;
            let object = request.answer(&numbers, width, pooling);
            if let Some(Recorder { substitute, model_id, input, .. }) = recorder {
                substitute.record(&model_id, &input, &json!({"object": object}));
            }
            Ok(Embedded { object, tokens, served_by })
        })
    }

    /// Loads the model that serves an id of an embedding model; the name of its file.
    ///
    /// # Errors
    ///
    /// 5007 if no model answers for the id; those of its load.
    pub async fn load_embeddings(&self, model_id: &str) -> Result<String> {
        match self.loaded_embeddings(model_id).await? {
            Loaded::Own(embedder) => Ok(embedder.name.clone()),
            Loaded::Host(host) => Ok(host.embed(model_id, &[], Pooling::Mean).await?.served_by),
        }
    }

    /// What serves an id of an embedding model; loads it if the engine computes it.
    async fn loaded_embeddings(&self, model_id: &str) -> Result<Loaded> {
        let host = self.host_for(model_id)?;
        let Some((source, is_stand_in)) = self.source_of_embeddings(model_id) else { return Ok(Loaded::Host(Rc::clone(host))) };
        let make_room = || self.store.drop_idle() | self.embedders.drop_idle();
        let computer = self.embedders.get(&source, self.progress_of(model_id), make_room).await?;
        let Computer::Own(embedder) = &*computer else { return Ok(Loaded::Host(Rc::clone(host))) };
        if is_stand_in {
            self.warn_once(model_id.to_owned(), || {
                format!(
                    "{model_id} has no local weights; the embedding model {} answers instead, with vectors of {} numbers.",
                    embedder.name,
                    embedder.width()
                )
            });
        }
        Ok(Loaded::Own(Rc::clone(embedder)))
    }

    /// The file of an embedding model that the engine may compute, and whether it stands in for another one; `None` if only the host has files.
    fn source_of_embeddings(&self, model_id: &str) -> Option<(Rc<dyn Source>, bool)> {
        if let Some(source) = self.config.models.get(model_id) {
            return Some((Rc::clone(source), false));
        }
        let is_default = model_id == catalog_embeddings::DEFAULT_ID;
        let default = self.config.default_embeddings.as_ref().filter(|_| !self.is_of_host(model_id) && (is_default || !self.config.strict));
        default.map(|source| (Rc::clone(source), !is_default))
    }
}

/// The answer of a script: the `json` of its entry.
fn prepared(answer: &Value) -> Result<Embedded> {
    if let Some(error) = super::error_of(&answer["error"]) {
        return Err(error);
    }
    let text: String = answer["parts"].as_array().into_iter().flatten().filter_map(|part| part["text"].as_str()).collect();
    match serde_json::from_str(&text) {
        Ok(object @ Value::Object(_)) => Ok(Embedded { object, tokens: 0, served_by: "script".into() }),
        _ => Err(AiError::invalid_data(
            "The script answers with text, and this is an embedding model. Give the entry json: { shape, data }.",
        )),
    }
}
