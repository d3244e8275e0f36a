//! The one level at which requests are tried again: pauses that grow, jitter, a deadline, the
//! server's own wish, and what an operator has configured about it.

use std::time::Duration;

use gantry_core::backoff::Backoff;
use tokio::time::{Instant, sleep_until, timeout};

use crate::{error::ApiError, limits};

/// How persistently a job's objects are made and removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Persistence {
    /// Tries of a request; `None` is as many as there is time for.
    pub tries: Option<u32>,
    /// Tries after an error with this text in it, whatever kind it is; the first that fits counts.
    pub by_text: Vec<(String, u32)>,
    /// Longest pause between two tries.
    pub longest_pause: Duration,
    /// Time for a removal.
    pub removal: Duration,
}

impl Default for Persistence {
    fn default() -> Self {
        Self { tries: None, by_text: Vec::new(), longest_pause: limits::BACKOFF_MOST, removal: limits::DELETE_DEADLINE }
    }
}

impl Persistence {
    /// How often a request is tried that has failed like this; `None` if it is not tried again.
    fn tries_after(&self, error: &ApiError) -> Option<u32> {
        let named = self.by_text.iter().find(|(text, _)| error.message.contains(text.as_str()));
        match named {
            Some((_, tries)) => Some(*tries),
            None => error.fault.is_transient().then(|| self.tries.unwrap_or(u32::MAX)),
        }
    }
}

/// The pauses of a loop of requests, up to `most`.
pub(crate) fn backoff(most: Duration) -> Backoff {
    Backoff::new(limits::BACKOFF_FIRST, most)
}

/// One request, bounded by [`limits::REQUEST`].
pub(crate) async fn once<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, ApiError> {
    match timeout(limits::REQUEST, request).await {
        Ok(result) => result.map_err(ApiError::from),
        Err(_) => Err(ApiError::timed_out(limits::REQUEST)),
    }
}

/// Repeats `request` while it fails for a passing reason, tries are left and `deadline` has not
/// come. The last error is returned; `tell` hears of all that are followed by another try.
pub(crate) async fn until<T, F>(
    (persistence, deadline): (&Persistence, Instant),
    mut tell: impl FnMut(&ApiError),
    mut request: impl FnMut() -> F,
) -> Result<T, ApiError>
where
    F: Future<Output = Result<T, ApiError>>,
{
    let mut backoff = backoff(persistence.longest_pause);
    let mut tried = 0;
    loop {
        let error = match request().await {
            Err(error) => error,
            Ok(done) => return Ok(done),
        };
        tried += 1;
        match persistence.tries_after(&error) {
            None => return Err(error),
            Some(most) if tried >= most => {
                let message =
                    format!("{} (given up after {tried} tries, see retry_limit and retry_limits)", error.message);
                return Err(ApiError { message, ..error });
            }
            Some(_) => {}
        }
        // Towards the end the tries become denser, so that the time that there is is used.
        let now = Instant::now();
        let half = (deadline.saturating_duration_since(now) / 2).max(limits::BACKOFF_FIRST);
        let pause = error.retry_after.unwrap_or_default().max(backoff.next_spread_pause().min(half));
        let next = now + pause;
        if next >= deadline {
            return Err(error);
        }
        tracing::debug!(%error, ?pause, "a request to the API server is tried again");
        tell(&error);
        sleep_until(next).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Fault;

    async fn tries(persistence: &Persistence, fault: Fault, message: &str) -> (u32, String) {
        let mut count = 0;
        let deadline = Instant::now() + Duration::from_secs(60);
        let error = until(
            (persistence, deadline),
            |_| {},
            || {
                count += 1;
                let error = ApiError::without_answer(fault, message.to_owned());
                async move { Err::<(), _>(error) }
            },
        )
        .await
        .unwrap_err();
        (count, error.message)
    }

    #[tokio::test(start_paused = true)]
    async fn an_operator_says_how_often() {
        let free = Persistence::default();
        assert!(tries(&free, Fault::Server, "away").await.0 > 10);
        assert_eq!(tries(&free, Fault::Refused, "wrong").await.0, 1);
        let by_text = vec![("exceeded quota".to_owned(), 4), ("etcd".to_owned(), 1)];
        let bound = Persistence { tries: Some(3), by_text, ..free };
        let (count, message) = tries(&bound, Fault::Server, "away").await;
        assert_eq!((count, message.as_str()), (3, "away (given up after 3 tries, see retry_limit and retry_limits)"));
        assert_eq!(tries(&bound, Fault::Forbidden, "x: exceeded quota: y").await.0, 4);
        assert_eq!(tries(&bound, Fault::Server, "etcdserver: leader changed").await.0, 1);
        assert_eq!(tries(&bound, Fault::Forbidden, "no").await.0, 1);
    }
}
