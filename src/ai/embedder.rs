//! Embedding models that the engine's own code computes: decoders such as Qwen3-Embedding, and EmbeddingGemma. They compute on the CPU.

use super::backends::{BackendChoice, LoadProgress, ModelFile, load_on_cpu};
use super::memory::{Memory, Taken};
use super::slot::{Claim, Slot};
use super::vectors::Vectors;
use crate::backend::cpu::{CpuModel, Encoding};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::{Header, Source};
use crate::host::yield_now;
use crate::model::Architecture;
use crate::panics::caught;
use crate::tokenizer::Tokenizer;
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// Tokens of a text at most: keys and values of a longer one would take gigabytes. The rest of it has no influence.
const MAX_TOKENS: usize = 8192;

/// The kinds of models that the host computes, by `general.architecture`.
const OF_THE_HOST: [&str; 1] = ["bert"];

/// The loaded embedding models, by the identity of their source.
pub struct EmbedderStore {
    memory: Rc<Memory>,
    slots: RefCell<HashMap<String, Rc<Slot<Computer>>>>,
}

/// What computes an embedding model.
pub enum Computer {
    Own(Rc<Embedder>),
    /// The host does, in a module of its own.
    Host,
}

/// A loaded embedding model.
pub struct Embedder {
    /// The file's name.
    pub(super) name: String,
    tokenizer: Tokenizer,
    model: CpuModel,
    _taken: Taken,
}

impl EmbedderStore {
    pub fn new(memory: Rc<Memory>) -> Self {
        Self { memory, slots: RefCell::default() }
    }

    /// The embedding model of a source; loads it if necessary. `make_room` drops what nobody uses, and returns whether there was anything.
    ///
    /// # Errors
    ///
    /// 5004 if the file is none of an embedding model, 3040 if memory runs out, an error of the source.
    pub async fn get(
        &self,
        source: &Rc<dyn Source>,
        on_progress: Rc<dyn Fn(LoadProgress)>,
        make_room: impl FnOnce() -> bool,
    ) -> Result<Rc<Computer>> {
        let slot = Rc::clone(self.slots.borrow_mut().entry(source.identity()).or_default());
        let attempt = match slot.claim(|| {}).await? {
            Claim::Ready(computer) => return Ok(computer),
            Claim::Load(attempt) => attempt,
        };
        let beat = Rc::downgrade(&slot);
        let on_progress: Rc<dyn Fn(LoadProgress)> = Rc::new(move |progress| {
            if let Some(slot) = beat.upgrade() {
                slot.beat();
            }
            on_progress(progress);
        });
        let file = || ModelFile {
            source: Rc::clone(source),
            memory: Rc::clone(&self.memory),
            choice: BackendChoice::Cpu,
            on_progress: Rc::clone(&on_progress),
        };
        let mut loaded = load(file()).await;
        if matches!(&loaded, Err(error) if error.code == ErrorCode::OutOfCapacity) && make_room() {
            loaded = load(file()).await;
        }
        attempt.end(loaded)
    }

    /// Drops the models that no request uses. Returns whether there were any.
    pub fn drop_idle(&self) -> bool {
        let mut dropped = false;
        for slot in self.slots.borrow().values() {
            dropped |= slot.drop_if(|computer| matches!(&**computer, Computer::Own(embedder) if Rc::strong_count(embedder) == 1));
        }
        dropped
    }
}

async fn load(file: ModelFile) -> Result<Computer> {
    let (header, reader) = match file.open().await {
        // The host also reads files that are no GGUF.
        Err(AiError { code: ErrorCode::InvalidData, .. }) => return Ok(Computer::Host),
        opened => opened?,
    };
    if is_of_the_host(&header) {
        return Ok(Computer::Host);
    }
    let name = reader.name();
    let architecture = Architecture::from_header(&header, &name)?;
    if architecture.embedding.is_none() {
        return Err(AiError::invalid_data(format!(
            "{name} generates text (it has no '{}.pooling_type'), and this id is one of an embedding model. Use a GGUF of an embedding model.",
            architecture.family
        )));
    }
    let tokenizer = Tokenizer::from_header(&header, &name)?;
    let (model, taken) = load_on_cpu(&header.into_tensors(), &architecture, reader, &file.memory).await?;
    Ok(Computer::Own(Rc::new(Embedder { name, tokenizer, model, _taken: taken })))
}

fn is_of_the_host(header: &Header) -> bool {
    header.text("general.architecture").is_some_and(|kind| OF_THE_HOST.contains(&kind))
}

impl Embedder {
    /// Length of a vector.
    pub fn width(&self) -> usize {
        let architecture = &self.model.architecture;
        architecture.dense().last().copied().unwrap_or(architecture.sizes.width)
    }

    /// The vectors of texts. Other requests have their turn meanwhile.
    ///
    /// # Errors
    ///
    /// 3040 if memory runs out.
    pub async fn embed(&self, texts: &[String]) -> Result<Vectors> {
        let limit = self.model.architecture.sizes.positions.min(MAX_TOKENS);
        let mut tokens = Vec::with_capacity(texts.len());
        for text in texts {
            tokens.push(self.tokenizer.encode_for_embedding(text, limit)?);
        }
        let mut encoding = Encoding::new(&self.model, tokens)?;
        while !caught(|| encoding.advance(&self.model))?? {
            yield_now().await;
        }
        let (numbers, tokens) = caught(|| encoding.finish(&self.model))??;
        Ok(Vectors { numbers, width: self.width(), tokens, served_by: self.name.clone(), pooling: None })
    }
}
