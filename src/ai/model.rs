//! A model that is loaded: tokenizer, chat template and engine.

use crate::backend::Backend;
use crate::backend::cpu::{CpuBackend, CpuWeights};
use crate::catalog::{self, ChatFormat};
use crate::engine::{Engine, Limits, SequenceId};
use crate::error::Result;
use crate::gguf::{Header, Progress, Reader, Source};
use crate::grammar::{Constraint, Grammar, GrammarCompiler};
use crate::model::{Hyperparameters, load_weights};
use crate::prompt::{ChatTemplate, template_for};
use crate::tokenizer::Tokenizer;
use std::cell::{OnceCell, RefCell};
use std::collections::HashSet;
use std::rc::Rc;

/// Everything that serves requests for one model file.
pub struct Model {
    /// The file's name, which tells a client what really answered.
    pub name: String,
    pub tokenizer: Tokenizer,
    pub end_tokens: Rc<HashSet<u32>>,
    /// Borrowed for a step at a time; whoever finds it borrowed waits.
    pub engine: RefCell<Engine>,
    /// Sequences whose requests ended while the engine was borrowed.
    pub(super) abandoned: RefCell<Vec<SequenceId>>,
    own_template: Option<Rc<ChatTemplate>>,
    /// Made for the first request that has a grammar.
    grammars: OnceCell<GrammarCompiler>,
    positions: usize,
    backend_name: &'static str,
}

impl Model {
    /// Loads a model from its file.
    pub async fn load(source: Rc<dyn Source>, limits: Limits, on_progress: Box<dyn Fn(Progress)>) -> Result<Self> {
        let mut reader = Reader::new(source, on_progress);
        let name = reader.name();
        let header = Header::read(&mut reader).await?;
        let parameters = Hyperparameters::from_header(&header, &name)?;
        let tokenizer = Tokenizer::from_header(&header, &name)?;
        let own_template = match header.text("tokenizer.chat_template") {
            Some(source) => Some(Rc::new(ChatTemplate::new(source, &tokenizer.bos_text, &tokenizer.eos_text)?)),
            None => None,
        };
        // The metadata (a vocabulary of many small strings) is given back before the weights need the room.
        let tensors = header.into_tensors();
        let mut weights = CpuWeights::default();
        load_weights(&tensors, &parameters, &mut reader, &mut weights).await?;
        let positions = parameters.positions;
        let backend = CpuBackend::new(parameters, weights)?;
        Ok(Self {
            backend_name: backend.name(),
            name,
            end_tokens: Rc::new(tokenizer.end_of_generation().clone()),
            tokenizer,
            engine: RefCell::new(Engine::new(Box::new(backend), limits)),
            abandoned: RefCell::default(),
            own_template,
            grammars: OnceCell::new(),
            positions,
        })
    }

    /// Positions that the model can hold: prompt and answer together.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// What computes: "cpu", "webgpu".
    pub fn backend_name(&self) -> &'static str {
        self.backend_name
    }

    /// Requests in progress, and tokens computed since the model was loaded (of prompts and of answers).
    pub fn activity(&self) -> (usize, u64) {
        self.engine.try_borrow().map_or((1, 0), |engine| (engine.active(), engine.computed_tokens()))
    }

    /// Compiles a grammar for this model's vocabulary.
    pub(super) fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        if self.grammars.get().is_none() {
            let _ = self.grammars.set(GrammarCompiler::new(&self.tokenizer)?);
        }
        match self.grammars.get() {
            Some(grammars) => grammars.compile(grammar),
            None => GrammarCompiler::new(&self.tokenizer)?.compile(grammar),
        }
    }

    /// A constraint behind what already stands; `None` where that does not fit it.
    pub(super) fn constraint_behind(&self, constraint: Constraint, text: &[u8]) -> Option<Constraint> {
        self.grammars.get()?.behind(constraint, text)
    }

    /// The chat template: the file's own, or the format that the catalogue names for `model_id`.
    pub fn template(&self, model_id: &str) -> Result<Rc<ChatTemplate>> {
        if let Some(template) = &self.own_template {
            return Ok(Rc::clone(template));
        }
        let format = catalog::find(model_id).map_or(ChatFormat::ChatMl, |card| card.chat_format);
        let template = ChatTemplate::new(template_for(format), &self.tokenizer.bos_text, &self.tokenizer.eos_text)?;
        Ok(Rc::new(template))
    }
}
