//! Pods that outlast their jobs because the API server could not be asked: removed later, beside the jobs that run.
//!
//! A job does not wait for that, since it would hold its place. A manager that waits for its jobs waits for this too; one that is told to
//! stop does not.

use gantry_kube::{Cluster, Stray};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;

use crate::job::StopJobs;
use crate::tasks;

/// Takes over such pods.
#[derive(Clone)]
pub(crate) struct Strays {
    tracker: TaskTracker,
    stop: watch::Receiver<Option<StopJobs>>,
}

impl Strays {
    /// Whoever waits for `tracker` waits for the pods; `stop` leaves them as they are.
    pub(crate) fn new(tracker: TaskTracker, stop: watch::Receiver<Option<StopJobs>>) -> Self {
        Self { tracker, stop }
    }

    /// Removes a pod as soon as that is possible.
    pub(crate) fn remove(&self, cluster: Cluster, stray: Stray) {
        let mut stop = self.stop.clone();
        tasks::spawn(self.tracker.track_future(async move {
            tokio::select! {
                removed = cluster.remove_stray(&stray) => match removed {
                    Ok(()) => tracing::info!("no pod is left of a job that had to end without its removal"),
                    Err(error) => tracing::warn!(%error, "a pod is left behind"),
                },
                // An error means that the runner is gone.
                _ = stop.wait_for(Option::is_some) => {}
            }
        }));
    }
}
