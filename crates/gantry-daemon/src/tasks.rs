//! The one place where the daemon spawns tasks.

use tokio::task::JoinHandle;

/// Runs `work` beside everything else. Its handle may be dropped: whoever needs to know how it went gets a message from it.
#[expect(clippy::disallowed_methods, reason = "the one place where the daemon spawns")]
pub(crate) fn spawn<F>(work: F) -> JoinHandle<F::Output>
where
    F: Future<Output: Send> + Send + 'static,
{
    tokio::spawn(work)
}
