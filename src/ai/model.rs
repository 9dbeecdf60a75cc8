//! A loaded model: tokenizer, chat template and engine.

use super::backends::{LoadedBackend, ModelFile};
use super::memory::{Taken, needs_more};
use super::templates::Templates;
use crate::backend::Gpu;
use crate::engine::{Engine, Limits, SequenceId};
use crate::error::{AiError, ErrorCode, Result};
use crate::grammar::{Constraint, Grammar, GrammarCompiler};
use crate::host::signal;
use crate::model::Architecture;
use crate::prompt::ChatTemplate;
use crate::tokenizer::Tokenizer;
use serde::Serialize;
use std::cell::{Cell, OnceCell, RefCell, RefMut};
use std::collections::HashSet;
use std::rc::Rc;

/// Everything that serves requests for one model file.
pub struct Model {
    /// The file's name. It is reported to clients as the model that really answered.
    pub name: String,
    pub tokenizer: Tokenizer,
    pub end_tokens: Rc<HashSet<u32>>,
    /// Borrowed for one step at a time; a request that finds it borrowed waits for [`Model::step_end`].
    pub engine: RefCell<Engine>,
    /// Wake the requests that wait for the end of a step.
    waiting: RefCell<Vec<Box<dyn FnOnce()>>>,
    /// Sequences whose requests ended while the engine was borrowed.
    pub(super) abandoned: RefCell<Vec<SequenceId>>,
    templates: Templates,
    /// Created for the first request that has a grammar.
    grammars: OnceCell<GrammarCompiler>,
    pub(super) architecture: Architecture,
    /// Read again if the backend is lost.
    file: ModelFile,
    computed_by: RefCell<ComputedBy>,
    /// What it takes of this instance's memory; `None` on the GPU.
    taken: RefCell<Option<Taken>>,
    /// Requests in progress and computed tokens, before the step that is being computed.
    last_activity: Cell<(usize, u64)>,
    /// Whether the CPU once failed to take the model over for lack of memory.
    too_large_for_cpu: Cell<bool>,
}

/// A step that is being computed. At its end, also when its request is dropped, the requests that wait for it are woken.
struct Step<'a> {
    model: &'a Model,
    engine: Option<RefMut<'a, Engine>>,
}

impl Drop for Step<'_> {
    fn drop(&mut self) {
        // Before anybody is woken.
        self.engine = None;
        for wake in self.model.waiting.take() {
            wake();
        }
    }
}

/// Which backend computes a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ComputedBy {
    /// "cpu" or "webgpu".
    pub backend: &'static str,
    /// Why it is not the GPU, if one was wanted.
    pub reason: Option<String>,
}

impl Model {
    /// Loads a model from its file.
    ///
    /// # Errors
    ///
    /// 5004 if the file cannot be used as a model, 3040 if memory runs out, an error of the source if the file cannot be read.
    pub async fn load(file: ModelFile, limits: Limits) -> Result<Self> {
        let (header, reader) = file.open().await?;
        let name = reader.name();
        let architecture = Architecture::from_header(&header, &name)?;
        if architecture.embedding.is_some() {
            return Err(AiError::invalid_data(format!(
                "{name} is an embedding model, and this id is one of text generation. Give the file to the id of an embedding model, or as {{ weights: … }} to an id of your own."
            )));
        }
        let tokenizer = Tokenizer::from_header(&header, &name)?;
        let templates = Templates::from_header(&header, &tokenizer);
        // This frees the metadata (a vocabulary of many small strings) before memory is needed for the weights.
        let tensors = header.into_tensors();
        let LoadedBackend { backend, taken, reason } = file.load_backend(tensors, &architecture, reader).await?;
        Ok(Self {
            computed_by: RefCell::new(ComputedBy { backend: backend.name(), reason }),
            taken: RefCell::new(taken),
            last_activity: Cell::default(),
            too_large_for_cpu: Cell::new(false),
            file,
            name,
            end_tokens: Rc::new(tokenizer.end_of_generation().clone()),
            tokenizer,
            engine: RefCell::new(Engine::new(backend, limits)),
            waiting: RefCell::default(),
            abandoned: RefCell::default(),
            templates,
            grammars: OnceCell::new(),
            architecture,
        })
    }

    /// Maximum positions (tokens of prompt and answer together) that the model supports.
    pub fn positions(&self) -> usize {
        self.architecture.sizes.positions
    }

    /// Whether another instance of the package should hold the model, for a context of so many positions.
    pub fn is_too_large_with(&self, positions: usize) -> bool {
        self.taken.borrow().as_ref().is_some_and(|taken| taken.is_too_small_for(positions))
    }

    /// Which backend computes the model, and why.
    pub fn computed_by(&self) -> ComputedBy {
        self.computed_by.borrow().clone()
    }

    /// The GPU that computes the model, with its counters; `None` on the CPU, and while a step is being computed.
    pub fn gpu(&self) -> Option<Gpu> {
        self.engine.try_borrow().ok()?.gpu()
    }

    /// Waits until no step is being computed, then borrows the engine.
    pub(super) async fn engine(&self) -> RefMut<'_, Engine> {
        loop {
            match self.engine.try_borrow_mut() {
                Ok(engine) => return engine,
                Err(_) => self.step_end().await,
            }
        }
    }

    /// Waits until the step that is being computed has ended, without being polled meanwhile.
    pub(super) async fn step_end(&self) {
        let (wake, end) = signal();
        self.waiting.borrow_mut().push(Box::new(wake));
        end.await;
    }

    /// Advances the engine by one step. If its backend is lost or out of memory, loads the model into another one.
    pub(super) async fn advance(&self, engine: RefMut<'_, Engine>) {
        let mut step = Step { model: self, engine: Some(engine) };
        if let Some(engine) = &mut step.engine {
            self.compute(engine).await;
        }
    }

    async fn compute(&self, engine: &mut Engine) {
        self.last_activity.set((engine.active(), engine.computed_tokens()));
        engine.step().await;
        self.leave_full_gpu(engine).await;
        let Some(lost) = engine.lost().map(|error| error.text.clone()) else { return };
        let loaded = match self.file.cpu_fallback() {
            // If the model is too large for the CPU, the GPU may be available again.
            Some(file) => match file.reload_backend().await {
                Ok(loaded) => Ok(LoadedBackend { reason: Some(lost), ..loaded }),
                Err(_) => self.file.reload_backend().await,
            },
            None => self.file.reload_backend().await,
        };
        match loaded {
            Ok(loaded) => self.use_backend(engine, loaded),
            Err(error) => engine.fail_all(&error),
        }
    }

    /// If the GPU has no memory for a sequence, moves the whole model to the CPU, provided that the configuration allows the CPU and
    /// that it has enough memory. Otherwise that sequence fails.
    async fn leave_full_gpu(&self, engine: &mut Engine) {
        let Some(full) = engine.out_of_gpu_memory().map(|error| error.text.clone()) else { return };
        let fallback = self.file.cpu_fallback().filter(|_| !self.too_large_for_cpu.get());
        let Some(file) = fallback else { return engine.fail_out_of_gpu_memory("") };
        match file.reload_backend().await {
            Ok(loaded) => self.use_backend(engine, LoadedBackend { reason: Some(full), ..loaded }),
            // Elsewhere the CPU can.
            Err(AiError { code: ErrorCode::NeedsMoreMemory | ErrorCode::OutOfCapacity, .. }) if self.file.memory.elsewhere => {
                engine.fail_out_of_gpu_memory_with(&needs_more(&self.name));
            }
            Err(error) => {
                self.too_large_for_cpu.set(error.code == ErrorCode::OutOfCapacity);
                engine.fail_out_of_gpu_memory(&format!(" Nor can the CPU take over: {}", error.text));
            }
        }
    }

    fn use_backend(&self, engine: &mut Engine, LoadedBackend { backend, taken, reason }: LoadedBackend) {
        *self.taken.borrow_mut() = taken;
        *self.computed_by.borrow_mut() = ComputedBy { backend: backend.name(), reason };
        engine.replace_backend(backend);
    }

    /// Requests in progress, and tokens of prompts and answers computed since the model was loaded. While a step is being computed, as
    /// before it.
    pub fn activity(&self) -> (usize, u64) {
        self.engine.try_borrow().map_or(self.last_activity.get(), |engine| (engine.active(), engine.computed_tokens()))
    }

    /// Compiles a grammar for this model's vocabulary.
    ///
    /// # Errors
    ///
    /// 5006 if a schema cannot be guaranteed, 5004 if the vocabulary cannot be used with grammars.
    pub(super) fn compile(&self, grammar: &Grammar) -> Result<Constraint> {
        if self.grammars.get().is_none() {
            let _ = self.grammars.set(GrammarCompiler::new(&self.tokenizer)?);
        }
        match self.grammars.get() {
            Some(grammars) => grammars.compile(grammar),
            None => GrammarCompiler::new(&self.tokenizer)?.compile(grammar),
        }
    }

    /// The constraint advanced past `text`, which the answer already contains; `None` if the text does not fit the grammar.
    pub(super) fn constraint_after(&self, constraint: &Constraint, text: &[u8]) -> Option<Constraint> {
        self.grammars.get()?.after_text(constraint, text)
    }

    /// The chat template for a request, and a warning if it is not the file's own; see [`Templates::get`].
    ///
    /// # Errors
    ///
    /// 5004 if a built-in template cannot be compiled.
    pub fn template(&self, with_tools: bool) -> Result<(Rc<ChatTemplate>, Option<&str>)> {
        self.templates.get(with_tools, &self.tokenizer)
    }
}
