//! The loaded models: each file is loaded once, however many requests wait for it.
//!
//! The first request that needs a model loads it; other requests poll. No request awaits another request's future: in
//! workerd that request may end at any moment, and its timers and connections with it. A request that finds a stalled load
//! takes it over.

use super::Model;
use super::backends::{BackendChoice, LoadProgress, ModelFile};
use super::memory::{Memory, needs_more};
use crate::engine::{Limits, too_many};
use crate::error::{AiError, ErrorCode, Result};
use crate::gguf::Source;
use crate::host::{now_ms, pause};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// Milliseconds between two polls of a request that waits for a load.
const POLL_INTERVAL_MS: u32 = 15;
/// Milliseconds without a new byte or kernel after which another request takes a load over.
const STALLED_AFTER_MS: f64 = 30_000.0;

/// Models by the identity of their source.
pub struct ModelStore {
    limits: Limits,
    choice: BackendChoice,
    memory: Rc<Memory>,
    slots: RefCell<HashMap<String, Rc<Slot>>>,
}

#[derive(Default)]
struct Slot {
    state: RefCell<State>,
    /// Number of loads started so far.
    attempt: Cell<u64>,
    /// Time of the last progress, in milliseconds of [`now_ms`].
    heartbeat: Cell<f64>,
    /// The places of requests that are not in the engine yet: when each request was last seen, in milliseconds of [`now_ms`].
    preparing: RefCell<Vec<Rc<Cell<f64>>>>,
}

impl Slot {
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
    slot: Rc<Slot>,
    seen: Rc<Cell<f64>>,
}

impl Place {
    /// Records that the request still exists.
    fn keep(&self) {
        self.seen.set(now_ms());
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.slot.preparing.borrow_mut().retain(|seen| !Rc::ptr_eq(seen, &self.seen));
    }
}

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Loading,
    Ready(Rc<Model>),
    Failed(AiError),
    /// Another instance of the package is to hold the model.
    Elsewhere,
}

impl ModelStore {
    pub fn new(limits: Limits, choice: BackendChoice, memory: Rc<Memory>) -> Self {
        Self { limits, choice, memory, slots: RefCell::default() }
    }

    /// The model of a source; loads it if necessary. `place`: of the request that needs it.
    ///
    /// # Errors
    ///
    /// The error of the load, also of a load that another request had started.
    pub async fn get(&self, source: Rc<dyn Source>, on_progress: Rc<dyn Fn(LoadProgress)>, place: Option<&Place>) -> Result<Rc<Model>> {
        let slot = Rc::clone(self.slots.borrow_mut().entry(source.identity()).or_default());
        let mut waited_for = None;
        loop {
            match &*slot.state.borrow() {
                State::Ready(model) => return Ok(Rc::clone(model)),
                State::Elsewhere => return Err(needs_more(&source.name())),
                State::Loading if now_ms() - slot.heartbeat.get() < STALLED_AFTER_MS => waited_for = Some(slot.attempt.get()),
                // The load that this request waited for has failed. Later requests start a new one.
                State::Failed(error) if waited_for == Some(slot.attempt.get()) => return Err(error.clone()),
                _ => break,
            }
            pause(POLL_INTERVAL_MS).await;
            if let Some(place) = place {
                place.keep();
            }
        }
        let attempt = Attempt::begin(&slot);
        // Weak: the model keeps this function, and the slot keeps the model.
        let beat = Rc::downgrade(&slot);
        let on_progress: Rc<dyn Fn(LoadProgress)> = Rc::new(move |progress| {
            if let Some(slot) = beat.upgrade() {
                slot.heartbeat.set(now_ms());
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
        attempt.end(loaded.map(Rc::new))
    }

    /// Takes a place for a request, before anything is loaded or prepared for it.
    ///
    /// # Errors
    ///
    /// 3040 if the model serves too many requests already.
    pub async fn place(&self, source: &dyn Source) -> Result<Place> {
        let slot = Rc::clone(self.slots.borrow_mut().entry(source.identity()).or_default());
        let others = slot.preparing(self.limits.abandoned_after_ms);
        let seen = Rc::new(Cell::new(now_ms()));
        slot.preparing.borrow_mut().push(Rc::clone(&seen));
        let place = Place { slot, seen };
        let model = match &*place.slot.state.borrow() {
            State::Ready(model) => Some(Rc::clone(model)),
            _ => None,
        };
        match model {
            Some(model) => model.engine().await.check_room(others)?,
            None if others >= self.limits.sequences => return Err(too_many(others)),
            None => {}
        }
        Ok(place)
    }

    /// Gives a model up, which another instance of the package is to hold. Answers in progress keep it until they end.
    pub fn give_up(&self, source: &dyn Source) -> AiError {
        if let Some(slot) = self.slots.borrow().get(&source.identity()) {
            *slot.state.borrow_mut() = State::Elsewhere;
        }
        needs_more(&source.name())
    }

    /// The models in memory.
    pub fn loaded(&self) -> Vec<Rc<Model>> {
        let ready = |slot: &Rc<Slot>| match &*slot.state.borrow() {
            State::Ready(model) => Some(Rc::clone(model)),
            _ => None,
        };
        self.slots.borrow().values().filter_map(ready).collect()
    }

    /// Drops the models that no request uses. Returns whether there were any.
    fn drop_idle(&self) -> bool {
        let mut dropped = false;
        for slot in self.slots.borrow().values() {
            let mut state = slot.state.borrow_mut();
            if matches!(&*state, State::Ready(model) if Rc::strong_count(model) == 1) {
                *state = State::Empty;
                dropped = true;
            }
        }
        dropped
    }
}

/// A load in progress. If its request is dropped before the end, the slot becomes free for the next request.
struct Attempt<'a> {
    slot: &'a Slot,
    number: u64,
}

impl<'a> Attempt<'a> {
    fn begin(slot: &'a Slot) -> Self {
        let number = slot.attempt.get() + 1;
        slot.attempt.set(number);
        slot.heartbeat.set(now_ms());
        *slot.state.borrow_mut() = State::Loading;
        Self { slot, number }
    }

    fn is_current(&self) -> bool {
        self.slot.attempt.get() == self.number
    }

    fn end(self, loaded: Result<Rc<Model>>) -> Result<Rc<Model>> {
        if self.is_current() {
            *self.slot.state.borrow_mut() = match &loaded {
                Ok(model) => State::Ready(Rc::clone(model)),
                Err(error) if error.code == ErrorCode::NeedsMoreMemory => State::Elsewhere,
                Err(error) => State::Failed(error.clone()),
            };
        }
        loaded
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if self.is_current() && matches!(&*self.slot.state.borrow(), State::Loading) {
            *self.slot.state.borrow_mut() = State::Empty;
        }
    }
}
