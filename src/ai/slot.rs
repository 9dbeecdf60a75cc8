//! What is loaded once, however many requests wait for it.
//!
//! The first request that needs it loads it; other requests poll. No request awaits another request's future: in
//! workerd that request may end at any moment, and its timers and connections with it. A request that finds a stalled load
//! takes it over.

use crate::error::{AiError, ErrorCode, Result};
use crate::host::{now_ms, pause};
use std::cell::{Cell, RefCell};
use std::rc::Rc;

/// Milliseconds between two polls of a request that waits for a load.
const POLL_INTERVAL_MS: u32 = 15;
/// Milliseconds without progress after which another request takes a load over.
const STALLED_AFTER_MS: f64 = 30_000.0;

/// The place of something that is loaded.
pub struct Slot<T> {
    state: RefCell<State<T>>,
    /// Number of loads started so far.
    attempt: Cell<u64>,
    /// Time of the last progress, in milliseconds of [`now_ms`].
    heartbeat: Cell<f64>,
}

enum State<T> {
    Empty,
    Loading,
    Ready(Rc<T>),
    Failed(AiError),
    /// Another instance of the package is to hold it.
    Elsewhere(AiError),
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { state: RefCell::new(State::Empty), attempt: Cell::default(), heartbeat: Cell::default() }
    }
}

/// What a request finds.
pub enum Claim<'a, T> {
    Ready(Rc<T>),
    /// The request is to load it.
    Load(Attempt<'a, T>),
}

impl<T> Slot<T> {
    /// What was loaded, or the task to load it. Waits while another request loads it, and calls `waiting` meanwhile.
    ///
    /// # Errors
    ///
    /// The error of a load that this request has waited for; that of [`Slot::give_up`].
    pub async fn claim(&self, waiting: impl Fn()) -> Result<Claim<'_, T>> {
        let mut waited_for = None;
        loop {
            match &*self.state.borrow() {
                State::Ready(loaded) => return Ok(Claim::Ready(Rc::clone(loaded))),
                State::Elsewhere(error) => return Err(error.clone()),
                State::Loading if now_ms() - self.heartbeat.get() < STALLED_AFTER_MS => waited_for = Some(self.attempt.get()),
                // The load that this request waited for has failed. Later requests start a new one.
                State::Failed(error) if waited_for == Some(self.attempt.get()) => return Err(error.clone()),
                _ => break,
            }
            pause(POLL_INTERVAL_MS).await;
            waiting();
        }
        let number = self.attempt.get() + 1;
        self.attempt.set(number);
        self.beat();
        *self.state.borrow_mut() = State::Loading;
        Ok(Claim::Load(Attempt { slot: self, number }))
    }

    /// Records that a load makes progress.
    pub fn beat(&self) {
        self.heartbeat.set(now_ms());
    }

    /// What was loaded, if it was.
    pub fn ready(&self) -> Option<Rc<T>> {
        match &*self.state.borrow() {
            State::Ready(loaded) => Some(Rc::clone(loaded)),
            _ => None,
        }
    }

    /// Refuses it from now on with this error: another instance of the package is to hold it.
    pub fn give_up(&self, error: AiError) {
        *self.state.borrow_mut() = State::Elsewhere(error);
    }

    /// Drops what was loaded, if `is_idle` says so. Returns whether it did.
    pub fn drop_if(&self, is_idle: impl FnOnce(&Rc<T>) -> bool) -> bool {
        let mut state = self.state.borrow_mut();
        let drops = matches!(&*state, State::Ready(loaded) if is_idle(loaded));
        if drops {
            *state = State::Empty;
        }
        drops
    }
}

/// A load in progress. If its request is dropped before the end, the slot becomes free for the next request.
pub struct Attempt<'a, T> {
    slot: &'a Slot<T>,
    number: u64,
}

impl<T> Attempt<'_, T> {
    fn is_current(&self) -> bool {
        self.slot.attempt.get() == self.number
    }

    /// Records how the load has ended.
    ///
    /// # Errors
    ///
    /// The load's error.
    pub fn end(self, loaded: Result<T>) -> Result<Rc<T>> {
        let loaded = loaded.map(Rc::new);
        if self.is_current() {
            *self.slot.state.borrow_mut() = match &loaded {
                Ok(loaded) => State::Ready(Rc::clone(loaded)),
                Err(error) if error.code == ErrorCode::NeedsMoreMemory => State::Elsewhere(error.clone()),
                Err(error) => State::Failed(error.clone()),
            };
        }
        loaded
    }
}

impl<T> Drop for Attempt<'_, T> {
    fn drop(&mut self) {
        if self.is_current() && matches!(&*self.slot.state.borrow(), State::Loading) {
            *self.slot.state.borrow_mut() = State::Empty;
        }
    }
}
