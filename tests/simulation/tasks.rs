//! The one place where the simulation spawns tasks. All of them end with the world they belong to,
//! since that drops its runtime.

#![expect(clippy::disallowed_methods, reason = "this is the file that may")]

use std::future::Future;

use tokio::task::JoinHandle;

/// Runs `work` beside everything else.
pub(crate) fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> JoinHandle<T> {
    tokio::spawn(work)
}
