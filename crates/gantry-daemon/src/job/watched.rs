//! A job's pod, and what the cluster shows of it for as long as that matters.

use gantry_kube::{Cluster, PodRef, PodState, PodWatch};

/// A pod that exists, as far as known.
pub(super) struct WatchedPod {
    pub(super) reference: PodRef,
    /// Absent once nobody needs to know: a pod that nobody watches is not asked for when it goes.
    pub(super) watch: Option<PodWatch>,
    /// The name of a Secret that does not go with it.
    pub(super) secret: Option<String>,
    /// What is known of it already has not been taken.
    is_new: bool,
}

impl WatchedPod {
    /// Follows what the cluster says about the pod.
    pub(super) fn new(cluster: &Cluster, reference: PodRef, secret: Option<String>) -> Self {
        let watch = cluster.watch_pod(&reference);
        Self { reference, watch: Some(watch), secret, is_new: true }
    }

    /// What is known of it, and then whatever is newer.
    async fn next(&mut self) -> Option<PodState> {
        let watch = self.watch.as_mut()?;
        if std::mem::take(&mut self.is_new) {
            return Some(watch.current());
        }
        watch.changed().await
    }
}

/// What the cluster shows next of the pod, if there is one that is watched.
pub(super) async fn next_pod_state(pod: &mut Option<WatchedPod>) -> PodState {
    if let Some(pod) = pod
        && let Some(pod_state) = pod.next().await
    {
        return pod_state;
    }
    std::future::pending().await
}
