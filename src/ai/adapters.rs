//! The LoRA adapters that requests can name. Each is loaded when the first request names it, after its model.

use super::Model;
use super::memory::{Memory, Needs, Taken};
use super::slot::{Claim, Slot};
use super::store::Place;
use crate::error::{AiError, ErrorCode, Result};
use crate::lora::{self, Adapter, AdapterFiles, AdapterId, unsupported};
use sha2::{Digest, Sha256};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// A configured adapter.
pub struct Lora {
    /// The id of the model that it was trained for; `None`: it is tried with any.
    pub model: Option<String>,
    pub files: AdapterFiles,
    /// By which requests can name it too; `None`: one that follows from the name.
    pub id: Option<String>,
}

/// Names of other adapters that an error lists.
const MAX_NAMES: usize = 10;

/// The adapters of a configuration.
pub struct AdapterStore {
    memory: Rc<Memory>,
    /// By their names, in order.
    known: RefCell<Vec<(String, Rc<Lora>)>>,
    /// By the adapter's name and the identity of the model's source.
    slots: RefCell<Vec<Named>>,
    /// The id of the next adapter that is loaded.
    next: Cell<u64>,
}

/// The adapter's name, the identity of the model's source, and the place of the adapter.
type Named = (String, String, Rc<Slot<Loaded>>);

struct Loaded {
    adapter: Rc<Adapter>,
    _taken: Taken,
}

impl AdapterStore {
    pub fn new(loras: HashMap<String, Lora>, memory: Rc<Memory>) -> Self {
        let store = Self { memory, known: RefCell::default(), slots: RefCell::default(), next: Cell::default() };
        loras.into_iter().for_each(|(name, lora)| store.add(name, lora));
        store
    }

    /// Adds an adapter, in place of one of the same name.
    pub fn add(&self, name: String, lora: Lora) {
        let mut known = self.known.borrow_mut();
        known.retain(|(other, _)| *other != name);
        self.slots.borrow_mut().retain(|(other, ..)| *other != name);
        let at = known.partition_point(|(other, _)| *other < name);
        known.insert(at, (name, Rc::new(lora)));
    }

    /// The adapters by their names, in order.
    pub fn all(&self) -> Vec<(String, Rc<Lora>)> {
        self.known.borrow().clone()
    }

    /// The name of an adapter that a request names by its name or its id, and the adapter.
    ///
    /// # Errors
    ///
    /// 5005 if there is none.
    pub fn find(&self, wanted: &str) -> Result<(String, Rc<Lora>)> {
        let known = self.known.borrow();
        let found = known.iter().find(|(name, _)| name == wanted).or_else(|| known.iter().find(|(name, lora)| id_of(name, lora) == wanted));
        if let Some((name, lora)) = found {
            return Ok((name.clone(), Rc::clone(lora)));
        }
        let names: Vec<&str> = known.iter().map(|(name, _)| name.as_str()).take(MAX_NAMES).collect();
        let more = if known.len() > MAX_NAMES { ", …" } else { "" };
        Err(unsupported(match names.is_empty() {
            true => format!(
                "LoRA adapter '{wanted}' is not known here: none is configured. Give it its files with new Ai({{ loras: {{ \"{wanted}\": {{ model, source }} }} }})."
            ),
            false => format!("LoRA adapter '{wanted}' is not known here. Known: {}{more}.", names.join(", ")),
        }))
    }

    /// An adapter of a loaded model; loads it if necessary. `identity`: of the model's source; `place`: of the request that needs it.
    ///
    /// # Errors
    ///
    /// 5005 if it cannot be used with the model; 3040 or [`ErrorCode::NeedsMoreMemory`] if memory runs out; an error of the source.
    pub async fn get(&self, name: &str, lora: &Lora, model: &Model, identity: String, place: &Place) -> Result<Rc<Adapter>> {
        let slot = self.slot(name, identity);
        let attempt = match slot.claim(|| place.keep()).await? {
            Claim::Ready(loaded) => return Ok(Rc::clone(&loaded.adapter)),
            Claim::Load(attempt) => attempt,
        };
        let mut loaded = self.load(name, lora, model, &slot).await;
        if matches!(&loaded, Err(error) if error.code == ErrorCode::OutOfCapacity) && self.drop_idle() {
            loaded = self.load(name, lora, model, &slot).await;
        }
        Ok(Rc::clone(&attempt.end(loaded)?.adapter))
    }

    fn slot(&self, name: &str, identity: String) -> Rc<Slot<Loaded>> {
        let mut slots = self.slots.borrow_mut();
        if let Some((.., slot)) = slots.iter().find(|(other, model, _)| other == name && *model == identity) {
            return Rc::clone(slot);
        }
        let slot = Rc::default();
        slots.push((name.to_owned(), identity, Rc::clone(&slot)));
        slot
    }

    async fn load(&self, name: &str, lora: &Lora, model: &Model, slot: &Rc<Slot<Loaded>>) -> Result<Loaded> {
        let id = AdapterId(self.next.get());
        self.next.set(id.0 + 1);
        let room = |bytes| self.memory.take(&format!("LoRA adapter '{name}'"), Needs::of_adapter(bytes));
        let beat = Rc::downgrade(slot);
        let on_progress = Rc::new(move || {
            if let Some(slot) = beat.upgrade() {
                slot.beat();
            }
        });
        let (adapter, taken) = lora::load(id, name, &lora.files, &model.name, &model.architecture, room, on_progress).await?;
        Ok(Loaded { adapter: Rc::new(adapter), _taken: taken })
    }

    /// Drops the adapters that no request uses. Returns whether there were any.
    fn drop_idle(&self) -> bool {
        let mut dropped = false;
        for (.., slot) in self.slots.borrow().iter() {
            dropped |= slot.drop_if(|loaded| Rc::strong_count(&loaded.adapter) == 1);
        }
        dropped
    }
}

/// 5005: the adapter is for another model.
pub fn for_another_model(name: &str, own: &str, asked: &str) -> AiError {
    unsupported(format!("LoRA adapter '{name}' is for the model {own}, which is not the one that answers for {asked}."))
}

/// The id of an adapter: always the same for a name, unless it was given.
pub fn id_of(name: &str, lora: &Lora) -> String {
    if let Some(id) = &lora.id {
        return id.clone();
    }
    let hash = Sha256::digest(name.as_bytes());
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    format!("{}-{}-4{}-8{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}
