//! A model that is loaded: tokenizer, chat template and engine.

use super::backends::{ModelFile, Placed};
use crate::backend::Gpu;
use crate::catalog::{self, ChatFormat};
use crate::engine::{Engine, Limits, SequenceId};
use crate::error::{ErrorCode, Result};
use crate::gguf::Header;
use crate::grammar::{Constraint, Grammar, GrammarCompiler};
use crate::host::yield_now;
use crate::model::Hyperparameters;
use crate::prompt::{ChatTemplate, template_for};
use crate::tokenizer::Tokenizer;
use serde::Serialize;
use std::cell::{Cell, OnceCell, RefCell, RefMut};
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
    /// Read again where the backend is lost.
    file: ModelFile,
    computed_by: RefCell<ComputedBy>,
    /// The CPU had no room for it when it was asked to take over.
    only_gpu: Cell<bool>,
}

/// What computes a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComputedBy {
    /// "cpu", "webgpu".
    pub backend: &'static str,
    /// Why it is not the GPU, where that was wanted.
    pub reason: Option<String>,
}

impl Model {
    /// Loads a model from its file.
    pub async fn load(file: ModelFile, limits: Limits) -> Result<Self> {
        let mut reader = file.reader();
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
        let Placed { backend, reason } = file.place(&tensors, &parameters, reader).await?;
        Ok(Self {
            computed_by: RefCell::new(ComputedBy { backend: backend.name(), reason }),
            only_gpu: Cell::new(false),
            file,
            name,
            end_tokens: Rc::new(tokenizer.end_of_generation().clone()),
            tokenizer,
            engine: RefCell::new(Engine::new(backend, limits)),
            abandoned: RefCell::default(),
            own_template,
            grammars: OnceCell::new(),
            positions: parameters.positions,
        })
    }

    /// Positions that the model can hold: prompt and answer together.
    pub fn positions(&self) -> usize {
        self.positions
    }

    /// What computes, and why.
    pub fn computed_by(&self) -> ComputedBy {
        self.computed_by.borrow().clone()
    }

    /// The GPU that computes, and what it did; unknown while a step is being computed.
    pub fn gpu(&self) -> Option<Gpu> {
        self.engine.try_borrow().ok()?.gpu()
    }

    /// The engine, as soon as no step of another request is being computed.
    pub(super) async fn engine(&self) -> RefMut<'_, Engine> {
        loop {
            match self.engine.try_borrow_mut() {
                Ok(engine) => return engine,
                Err(_) => yield_now().await,
            }
        }
    }

    /// Advances the engine by a step; where its backend is lost or too small, brings the model to another one.
    pub(super) async fn advance(&self, engine: &mut Engine) {
        engine.step().await;
        self.find_room(engine).await;
        let Some(lost) = engine.lost().map(|error| error.text.clone()) else { return };
        let placed = match self.file.on_cpu() {
            // What is too large for the CPU may still find the GPU again.
            Some(file) => match file.place_again().await {
                Ok(placed) => Ok(Placed { reason: Some(lost), ..placed }),
                Err(_) => self.file.place_again().await,
            },
            None => self.file.place_again().await,
        };
        match placed {
            Ok(placed) => self.go_on(engine, placed),
            Err(error) => engine.fail_all(&error),
        }
    }

    /// Where the GPU has no memory for a sequence, the whole model moves to the CPU, if that is allowed and has some.
    async fn find_room(&self, engine: &mut Engine) {
        let Some(full) = engine.out_of_room().map(|error| error.text.clone()) else { return };
        let on_cpu = self.file.on_cpu().filter(|_| !self.only_gpu.get());
        let Some(file) = on_cpu else { return engine.fail_without_room("") };
        match file.place_again().await {
            Ok(placed) => self.go_on(engine, Placed { reason: Some(full), ..placed }),
            Err(error) => {
                self.only_gpu.set(error.code == ErrorCode::OutOfCapacity);
                engine.fail_without_room(&format!(" Nor can the CPU take over: {}", error.text));
            }
        }
    }

    fn go_on(&self, engine: &mut Engine, Placed { backend, reason }: Placed) {
        *self.computed_by.borrow_mut() = ComputedBy { backend: backend.name(), reason };
        engine.replace_backend(backend);
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
