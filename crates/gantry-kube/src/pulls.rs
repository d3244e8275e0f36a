//! Whether a pod gets its images, for a pod that is made anew with another pull policy when it does
//! not.

use crate::{
    Cluster, PodFacts, PodState,
    facts::{self, Phase},
    pods::PodRef,
};

/// What the kubelet says of an image that it could not get (Kubernetes API).
const FAILED: [&str; 5] =
    ["ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable", "SignatureValidationFailed"];

/// What became of the images of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Pulled {
    /// They are there, or something else is wrong.
    Enough,
    /// One cannot be pulled.
    Failed {
        /// Whose.
        container: String,
        /// The image.
        image: String,
        /// The kubelet's words.
        message: String,
    },
}

impl Cluster {
    /// Waits until the images of these containers are there, one of them cannot be pulled, or the
    /// pod cannot start for another reason. `tell` hears what the pod waits for, whenever that
    /// changes.
    pub async fn pulled(&self, pod: &PodRef, containers: &[&str], mut tell: impl FnMut(&[String])) -> Pulled {
        let mut told = Vec::new();
        let mut watch = self.watch_pod(pod);
        let seen = watch.until(|pod_state| {
            let PodState::Present(facts) = pod_state else {
                return matches!(pod_state, PodState::Gone(_)).then_some(Pulled::Enough);
            };
            let reasons = facts::pending_reasons(facts);
            if !reasons.is_empty() && reasons != told {
                tell(&reasons);
                told = reasons;
            }
            judge(facts, containers)
        });
        seen.await.unwrap_or(Pulled::Enough)
    }
}

/// The first failure counts: there is something else to try (GitLab Runner 19.4).
fn judge(facts: &PodFacts, containers: &[&str]) -> Option<Pulled> {
    let wanted = facts.containers.iter().filter(|container| containers.contains(&container.name.as_str()));
    for container in wanted {
        let Some(words) = container.waiting().filter(|words| FAILED.contains(&words.reason.as_str())) else { continue };
        let said = if words.message.is_empty() { &words.reason } else { &words.message };
        return Some(Pulled::Failed {
            container: container.name.clone(),
            image: container.image.clone(),
            message: said.clone(),
        });
    }
    if facts::terminal(facts, containers).is_some() {
        return Some(Pulled::Enough);
    }
    let has_image = |name: &&str| facts.container(name).is_none_or(crate::ContainerFacts::has_started);
    let is_lost = facts.deletion.is_some() || facts.phase.is_over() || facts.phase == Phase::Unknown;
    (is_lost || containers.iter().all(has_image)).then_some(Pulled::Enough)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::ObservedPod;

    fn judged(state: &Value) -> Option<Pulled> {
        let status = |name: &str, state: &Value| json!({"name": name, "image": "x:1", "imageID": "", "ready": false, "restartCount": 0, "state": state});
        let pod: ObservedPod = serde_json::from_value(json!({
            "metadata": {"name": "p", "uid": "u"},
            "spec": {"containers": [{"name": "helper", "image": "h"}, {"name": "build", "image": "x:1"}]},
            "status": {"phase": "Pending", "containerStatuses": [status("helper", &json!({"running": {}})), status("build", state)]},
        }))
        .unwrap();
        judge(&PodFacts::digest(&pod, None), &["build"])
    }

    #[test]
    fn the_first_failure_counts() {
        assert_eq!(judged(&json!({"waiting": {"reason": "ContainerCreating"}})), None);
        assert_eq!(judged(&json!({"running": {}})), Some(Pulled::Enough));
        let failed = judged(&json!({"waiting": {"reason": "ErrImagePull", "message": "manifest unknown"}}));
        let (container, image) = ("build".to_owned(), "x:1".to_owned());
        assert_eq!(failed, Some(Pulled::Failed { container, image, message: "manifest unknown".to_owned() }));
        assert_eq!(judged(&json!({"waiting": {"reason": "CreateContainerConfigError"}})), Some(Pulled::Enough));
    }
}
