//! Futures that JavaScript drives: the package's `drive(task)` polls, awaits the promise that the poll returns, and polls again.

use crate::gguf::LocalFuture;
use js_sys::{Function, Promise, Reflect};
use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, Waker};
use wasm_bindgen::prelude::*;

/// The result of a promise: its value, or the reason of its rejection.
pub type PromiseResult = Result<JsValue, JsValue>;

thread_local! {
    /// The promise that the polled future waits for. A task waits for one promise at a time.
    static AWAITED: RefCell<Option<Promise>> = const { RefCell::new(None) };
    /// The result of the promise that the future waited for last.
    static RESULT: RefCell<Option<PromiseResult>> = const { RefCell::new(None) };
}

/// A running operation. Freeing it cancels the operation.
#[wasm_bindgen]
pub struct Task {
    future: LocalFuture<'static, PromiseResult>,
    result: JsValue,
}

impl Task {
    pub fn new(future: impl Future<Output = PromiseResult> + 'static) -> Self {
        Self { future: Box::pin(future), result: JsValue::UNDEFINED }
    }
}

#[wasm_bindgen]
impl Task {
    /// Continues the operation. `failed` and `value` are the result of the promise that the last call returned: its value, or the reason
    /// of its rejection if `failed`. Returns a promise to wait for, `null` to yield to the event loop once, or `undefined` when the
    /// result is available from `take`. Throws the operation's error.
    pub fn poll(&mut self, failed: bool, value: JsValue) -> Result<JsValue, JsValue> {
        RESULT.set(Some(if failed { Err(value) } else { Ok(value) }));
        AWAITED.set(None);
        let polled = self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        RESULT.set(None);
        match polled {
            Poll::Pending => Ok(AWAITED.take().map_or(JsValue::NULL, JsValue::from)),
            Poll::Ready(result) => {
                self.result = result?;
                Ok(JsValue::UNDEFINED)
            }
        }
    }

    /// Takes the result; `undefined` if there is none, or if it was already taken.
    pub fn take(&mut self) -> JsValue {
        std::mem::replace(&mut self.result, JsValue::UNDEFINED)
    }
}

/// Waits until a promise is settled. Only inside a [`Task`].
pub fn settled(promise: Promise) -> impl Future<Output = PromiseResult> {
    struct Wait(Option<Promise>);
    impl Future for Wait {
        type Output = PromiseResult;
        fn poll(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<PromiseResult> {
            match self.0.take() {
                Some(promise) => {
                    AWAITED.set(Some(promise));
                    Poll::Pending
                }
                None => Poll::Ready(RESULT.take().unwrap_or_else(|| Err(JsValue::from_str("the task was polled without a result")))),
            }
        }
    }
    Wait(Some(promise))
}

/// Waits for about `milliseconds`, with the host's `setTimeout`.
pub async fn sleep(milliseconds: u32) {
    let promise = Promise::new(&mut |resolve, _| {
        let timer = Reflect::get(&js_sys::global(), &"setTimeout".into()).ok().and_then(|timer| timer.dyn_into::<Function>().ok());
        let started = timer.and_then(|timer| timer.call2(&JsValue::UNDEFINED, &resolve, &milliseconds.into()).ok());
        if started.is_none() {
            // Without timers, continue at once.
            let _ = resolve.call0(&JsValue::UNDEFINED);
        }
    });
    let _ = settled(promise).await;
}
