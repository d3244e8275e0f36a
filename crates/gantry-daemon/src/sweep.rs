//! Removes pods that nobody needs any more, because the manager that made them is gone: those whose agents have done everything, and those
//! that never got a plan.
//!
//! An agent ends with 0 only when GitLab has its verdict or wants nothing more, and with a code of its own when no manager has ever handed it
//! a plan. A pod whose helper has not even started by the time that its manager would have given up has no manager. Pods that ended otherwise
//! are not touched: they are the only record of what happened.

use std::collections::BTreeMap;
use std::time::Duration;

use gantry_kube::facts::Phase;
use gantry_kube::{Cluster, ContainerState, PodFacts, PodRef, SeenPod};
use gantry_wire::layout::{HELPER, WITHOUT_PLAN};
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Pods that are in nobody's way may wait this long; one list per namespace and minute is little for an API server.
const PERIOD: Duration = Duration::from_secs(60);

/// How long beyond its time to start a pod is left to the manager that may still be removing it.
const MARGIN: Duration = Duration::from_secs(60);

/// What a pod is given that does not say how long its manager waits: longer than anybody configures.
const UNKNOWN_START_TIMEOUT: Duration = Duration::from_hours(2);

/// Why the kubelet ends pods that may have run, whose containers it then may not show any more (Kubernetes API).
const ENDED_BY_KUBELET: [&str; 7] =
    ["Evicted", "Preempting", "Terminated", "Shutdown", "NodeShutdown", "NodeLost", "DeadlineExceeded"];

/// Sweeps at once and then every minute, until `stop`.
pub(crate) async fn run(cluster: Cluster, stop: CancellationToken) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Waiting::default();
    let sweeping = async {
        loop {
            ticks.tick().await;
            sweep(&cluster, &mut waiting).await;
        }
    };
    stop.run_until_cancelled(sweeping).await;
}

async fn sweep(cluster: &Cluster, waiting: &mut Waiting) {
    let selector = format!("{}=true", gantry_plan::LABEL_MANAGED);
    let pods = match cluster.list_pods(&selector).await {
        Ok(pods) => pods,
        Err(error) => {
            tracing::debug!(%error, "pods of earlier jobs cannot be looked for");
            return;
        }
    };
    for (pod, why) in waiting.unneeded(&pods, Instant::now()) {
        match cluster.delete_pod(&pod, None).await {
            Ok(()) => tracing::info!(pod = pod.name, "removed a pod that nobody needs: {why}"),
            Err(error) => tracing::warn!(pod = pod.name, %error, "could not remove a finished pod; trying again later"),
        }
    }
}

/// Since when pods have been seen whose helper has not started, by uid. The time is our own: clocks of others are not asked.
#[derive(Default)]
struct Waiting {
    since: BTreeMap<String, Instant>,
}

impl Waiting {
    /// The pods that can go, and why. `pods` are all there are.
    fn unneeded(&mut self, pods: &[SeenPod], now: Instant) -> Vec<(PodRef, &'static str)> {
        let mut since = BTreeMap::new();
        let mut unneeded = Vec::new();
        for pod in pods {
            let Some(reference) = PodRef::of(pod) else { continue };
            let why = match Use::of(pod) {
                Use::Unknown => continue,
                Use::Over(why) => why,
                Use::Unstarted(limit) => {
                    let seen = self.since.get(&reference.uid).copied().unwrap_or(now);
                    since.insert(reference.uid.clone(), seen);
                    if now.saturating_duration_since(seen) < limit + MARGIN {
                        continue;
                    }
                    "its job's manager ended before the pod had started"
                }
            };
            unneeded.push((reference, why));
        }
        self.since = since;
        unneeded
    }
}

/// What use a pod may still be of.
#[derive(Debug, PartialEq, Eq)]
enum Use {
    /// Some.
    Unknown,
    /// None, for this reason.
    Over(&'static str),
    /// None, if it stays like this for longer than its manager would wait.
    Unstarted(Duration),
}

impl Use {
    fn of(pod: &SeenPod) -> Self {
        let facts = PodFacts::digest(pod, None);
        if facts.deletion.is_some() {
            return Self::Unknown;
        }
        let Some(helper) = facts.container(HELPER) else { return Self::Unknown };
        match &helper.state {
            ContainerState::Terminated(end) if end.exit_code == 0 => Self::Over("its job has reported by itself"),
            ContainerState::Terminated(end) if end.exit_code == i32::from(WITHOUT_PLAN) => {
                Self::Over("no manager has ever handed it a plan")
            }
            ContainerState::Waiting(_) if !helper.has_started() && !may_have_run(&facts, pod) => {
                Self::Unstarted(start_timeout(pod))
            }
            _ => Self::Unknown,
        }
    }
}

/// Whether the kubelet has ended a pod of whose containers it says nothing.
fn may_have_run(facts: &PodFacts, pod: &SeenPod) -> bool {
    let is_silent = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref()).is_none_or(Vec::is_empty);
    facts.phase != Phase::Pending && is_silent && ENDED_BY_KUBELET.contains(&facts.reason.as_str())
}

/// How long the pod's manager waits for it.
fn start_timeout(pod: &SeenPod) -> Duration {
    let annotation = pod.metadata.annotations.as_ref().and_then(|all| all.get(gantry_plan::ANNOTATION_START_TIMEOUT));
    let seconds = annotation.and_then(|text| text.parse().ok());
    seconds.map_or(UNKNOWN_START_TIMEOUT, |seconds: u32| Duration::from_secs(seconds.into()))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn pod(status: &Value) -> SeenPod {
        let pod = json!({
            "metadata": {"name": "p", "uid": "u", "annotations": {"gantry.dev/start-timeout": "15"}},
            "spec": {"containers": [{"name": "helper"}, {"name": "build"}]},
            "status": status,
        });
        serde_json::from_value(pod).unwrap()
    }

    fn helper(state: &Value) -> SeenPod {
        pod(&json!({"phase": "Pending", "containerStatuses": [
            {"name": "helper", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": state},
        ]}))
    }

    #[test]
    fn an_agent_that_has_ended_says_by_its_code_whether_the_pod_is_needed() {
        let ended = |code: u8| Use::of(&helper(&json!({"terminated": {"exitCode": code}})));
        assert!(matches!(ended(0), Use::Over(_)));
        assert!(matches!(ended(WITHOUT_PLAN), Use::Over(_)));
        assert_eq!((ended(1), ended(137)), (Use::Unknown, Use::Unknown));
        assert_eq!(Use::of(&helper(&json!({"running": {}}))), Use::Unknown);
    }

    #[test]
    fn a_pod_without_an_agent_is_left_to_its_manager_for_as_long_as_there_can_be_one() {
        let unstarted = Use::Unstarted(Duration::from_secs(15));
        // No node, no image, refused by the kubelet, an init container that has failed.
        for status in [
            json!({"phase": "Pending"}),
            json!({"phase": "Failed", "reason": "OutOfcpu"}),
            json!({"phase": "Failed", "containerStatuses": [{"name": "helper", "image": "", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]}),
        ] {
            assert_eq!(Use::of(&pod(&status)), unstarted, "{status}");
        }
        assert_eq!(Use::of(&pod(&json!({"phase": "Failed", "reason": "Evicted"}))), Use::Unknown);
        let pulling = helper(&json!({"waiting": {"reason": "ImagePullBackOff"}}));
        let mut waiting = Waiting::default();
        let begun = Instant::now();
        let pods = std::slice::from_ref(&pulling);
        assert!(waiting.unneeded(pods, begun).is_empty());
        assert!(waiting.unneeded(pods, begun + Duration::from_secs(74)).is_empty());
        assert_eq!(waiting.unneeded(pods, begun + Duration::from_secs(75)).len(), 1);
        // One that has started meanwhile begins anew.
        waiting.unneeded(&[helper(&json!({"running": {}}))], begun);
        assert!(waiting.unneeded(pods, begun + Duration::from_secs(75)).is_empty());
    }

    #[test]
    fn a_pod_that_says_nothing_of_its_time_has_much() {
        let mut old = pod(&json!({"phase": "Pending"}));
        old.metadata.annotations = None;
        assert_eq!(Use::of(&old), Use::Unstarted(UNKNOWN_START_TIMEOUT));
    }
}
