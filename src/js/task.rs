//! Futures that JavaScript drives: the package's `drive(task)` polls, waits for what the poll gives it, polls again.

use crate::gguf::LocalFuture;
use js_sys::{Function, Promise, Reflect};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use wasm_bindgen::prelude::*;

/// How a promise ended.
pub type Settled = Result<JsValue, JsValue>;

thread_local! {
    /// The promise that the future being polled wants to wait for. A task waits for one thing at a time.
    static WANTED: RefCell<Option<Promise>> = const { RefCell::new(None) };
    /// How the promise ended that the future waited for last.
    static OUTCOME: RefCell<Option<Settled>> = const { RefCell::new(None) };
}

/// A running operation. Freeing it cancels the operation.
#[wasm_bindgen]
pub struct Task {
    future: LocalFuture<'static, Settled>,
    result: JsValue,
}

impl Task {
    pub fn new(future: impl Future<Output = Settled> + 'static) -> Self {
        Self { future: Box::pin(future), result: JsValue::UNDEFINED }
    }
}

#[wasm_bindgen]
impl Task {
    /// Goes on with the operation. `failed` and `value` tell how the promise ended that the last call gave. Gives a
    /// promise to wait for, `null` to give way to the event loop once, `undefined` when the result is there. Throws
    /// what the operation fails with.
    pub fn poll(&mut self, failed: bool, value: JsValue) -> Result<JsValue, JsValue> {
        OUTCOME.set(Some(if failed { Err(value) } else { Ok(value) }));
        WANTED.set(None);
        let polled = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        OUTCOME.set(None);
        match polled {
            Poll::Pending => Ok(WANTED.take().map_or(JsValue::NULL, JsValue::from)),
            Poll::Ready(result) => {
                self.result = result?;
                Ok(JsValue::UNDEFINED)
            }
        }
    }

    /// The result, once.
    pub fn take(&mut self) -> JsValue {
        std::mem::replace(&mut self.result, JsValue::UNDEFINED)
    }
}

/// Waits for a promise. Only inside a [`Task`].
pub fn settled(promise: Promise) -> impl Future<Output = Settled> {
    struct Wait(Option<Promise>);
    impl Future for Wait {
        type Output = Settled;
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Settled> {
            match self.0.take() {
                Some(promise) => {
                    WANTED.set(Some(promise));
                    Poll::Pending
                }
                None => Poll::Ready(OUTCOME.take().unwrap_or_else(|| Err(JsValue::from_str("polled out of turn")))),
            }
        }
    }
    Wait(Some(promise))
}

/// Waits for about `milliseconds`, by the host's `setTimeout`.
pub async fn sleep(milliseconds: u32) {
    let promise = Promise::new(&mut |resolve, _| {
        let timer = Reflect::get(&js_sys::global(), &"setTimeout".into()).ok().and_then(|timer| timer.dyn_into::<Function>().ok());
        let started = timer.and_then(|timer| timer.call2(&JsValue::UNDEFINED, &resolve, &milliseconds.into()).ok());
        if started.is_none() {
            // A host without timers: at once is better than never.
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    });
    let _ = settled(promise).await;
}
