//! The loaded models: each file once, however many requests wait for it.
//!
//! The first request that needs a model loads it; others look again from time to time. Nobody waits on another
//! request's future: in workerd that request may be gone at any moment, and its timers and connections with it. A load
//! that stands still is taken over by whoever notices.

use super::Model;
use super::backends::{BackendChoice, LoadProgress, ModelFile};
use crate::engine::Limits;
use crate::error::{AiError, Result};
use crate::gguf::Source;
use crate::host::{now_ms, pause};
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::rc::Rc;

/// How often a waiting request looks whether the model is there.
const LOOK_AGAIN_MS: u32 = 15;
/// A load without a new byte or kernel for so long is taken over.
const STANDSTILL_MS: f64 = 30_000.0;

/// Models by the name of their source.
pub struct ModelStore {
    limits: Limits,
    choice: BackendChoice,
    slots: RefCell<HashMap<String, Rc<Slot>>>,
}

#[derive(Default)]
struct Slot {
    state: RefCell<State>,
    /// Counts the loads that were begun.
    attempt: Cell<u64>,
    /// When it last went on.
    heartbeat: Cell<f64>,
}

#[derive(Default)]
enum State {
    #[default]
    Empty,
    Loading,
    Ready(Rc<Model>),
    Failed(AiError),
}

impl ModelStore {
    pub fn new(limits: Limits, choice: BackendChoice) -> Self {
        Self { limits, choice, slots: RefCell::default() }
    }

    /// The model of a source, loaded if need be.
    pub async fn get(&self, source: Rc<dyn Source>, on_progress: Rc<dyn Fn(LoadProgress)>) -> Result<Rc<Model>> {
        let slot = Rc::clone(self.slots.borrow_mut().entry(source.name()).or_default());
        let mut waited_for = None;
        loop {
            match &*slot.state.borrow() {
                State::Ready(model) => return Ok(Rc::clone(model)),
                State::Loading if now_ms() - slot.heartbeat.get() < STANDSTILL_MS => waited_for = Some(slot.attempt.get()),
                // The attempt that this request waited for has failed; later requests try again.
                State::Failed(error) if waited_for == Some(slot.attempt.get()) => return Err(error.clone()),
                _ => break,
            }
            pause(LOOK_AGAIN_MS).await;
        }
        let attempt = Attempt::begin(&slot);
        let beat = Rc::clone(&slot);
        let on_progress: Rc<dyn Fn(LoadProgress)> = Rc::new(move |progress| {
            beat.heartbeat.set(now_ms());
            on_progress(progress);
        });
        let file = || ModelFile { source: Rc::clone(&source), choice: self.choice, on_progress: Rc::clone(&on_progress) };
        let mut loaded = Model::load(file(), self.limits).await;
        if let Err(error) = &loaded
            && error.code == crate::error::ErrorCode::OutOfCapacity
            && self.drop_idle()
        {
            // Models that nobody uses now made room.
            loaded = Model::load(file(), self.limits).await;
        }
        attempt.end(loaded.map(Rc::new))
    }

    /// The models in memory.
    pub fn loaded(&self) -> Vec<Rc<Model>> {
        let ready = |slot: &Rc<Slot>| match &*slot.state.borrow() {
            State::Ready(model) => Some(Rc::clone(model)),
            _ => None,
        };
        self.slots.borrow().values().filter_map(ready).collect()
    }

    /// Drops models that no request uses. Returns whether there were any.
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

/// A load in progress. When its request is dropped midway, the slot is free for the next one.
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
