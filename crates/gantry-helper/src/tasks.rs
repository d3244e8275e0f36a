//! The one place of the helper that spawns tasks.

#![expect(clippy::disallowed_methods, reason = "this is the file that may")]

use std::future::Future;
use std::pin::Pin;

use tokio::task::JoinHandle;

/// A task that ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Task(JoinHandle<()>);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts a task that lives as long as what is returned.
pub(crate) fn spawn(future: impl Future<Output = ()> + Send + 'static) -> Task {
    Task(start(Box::pin(future)))
}

/// Starts a task that lives until its own end.
pub(crate) fn detach(future: impl Future<Output = ()> + Send + 'static) {
    drop(start(Box::pin(future)));
}

/// The runtime's code for a task is compiled once, not for every kind of future.
fn start(future: Pin<Box<dyn Future<Output = ()> + Send>>) -> JoinHandle<()> {
    tokio::spawn(future)
}

/// Runs file work away from the one thread that serves everybody. It must not start processes: the
/// reaper counts on being alone.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> std::io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}
