//! Pods that outlast their jobs because the API server could not be asked: removed later, beside
//! the jobs that run.
//!
//! A job does not wait for that, since it would hold its place. A manager that waits for its jobs
//! waits for this too; one that is told to stop does not.

use std::sync::Arc;

use gantry_kube::{Cluster, LeftoverPod};
use tokio::sync::watch;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::events::{LeftoverRemoved, Said as _};
use crate::job_end::StopJobs;
use crate::redaction::Guard;
use crate::tasks;

/// Takes over such pods.
#[derive(Clone)]
pub(crate) struct LeftoverRemover {
    tracker: TaskTracker,
    stop: watch::Receiver<Option<StopJobs>>,
    /// What is said about a pod may repeat secrets of its job.
    guard: Arc<Guard>,
}

impl LeftoverRemover {
    /// Whoever waits for `tracker` waits for the pods; `stop` leaves them as they are. `guard`
    /// keeps the job's secrets out of the log.
    pub(crate) fn new(tracker: TaskTracker, stop: watch::Receiver<Option<StopJobs>>, guard: Arc<Guard>) -> Self {
        Self { tracker, stop, guard }
    }

    /// Removes a pod as soon as that is possible.
    pub(crate) fn remove(&self, cluster: Cluster, leftover: LeftoverPod) {
        let (mut stop, guard) = (self.stop.clone(), Arc::clone(&self.guard));
        let removing = async move {
            tokio::select! {
                removed = cluster.remove_leftover(&leftover) => LeftoverRemoved(removed).say(),
                // An error means that the runner is gone.
                _ = stop.wait_for(Option::is_some) => {}
            }
            drop(guard);
        };
        tasks::spawn(self.tracker.track_future(removing.in_current_span()));
    }
}
