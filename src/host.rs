//! What the crate needs of its host besides bytes: time, giving way to others, and its WebGPU.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
pub use crate::js::gpu;
pub use kernels::clock::now_ms;

/// Seconds since 1970.
pub fn unix_seconds() -> u64 {
    #[cfg(target_arch = "wasm32")]
    return (js_sys::Date::now() / 1000.0) as u64;
    #[cfg(not(target_arch = "wasm32"))]
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Bytes from the host's entropy; zeros where it has none.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0u8; N];
    // A host without entropy still gets text.
    let _ = getrandom::fill(&mut bytes);
    bytes
}

/// Waits for about `milliseconds`.
pub async fn pause(milliseconds: u32) {
    #[cfg(target_arch = "wasm32")]
    crate::js::sleep(milliseconds).await;
    #[cfg(not(target_arch = "wasm32"))]
    {
        std::thread::sleep(std::time::Duration::from_millis(u64::from(milliseconds).min(1)));
        yield_now().await;
    }
}

/// Lets everything else that is due run once.
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

/// A callback, and a future that waits until it was called.
#[cfg(all(feature = "webgpu", not(target_arch = "wasm32")))]
pub fn signal() -> (impl FnOnce() + Send + 'static, impl Future<Output = ()>) {
    use std::sync::{Arc, Mutex, PoisonError};
    use std::task::Waker;
    let state: Arc<Mutex<(bool, Option<Waker>)>> = Arc::default();
    let told = Arc::clone(&state);
    let call = move || {
        let mut state = told.lock().unwrap_or_else(PoisonError::into_inner);
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

/// A callback, and a future that waits until it was called: by a promise, so that JavaScript need not ask again and again.
#[cfg(all(feature = "webgpu", target_arch = "wasm32"))]
pub fn signal() -> (impl FnOnce() + 'static, impl Future<Output = ()>) {
    let mut resolve = None;
    let promise = js_sys::Promise::new(&mut |call, _| resolve = Some(call));
    let call = move || {
        if let Some(resolve) = resolve {
            // A promise's own function does not throw.
            let _ = resolve.call0(&wasm_bindgen::JsValue::UNDEFINED);
        }
    };
    let wait = async move {
        let _ = crate::js::settled(promise).await;
    };
    (call, wait)
}
