//! The clock of llguidance. The published crate of this name panics in WebAssembly with 64-bit memory, so Cargo.toml puts this one in its place.

#[cfg(not(target_family = "wasm"))]
pub use std::time::Instant;
#[cfg(target_family = "wasm")]
pub use wasm::Instant;

#[cfg(target_family = "wasm")]
mod wasm {
    use std::ops::Sub;
    use std::time::Duration;

    /// A moment, like [`std::time::Instant`], by the host's clock.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub struct Instant(Duration);

    impl Instant {
        /// This moment.
        pub fn now() -> Self {
            Self(Duration::try_from_secs_f64(js_sys::Date::now() / 1000.0).unwrap_or_default())
        }

        /// The time since this moment; none if the clock was set back.
        pub fn elapsed(&self) -> Duration {
            Self::now() - *self
        }
    }

    impl Sub for Instant {
        type Output = Duration;

        fn sub(self, earlier: Self) -> Duration {
            self.0.saturating_sub(earlier.0)
        }
    }
}
