//! The only file of the crate that starts tasks. Everything else returns futures; who runs them is
//! decided here, and everything started here ends when the cluster is dropped or stopped.

use std::{future::Future, pin::Pin, sync::Mutex};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The tasks of one cluster. Dropping it aborts them all.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    set: Mutex<JoinSet<()>>,
    stop: CancellationToken,
}

impl Tasks {
    /// Starts a task that lives at most as long as the cluster.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.start(Box::pin(task));
    }

    /// The runtime's code for a task is compiled once, not for every kind of future.
    fn start(&self, task: Pin<Box<dyn Future<Output = ()> + Send>>) {
        let Ok(mut set) = self.set.lock() else { return };
        // Finished tasks are forgotten here, so that the set does not grow with the number of
        // requests ever made.
        while set.try_join_next().is_some() {}
        set.spawn(task);
    }

    /// Becomes ready when the cluster stops.
    pub(crate) fn stopping(&self) -> CancellationToken {
        self.stop.clone()
    }

    /// Tells every task that watches [`Tasks::stopping`] to end.
    pub(crate) fn stop(&self) {
        self.stop.cancel();
    }

    /// Waits until every task is gone. Call after [`Tasks::abort`].
    pub(crate) async fn ended(&self) {
        let mut set = match self.set.lock() {
            Ok(mut set) => std::mem::take(&mut *set),
            Err(_) => return,
        };
        while set.join_next().await.is_some() {}
    }

    /// Aborts what is still running.
    pub(crate) fn abort(&self) {
        if let Ok(mut set) = self.set.lock() {
            set.abort_all();
        }
    }
}

/// Does blocking work (looking at many files) beside everything else. `None` when it was stopped or
/// panicked.
pub(crate) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let mut set = JoinSet::new();
    set.spawn_blocking(work);
    set.join_next().await?.ok()
}
