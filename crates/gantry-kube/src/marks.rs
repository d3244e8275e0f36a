//! Writing on a pod that exists: who owns it, that its owner lives, and that it need not wait any
//! longer. Needs `patch` on pods, and is the only thing that does.

use kube::api::{Patch, PatchParams};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::pods::PodNow;
use crate::{ApiError, Cluster, Fault, ObservedPod, PodRef, limits, retry};

/// The first minor version of Kubernetes whose API servers keep scheduling gates without being
/// asked to (Kubernetes 1.27).
const GATES_SINCE: u32 = 27;

/// What became of an annotation.
#[derive(Debug)]
pub enum Marked {
    /// The pod as it is now.
    Done(Box<ObservedPod>),
    /// Somebody has changed the pod meanwhile, or it is gone: nothing was written.
    Changed,
}

impl Cluster {
    /// Writes annotations on `pod` and no other of its name; with `version`, only if nothing about
    /// the pod has changed since it had that `resourceVersion`. Tried once.
    ///
    /// # Errors
    /// The API server refuses it, or cannot be asked.
    pub async fn annotate(
        &self,
        pod: &PodRef,
        annotations: &[(&str, &str)],
        version: Option<&str>,
    ) -> Result<Marked, ApiError> {
        let annotations: serde_json::Map<String, serde_json::Value> =
            annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
        let mut metadata = json!({"uid": pod.uid, "annotations": annotations});
        if let Some(version) = version {
            metadata["resourceVersion"] = json!(version);
        }
        let patch = Patch::Merge(json!({"metadata": metadata}));
        match retry::once(self.pods().patch(&pod.name, &PatchParams::default(), &patch)).await {
            Ok(found) => Ok(Marked::Done(Box::new(found))),
            // Another uid, or another version, is a conflict (Kubernetes API).
            Err(error) if matches!(error.fault, Fault::Conflict | Fault::Gone) => Ok(Marked::Changed),
            Err(error) => Err(error),
        }
    }

    /// Lets a pod be scheduled that this one of its scheduling gates has held back. One that is
    /// gone is success: whoever watches it sees that. Failures that may pass are tried again until
    /// `deadline`.
    ///
    /// # Errors
    /// The API server refuses it, or could not be asked in that time.
    pub async fn release_pod(&self, pod: &PodRef, gate: &str, deadline: Instant) -> Result<(), ApiError> {
        // Others may have gates of their own on it, which are theirs to remove.
        let gates = json!([{"$patch": "delete", "name": gate}]);
        let patch = Patch::Strategic(json!({"metadata": {"uid": pod.uid}, "spec": {"schedulingGates": gates}}));
        let (pods, params) = (self.pods(), PatchParams::default());
        let release = || retry::once(pods.patch(&pod.name, &params, &patch));
        loop {
            let released = retry::until((self.persistence(), deadline), |_| {}, release).await;
            let Err(error) = released else { return Ok(()) };
            // Another uid is a conflict, and so is a pod that many write at one time (Kubernetes
            // API).
            match error.fault {
                Fault::Gone => return Ok(()),
                Fault::Conflict if Instant::now() < deadline => match self.get_pod(pod).await {
                    PodNow::Gone | PodNow::Replaced => return Ok(()),
                    PodNow::Present(_) | PodNow::Unknown(_) => sleep(limits::CONFLICT_PAUSE).await,
                },
                _ => return Err(error),
            }
        }
    }

    /// Whether the API server keeps the scheduling gates of a pod, as far as it says. Tried once.
    pub async fn has_scheduling_gates(&self) -> bool {
        self.server_version().await.is_ok_and(|version| keeps_gates(&version))
    }
}

/// Whether a version, such as `v1.34.2`, is recent enough.
fn keeps_gates(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map(|number| number.parse::<u32>().ok());
    match (numbers.next().flatten(), numbers.next().flatten()) {
        (Some(1), Some(minor)) => minor >= GATES_SINCE,
        (Some(major), Some(_)) => major > 1,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_keeps_scheduling_gates() {
        for (version, keeps) in [
            ("v1.34.2", true),
            ("v1.27.0-gke.100", true),
            ("v1.26.15", false),
            ("v1.20.2", false),
            ("v2.0.0", true),
            ("", false),
            ("latest", false),
        ] {
            assert_eq!(keeps_gates(version), keeps, "{version}");
        }
    }
}
