//! What becomes of the pod of a job that has ended.

use gantry_kube::{Cluster, PodRef};

use super::Task;

impl Task {
    /// Lets it go, with the Secret that does not go with it; or keeps it for a while, where its
    /// agent keeps its containers.
    pub(super) fn remove_pod(&self, cluster: Cluster, pod: (PodRef, Option<String>)) {
        let grace = self.job.cleanup_grace_seconds.and_then(|seconds| u32::try_from(seconds).ok());
        self.background.delete_pod((cluster, self.around.leftovers.clone()), pod, (grace, self.outcome.kept));
    }
}
