//! The node's life in the control plane: it is ready as long as kubelet is heard, then unknown,
//! then its pods are told to go; and pods of a node that was deleted are forgotten.

use std::{convert::Infallible, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{
    api::{self, Removal},
    cluster::Cluster,
    faults::Kubelet,
    kubelet::{self, put_condition},
    resources,
    store::{
        Key, Verdict,
        object::{self, items, text},
    },
};

/// The taint of a node that nobody can reach.
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// The longest time without a look while kubelet is away: a fault may end by time alone.
const PERIOD: Duration = Duration::from_secs(1);

/// Looks after the node until the cluster stops.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut changed = cluster.faults.follow();
    let mut follow = cluster.store.follow();
    let stopping = cluster.tasks.stopping();
    let mut known_since: Option<Instant> = None;
    let mut was_away = false;
    loop {
        changed.borrow_and_update();
        follow.borrow_and_update();
        let unknown_from = cluster.faults.node_unknown_from();
        let lost = unknown_from.is_some_and(|from| from <= Instant::now());
        let is_up = cluster.faults.kubelet() == Kubelet::Up;
        if lost {
            let since = *known_since.get_or_insert_with(Instant::now);
            set_ready(&cluster, false, false);
            mark_pods(&cluster);
            evict(&cluster, since);
        } else {
            known_since = None;
        }
        if is_up {
            set_ready(&cluster, true, was_away);
        }
        was_away = !is_up;
        forget_pods(&cluster);
        // Without a fault there is nothing to wait for but changes.
        let tick = async {
            match unknown_from {
                Some(from) if !lost => tokio::time::sleep_until(from.min(Instant::now() + PERIOD)).await,
                Some(_) => tokio::time::sleep(PERIOD).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = changed.changed() => {}
            changed = follow.changed() => if changed.is_err() { return },
            () = tick => {}
        }
    }
}

fn key(cluster: &Cluster) -> Key {
    Key::new(resources::core("nodes"), "", &cluster.config.node_name)
}

/// `registers`: kubelet has just come back, and registers its node if that was deleted meanwhile.
fn set_ready(cluster: &Cluster, ready: bool, registers: bool) {
    let stamp = cluster.clock.stamp();
    let done: Result<_, Infallible> = cluster.store.modify(&key(cluster), |node| {
        let conditions = items(node, &["status", "conditions"]);
        let was = conditions.iter().find(|one| one["type"] == "Ready").is_some_and(|one| one["status"] == "True");
        if was == ready {
            return Ok(Verdict::Keep);
        }
        let mut new = node.clone();
        let condition = if ready {
            json!({"type": "Ready", "status": "True", "reason": "KubeletReady",
                "message": "kubelet is posting ready status", "lastHeartbeatTime": stamp})
        } else {
            json!({"type": "Ready", "status": "Unknown", "reason": "NodeStatusUnknown",
                "message": "Kubelet stopped posting node status.", "lastHeartbeatTime": stamp})
        };
        put_condition(&mut new["status"], condition, &stamp);
        let taints = object::list_mut(&mut new, &["spec", "taints"]);
        taints.retain(|taint| text(taint, &["key"]) != UNREACHABLE);
        if !ready {
            for effect in ["NoSchedule", "NoExecute"] {
                taints.push(json!({"key": UNREACHABLE, "effect": effect, "timeAdded": stamp}));
            }
        }
        Ok(Verdict::Replace(new))
    });
    if ready && matches!(done, Ok(None)) && registers {
        api::put(cluster, "nodes", kubelet::node::object(cluster));
    }
}

fn on_node<'p>(cluster: &Cluster, pods: &'p [Arc<Value>]) -> impl Iterator<Item = &'p Arc<Value>> {
    let node = cluster.config.node_name.clone();
    pods.iter().filter(move |pod| {
        text(pod, &["spec", "nodeName"]) == node && !["Succeeded", "Failed"].contains(&text(pod, &["status", "phase"]))
    })
}

/// Nobody knows whether the pods of a lost node are ready, so they are not.
fn mark_pods(cluster: &Cluster) {
    let pods = resources::core("pods");
    let stamp = cluster.clock.stamp();
    for pod in on_node(cluster, &cluster.store.list(pods, None).0) {
        let done: Result<_, Infallible> = cluster.store.modify(&Key::of(pods, pod), |pod| {
            let is_ready = |one: &Value| one["type"] == "Ready" && one["status"] == "True";
            if !items(pod, &["status", "conditions"]).iter().any(is_ready) {
                return Ok(Verdict::Keep);
            }
            let mut new = pod.clone();
            put_condition(&mut new["status"], json!({"type": "Ready", "status": "False"}), &stamp);
            Ok(Verdict::Replace(new))
        });
        drop(done);
    }
}

/// Tells pods to go that do not tolerate the loss, or no longer.
fn evict(cluster: &Cluster, since: Instant) {
    let pods = resources::core("pods");
    let node = &cluster.config.node_name;
    let stamp = cluster.clock.stamp();
    for pod in on_node(cluster, &cluster.store.list(pods, None).0).filter(|pod| !object::is_terminating(pod)) {
        if tolerated(pod).is_none_or(|seconds| since.elapsed() < Duration::from_secs(seconds)) {
            continue;
        }
        if cluster.config.disruption_conditions {
            let done: Result<_, Infallible> = cluster.store.modify(&Key::of(pods, pod), |pod| {
                let mut new = pod.clone();
                let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "DeletionByTaintManager",
                    "message": "Taint manager: deleting due to NoExecute taint"});
                put_condition(&mut new["status"], condition, &stamp);
                Ok(Verdict::Replace(new))
            });
            drop(done);
        }
        let removal = Removal { uid: Some(object::uid(pod).to_owned()), ..Removal::default() };
        if let Err(error) = api::begin_removal(cluster, pods, &Key::of(pods, pod), &removal) {
            tracing::debug!(message = error.message, node, "a pod of a lost node was not told to go");
        }
    }
}

/// How many seconds a pod bears the loss of its node; `None`: for ever.
fn tolerated(pod: &Value) -> Option<u64> {
    let fits = |one: &&Value| {
        let key = text(one, &["key"]);
        (key.is_empty() || key == UNREACHABLE) && ["", "NoExecute"].contains(&text(one, &["effect"]))
    };
    let mut fitting = items(pod, &["spec", "tolerations"]).iter().filter(fits).peekable();
    if fitting.peek().is_none() {
        return Some(0);
    }
    fitting.map(|one| one["tolerationSeconds"].as_u64()).min_by_key(|seconds| seconds.unwrap_or(u64::MAX)).flatten()
}

/// Pods of a node that does not exist any more are removed by force.
fn forget_pods(cluster: &Cluster) {
    if cluster.store.get(&key(cluster)).is_some() {
        return;
    }
    let pods = resources::core("pods");
    for pod in cluster.store.list(pods, None).0.iter().filter(|pod| !text(pod, &["spec", "nodeName"]).is_empty()) {
        let removal = Removal { grace: Some(0), uid: Some(object::uid(pod).to_owned()), ..Removal::default() };
        drop(api::begin_removal(cluster, pods, &Key::of(pods, pod), &removal));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tolerations_say_how_long() {
        let pod = |tolerations: Value| json!({"spec": {"tolerations": tolerations}});
        assert_eq!(tolerated(&pod(json!([]))), Some(0));
        assert_eq!(tolerated(&pod(json!([{"operator": "Exists"}]))), None);
        let usual =
            json!([{"key": UNREACHABLE, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}]);
        assert_eq!(tolerated(&pod(usual)), Some(300));
    }
}
