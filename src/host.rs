//! What the crate needs of its host besides bytes: time, and giving way to others.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// Milliseconds since some fixed moment.
pub fn now_ms() -> f64 {
    #[cfg(target_arch = "wasm32")]
    return js_sys::Date::now();
    #[cfg(not(target_arch = "wasm32"))]
    {
        use std::sync::LazyLock;
        use std::time::Instant;
        static START: LazyLock<Instant> = LazyLock::new(Instant::now);
        START.elapsed().as_secs_f64() * 1000.0
    }
}

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
