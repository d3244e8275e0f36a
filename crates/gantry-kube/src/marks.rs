//! Writing annotations on a pod that exists: who owns it, and that its owner lives. Needs `patch`
//! on pods, and is the only thing that does.

use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::{ApiError, Cluster, Fault, ObservedPod, PodRef, retry};

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
}
