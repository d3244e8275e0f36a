//! The one level at which requests are tried again: pauses that grow, jitter, a deadline, and the server's own wish.

use std::time::Duration;

use gantry_core::chance;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{error::ApiError, limits};

/// Pauses that double from [`limits::BACKOFF_FIRST`] to [`limits::BACKOFF_MOST`], each shortened by up to half so that many clients do not
/// come back together.
#[derive(Debug, Default)]
pub(crate) struct Backoff {
    failures: u32,
}

impl Backoff {
    pub(crate) fn next(&mut self) -> Duration {
        let full = limits::BACKOFF_FIRST.saturating_mul(1 << self.failures.min(10)).min(limits::BACKOFF_MOST);
        self.failures = self.failures.saturating_add(1);
        full.mul_f64(0.5 + chance::fraction() / 2.0)
    }

    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// One request, bounded by [`limits::REQUEST`].
pub(crate) async fn once<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match timeout(limits::REQUEST, request).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(_) => Err(ApiError::timed_out(limits::REQUEST)),
    }
}

/// Repeats `request` while it fails for a passing reason and `deadline` has not come. The last error is returned; `tell` hears of all that
/// are followed by another try.
pub(crate) async fn until<T, F>(
    deadline: Instant,
    mut tell: impl FnMut(&ApiError),
    mut request: impl FnMut() -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut backoff = Backoff::default();
    loop {
        let error = match request().await {
            Err(error) if error.fault.is_transient() => error,
            other => return other,
        };
        // Towards the end the tries become denser, so that the time that there is is used.
        let now = Instant::now();
        let half = (deadline.saturating_duration_since(now) / 2).max(limits::BACKOFF_FIRST);
        let pause = error.retry_after.unwrap_or_default().max(backoff.next().min(half));
        let next = now + pause;
        if next >= deadline {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "a request to the API server is tried again");
        tell(&error);
        sleep_until(next).await;
    }
}
