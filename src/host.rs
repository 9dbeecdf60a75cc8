//! What the crate needs from its host besides model files: time, random bytes, yielding to other work, and WebGPU.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(all(feature = "webgpu", target_family = "wasm"))]
pub use crate::js::gpu;
pub use kernels::clock::now_ms;

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    #[cfg(target_family = "wasm")]
    return (js_sys::Date::now() / 1000.0) as u64;
    #[cfg(not(target_family = "wasm"))]
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// `N` bytes from the host's entropy source; zeros if it has none.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    // Without entropy a request must still get an answer.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

/// Waits for about `milliseconds`; natively for at most 1 ms.
pub async fn pause(milliseconds: u32) {
    #[cfg(target_family = "wasm")]
    crate::js::sleep(milliseconds).await;
    #[cfg(not(target_family = "wasm"))]
    {
        std::thread::sleep(std::time::Duration::from_millis(u64::from(milliseconds).min(1)));
        yield_now().await;
    }
}

/// Yields once, so that everything else that is ready can run.
pub fn yield_now() -> impl Future<Output = ()> {
    struct Yield(bool);
    impl Future for Yield {
        type Output = ();
        fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
            if self.0 {
                return Poll::Ready(());
            }
            self.0 = true;
            context.waker().wake_by_ref();
            Poll::Pending
        }
    }
    Yield(false)
}

/// A callback, and a future that completes once the callback has been called.
#[cfg(not(target_family = "wasm"))]
pub fn signal() -> (impl FnOnce() + Send + 'static, impl Future<Output = ()>) {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::task::Waker;
    let state: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    let called = Arc::clone(&state);
    let call = move || {
        let mut state = called.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 = true;
        if let Some(waker) = state.1.take() {
            waker.wake();
        }
    };
    let wait = std::future::poll_fn(move |task| {
        let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.0 {
            return Poll::Ready(());
        }
        state.1 = Some(task.waker().clone());
        Poll::Pending
    });
    (call, wait)
}

/// A callback, and a future that completes once the callback has been called. It uses a promise, so that JavaScript
/// does not have to poll.
#[cfg(target_family = "wasm")]
pub fn signal() -> (impl FnOnce() + 'static, impl Future<Output = ()>) {
    let resolve = std::panic::AssertUnwindSafe(std::cell::Cell::new(None));
    let promise = js_sys::Promise::new(&mut |call, _| {
        // The whole, which is unwind safe, and not the field in it.
        let resolve = &resolve;
        resolve.set(Some(call));
    });
    let call = move || {
        if let Some(resolve) = resolve.take() {
            // A promise's resolve function does not throw.
            let _ = resolve.call0(&wasm_bindgen::JsValue::UNDEFINED);
        }
    };
    let wait = async move {
        let _ = crate::js::settled(promise).await;
    };
    (call, wait)
}
