//! The only file of this crate that starts tasks. Each task ends by itself: with the process it
//! feeds, with the closure it runs, or with the server.

use std::future::Future;
use std::pin::Pin;

use tokio::task::JoinHandle;

/// Runs a future beside its caller. The handle may be dropped only where the doc of the caller says
/// why.
#[expect(clippy::disallowed_methods, reason = "this is the file that spawns")]
pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    // The runtime's code for a task is then compiled once for each kind of output, not of future.
    let future: Pin<Box<dyn Future<Output = F::Output> + Send>> = Box::pin(future);
    tokio::spawn(future)
}

/// Runs a closure that blocks (git, file reading) on a thread made for that.
#[expect(clippy::disallowed_methods, reason = "this is the file that spawns")]
pub(crate) fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    tokio::task::spawn_blocking(work)
}
