//! Futures that JavaScript drives: the package's `drive(task)` polls, awaits the promise that the poll returns, and polls again.

use super::convert::to_error;
use crate::engine::blame;
use crate::gguf::LocalFuture;
use crate::panics::caught;
use js_sys::{Function, Promise, Reflect};
use std::cell::{Cell, RefCell};
use std::future::{Future, ready};
use std::panic::AssertUnwindSafe;
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
    /// Makes the next poll fail. For tests.
    static FAILURE: Cell<Option<fn()>> = const { Cell::new(None) };
}

/// A running operation. Freeing it cancels the operation.
#[wasm_bindgen]
pub struct Task {
    /// Unwind safe, because it is dropped when it panics.
    future: AssertUnwindSafe<LocalFuture<'static, PromiseResult>>,
    result: JsValue,
}

impl Task {
    pub fn new(future: impl Future<Output = PromiseResult> + 'static) -> Self {
        Self { future: AssertUnwindSafe(Box::pin(future)), result: JsValue::UNDEFINED }
    }
}

#[wasm_bindgen]
impl Task {
    /// Continues the operation. `failed` and `value` are the result of the promise that the last call returned: its value, or the reason
    /// of its rejection if `failed`. Returns a promise to wait for, `null` to yield to the event loop once, or `undefined` when the
    /// result is available from `take`. Throws the operation's error; 5004 if it panics.
    pub fn poll(&mut self, failed: bool, value: JsValue) -> Result<JsValue, JsValue> {
        RESULT.set(Some(if failed { Err(value) } else { Ok(value) }));
        AWAITED.set(None);
        let polled = caught(|| {
            if let Some(fail) = FAILURE.take() {
                fail();
            }
            self.future.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        RESULT.set(None);
        match polled {
            Err(error) => {
                // Lets go of everything that the operation holds.
                self.future = AssertUnwindSafe(Box::pin(ready(Ok(JsValue::UNDEFINED))));
                Err(to_error(&error))
            }
            Ok(Poll::Pending) => Ok(AWAITED.take().map_or(JsValue::NULL, JsValue::from)),
            Ok(Poll::Ready(result)) => {
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

/// Makes the next poll of a task fail in one of the ways in which a bug can, while the engine works for the request `ticket`: `"panic"`,
/// `"stack"` (overflow) or `"memory"` (no more of it). For tests.
#[wasm_bindgen(js_name = failNextPoll)]
pub fn fail_next_poll(how: &str, ticket: u32) {
    #[expect(unconditional_recursion, reason = "it is to overflow the stack")]
    fn deeper(depth: &[u64; 64]) -> u64 {
        let mut next = *depth;
        next[0] += 1;
        deeper(&std::hint::black_box(next)) + next[1]
    }
    blame::work_for(ticket);
    FAILURE.set(Some(match how {
        "stack" => || {
            deeper(&[0; 64]);
        },
        "memory" => || loop {
            std::mem::forget(std::hint::black_box(Vec::<u8>::with_capacity(64 << 20)));
        },
        #[expect(clippy::panic, reason = "it is to panic")]
        _ => || panic!("a test's panic"),
    }));
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
