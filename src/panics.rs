//! Panics (bugs) as errors: a panic ends the request that it is computed for, and nothing else.
//!
//! Builds that abort on panic never return from one: then the surrounding program replaces the instance.

use crate::error::AiError;
use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

/// Calls `work`.
///
/// Callers no longer use what `work` changed if it panicked, or make it whole again.
///
/// # Errors
///
/// 5004 with the panic's text.
pub fn caught<T>(work: impl FnOnce() -> T) -> Result<T, AiError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|panic| error(&*panic))
}

/// Completes `future`; like [`caught`].
///
/// # Errors
///
/// 5004 with the panic's text.
pub async fn caught_async<T>(future: impl Future<Output = T>) -> Result<T, AiError> {
    let mut future = pin!(future);
    poll_fn(|context| match caught(|| future.as_mut().poll(context)) {
        Ok(Poll::Ready(value)) => Poll::Ready(Ok(value)),
        Ok(Poll::Pending) => Poll::Pending,
        Err(error) => Poll::Ready(Err(error)),
    })
    .await
}

fn error(panic: &(dyn Any + Send)) -> AiError {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    AiError::invalid_data(format!(
        "This request failed because of a bug in workers-ai-local ({}). Other requests go on. Please report it.",
        text.unwrap_or("a panic without a text")
    ))
}
