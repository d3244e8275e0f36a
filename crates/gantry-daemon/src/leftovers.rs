//! Pods that outlast their jobs because the API server could not be asked, and Secrets that it was
//! still making: removed later, beside the jobs that run.
//!
//! A job does not wait for that, since it would hold its place. A manager that waits for its jobs
//! waits for this too; one that is told to stop does not.

use std::sync::Arc;
use std::time::Duration;

use gantry_kube::{Cluster, LeftoverPod};
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::events::{LeftoverRemoved, Said as _, SecretLeft};
use crate::job_end::StopJobs;
use crate::redaction::Guard;
use crate::tasks;

/// How long a request that nobody waits for may still make something: an admission webhook has 30 s
/// at most (Kubernetes, `timeoutSeconds`).
const COMES_YET: Duration = Duration::from_secs(35);

/// Takes over such pods and Secrets.
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
        self.begin(async move { LeftoverRemoved(cluster.remove_leftover(&leftover).await).say() });
    }

    /// Removes a Secret without a pod that was asked for and not waited for, once it cannot come
    /// any more.
    pub(crate) fn remove_secret(&self, cluster: Cluster, name: String) {
        self.begin(async move {
            sleep(COMES_YET).await;
            delete_secret(&cluster, &name).await;
        });
    }

    fn begin(&self, removing: impl Future<Output = ()> + Send + 'static) {
        let (mut stop, guard) = (self.stop.clone(), Arc::clone(&self.guard));
        let removing = async move {
            tokio::select! {
                () = removing => {}
                // An error means that the runner is gone.
                _ = stop.wait_for(Option::is_some) => {}
            }
            drop(guard);
        };
        tasks::spawn(self.tracker.track_future(removing.in_current_span()));
    }
}

/// Removes a Secret that no pod takes with it.
pub(crate) async fn delete_secret(cluster: &Cluster, name: &str) {
    if let Err(error) = cluster.delete_pull_secret(name).await {
        SecretLeft { name, namespace: cluster.namespace(), error: &error }.say();
    }
}
