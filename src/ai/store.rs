//! The loaded models: each file is loaded once, however many requests wait for it.

use super::Model;
use super::backends::{BackendChoice, LoadProgress, ModelFile};
use super::memory::{Memory, needs_more};
use super::slot::{Claim, Slot};
use crate::engine::{Limits, too_many};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::Source;
use crate::host::now_ms;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Models by the identity of their source.
pub struct ModelStore {
    limits: Limits,
    choice: BackendChoice,
    memory: Rc<Memory>,
    served: RefCell<HashMap<String, Rc<Served>>>,
}

/// A model, and the requests that it serves.
#[derive(Default)]
struct Served {
    slot: Slot<Model>,
    /// The places of requests that are not in the engine yet: when each request was last seen, in milliseconds of [`now_ms`].
    preparing: RefCell<Vec<Rc<Cell<f64>>>>,
}

impl Served {
    /// Requests that load the model or prepare their prompt. Those that have not been seen for `abandoned_after_ms` do not count: in
    /// workerd a request can end without any notice.
    fn preparing(&self, abandoned_after_ms: f64) -> usize {
        let now = now_ms();
        let mut preparing = self.preparing.borrow_mut();
        preparing.retain(|seen| now - seen.get() <= abandoned_after_ms);
        preparing.len()
    }
}

/// A request's place among those that a model serves at once, until the request is in the engine.
pub struct Place {
    served: Rc<Served>,
    seen: Rc<Cell<f64>>,
}

impl Place {
    /// Records that the request still exists.
    pub fn keep(&self) {
        self.seen.set(now_ms());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.served.preparing.borrow_mut().retain(|seen| !Rc::ptr_eq(seen, &self.seen));
    }
}

impl ModelStore {
    pub fn new(limits: Limits, choice: BackendChoice, memory: Rc<Memory>) -> Self {
        Self { limits, choice, memory, served: RefCell::default() }
    }

    fn of(&self, source: &dyn Source) -> Rc<Served> {
        Rc::clone(self.served.borrow_mut().entry(source.identity()).or_default())
    }

    /// The model of a source; loads it if necessary. `place`: of the request that needs it.
    ///
    /// # Errors
    ///
    /// The error of the load, also of a load that another request had started.
    pub async fn get(&self, source: Rc<dyn Source>, on_progress: Rc<dyn Fn(LoadProgress)>, place: Option<&Place>) -> Result<Rc<Model>> {
        let served = self.of(&*source);
        let keep = || {
            if let Some(place) = place {
                place.keep();
            }
        };
        let attempt = match served.slot.claim(keep).await? {
            Claim::Ready(model) => return Ok(model),
            Claim::Load(attempt) => attempt,
        };
        // Weak: the model keeps this function, and the slot keeps the model.
        let beat = Rc::downgrade(&served);
        let on_progress: Rc<dyn Fn(LoadProgress)> = Rc::new(move |progress| {
            if let Some(served) = beat.upgrade() {
                served.slot.beat();
            }
            on_progress(progress);
        });
        let file = || ModelFile {
            source: Rc::clone(&source),
            memory: Rc::clone(&self.memory),
            choice: self.choice,
            on_progress: Rc::clone(&on_progress),
        };
        let is_full = |loaded: &Result<Model>| matches!(loaded, Err(error) if error.code == ErrorCode::OutOfCapacity);
        let mut loaded = Model::load(file(), self.limits).await;
        if is_full(&loaded) && self.drop_idle() {
            // Dropping unused models has freed memory: try once more.
            loaded = Model::load(file(), self.limits).await;
        }
        if is_full(&loaded) && self.memory.elsewhere && self.choice != BackendChoice::WebGpu {
            loaded = Err(needs_more(&source.name()));
        }
        attempt.end(loaded)
    }

    /// Takes a place for a request, before anything is loaded or prepared for it.
    ///
    /// # Errors
    ///
    /// 3040 if the model serves too many requests already.
    pub async fn place(&self, source: &dyn Source) -> Result<Place> {
        let served = self.of(source);
        let others = served.preparing(self.limits.abandoned_after_ms);
        let seen = Rc::new(Cell::new(now_ms()));
        served.preparing.borrow_mut().push(Rc::clone(&seen));
        let place = Place { served, seen };
        match place.served.slot.ready() {
            Some(model) => model.engine().await.check_room(others)?,
            None if others >= self.limits.sequences => return Err(too_many(others)),
            None => {}
        }
        Ok(place)
    }

    /// Gives a model up, which another instance of the package is to hold. Answers in progress keep it until they end.
    pub fn give_up(&self, source: &dyn Source) -> AiError {
        let error = needs_more(&source.name());
        if let Some(served) = self.served.borrow().get(&source.identity()) {
            served.slot.give_up(error.clone());
        }
        error
    }

    /// The models in memory.
    pub fn loaded(&self) -> Vec<Rc<Model>> {
        self.served.borrow().values().filter_map(|served| served.slot.ready()).collect()
    }

    /// Drops the models that no request uses. Returns whether there were any.
    pub fn drop_idle(&self) -> bool {
        let mut dropped = false;
        for served in self.served.borrow().values() {
            dropped |= served.slot.drop_if(|model| Rc::strong_count(model) == 1);
        }
        dropped
    }
}
