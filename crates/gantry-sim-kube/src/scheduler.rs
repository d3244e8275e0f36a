//! The scheduler: gives pods to the only node, or says why it cannot. It never starts anything.

use std::{collections::BTreeMap, convert::Infallible, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    api::{self, Removal},
    cluster::Cluster,
    events::{self, Kind},
    kubelet::{node, put_condition},
    resources,
    store::{
        Key, Verdict,
        object::{self, items, pairs, text},
    },
    validation::quantity::Quantity,
};

/// How long a decision takes: a few milliseconds on a real, idle cluster.
const DECISION: Duration = Duration::from_millis(5);
/// Pods that do not fit are tried again this often, besides after every change.
const RETRY: Duration = Duration::from_secs(5);

/// Schedules until the cluster stops.
pub(crate) async fn run(cluster: Arc<Cluster>) {
    let mut follow = cluster.store.follow();
    let stopping = cluster.tasks.stopping();
    loop {
        follow.borrow_and_update();
        let pods = resources::core("pods");
        let (all, _) = cluster.store.list(pods, None);
        // What is used is asked for only where somebody waits: most changes are no business of the
        // scheduler.
        let mut used = None;
        for pod in all.iter().filter(|pod| waits(pod)) {
            tokio::time::sleep(DECISION).await;
            decide(&cluster, pod, used.get_or_insert_with(|| Usage::of(&all)));
        }
        tokio::select! {
            () = stopping.cancelled() => return,
            changed = follow.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(RETRY) => {}
        }
    }
}

fn waits(pod: &Value) -> bool {
    text(pod, &["spec", "nodeName"]).is_empty()
        && !object::is_terminating(pod)
        && text(pod, &["spec", "schedulerName"]) == "default-scheduler"
        && items(pod, &["spec", "schedulingGates"]).is_empty()
}

/// What the pods on the node have asked for.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Usage {
    cpu_millis: u64,
    memory: u64,
    storage: u64,
    pods: u64,
}

impl Usage {
    fn of(pods: &[Arc<Value>]) -> Self {
        let mut usage = Self::default();
        for pod in pods {
            let ended = ["Succeeded", "Failed"].contains(&text(pod, &["status", "phase"]));
            if !text(pod, &["spec", "nodeName"]).is_empty() && !ended {
                usage.add(&Self::wanted(pod));
            }
        }
        usage
    }

    fn add(&mut self, other: &Self) {
        self.cpu_millis = self.cpu_millis.saturating_add(other.cpu_millis);
        self.memory = self.memory.saturating_add(other.memory);
        self.storage = self.storage.saturating_add(other.storage);
        self.pods += other.pods;
    }

    /// What one pod asks for: the sum of its containers, or the largest init container if that is
    /// more.
    fn wanted(pod: &Value) -> Self {
        let request = |container: &Value, name: &str| {
            object::at(container, &["resources", "requests", name]).and_then(Quantity::of).unwrap_or_default()
        };
        let total = |name: &str, measure: fn(Quantity) -> u64| {
            let all = items(pod, &["spec", "containers"]).iter().map(|container| measure(request(container, name)));
            let sum = all.fold(0, u64::saturating_add);
            let most = items(pod, &["spec", "initContainers"]).iter().map(|one| measure(request(one, name))).max();
            sum.max(most.unwrap_or(0))
        };
        Self {
            cpu_millis: total("cpu", Quantity::millis),
            memory: total("memory", Quantity::units),
            storage: total("ephemeral-storage", Quantity::units),
            pods: 1,
        }
    }
}

fn decide(cluster: &Cluster, pod: &Value, used: &mut Usage) {
    let wanted = Usage::wanted(pod);
    let key = Key::of(resources::core("pods"), pod);
    let stamp = cluster.clock.stamp();
    match refusal(cluster, pod, &wanted, used) {
        None => {
            let node = &cluster.config.node_name;
            let done: Result<_, Infallible> = cluster.store.modify(&key, |now| {
                Ok(if waits(now) { Verdict::Replace(api::bound(now, node, &stamp)) } else { Verdict::Keep })
            });
            drop(done);
            used.add(&wanted);
            let message = format!("Successfully assigned {}/{} to {node}", key.namespace, key.name);
            events::record(cluster, pod, &events::scheduler(Kind::Normal, "Scheduled", &message));
        }
        Some(why) => {
            let victims = preempt(cluster, pod, &wanted);
            let resolvable = why.starts_with("Insufficient") || why.starts_with("Too many");
            let helpless = if resolvable {
                "No preemption victims found for incoming pod."
            } else {
                "Preemption is not helpful for scheduling."
            };
            // What is about the pod alone is not counted by node.
            let count = if why.contains("ersistent") { "" } else { "1 " };
            let message =
                format!("0/1 nodes are available: {count}{why}. preemption: 0/1 nodes are available: 1 {helpless}");
            let done: Result<_, Infallible> = cluster.store.modify(&key, |now| {
                let mut new = now.clone();
                api::set_scheduled(&mut new, "False", Some(("Unschedulable", &message)), &stamp);
                if victims > 0 {
                    new["status"]["nominatedNodeName"] = json!(cluster.config.node_name);
                }
                Ok(if waits(now) { Verdict::Replace(new) } else { Verdict::Keep })
            });
            drop(done);
            events::record(cluster, pod, &events::scheduler(Kind::Warning, "FailedScheduling", &message));
        }
    }
}

/// Why the pod cannot be on the node now.
fn refusal(cluster: &Cluster, pod: &Value, wanted: &Usage, used: &Usage) -> Option<String> {
    if let Some(ordered) = cluster.faults.unschedulable(object::namespace(pod), object::name(pod)) {
        return Some(ordered);
    }
    let labels = node::labels(&cluster.config);
    let fits = |labels: &BTreeMap<String, String>| {
        pairs(pod, &["spec", "nodeSelector"]).all(|(key, value)| labels.get(key).is_some_and(|label| label == value))
    };
    if let Some(why) = unwelcome(cluster, pod) {
        return Some(why);
    }
    if !fits(&labels) {
        return Some("node(s) didn't match Pod's node affinity/selector".to_owned());
    }
    if let Some(why) = unclaimed(cluster, pod) {
        return Some(why);
    }
    short(cluster, wanted, used)
}

/// What the node has too little of.
fn short(cluster: &Cluster, wanted: &Usage, used: &Usage) -> Option<String> {
    let offered = cluster.config.allocatable;
    let short = [
        ("Too many pods", used.pods + wanted.pods > offered.pods),
        ("Insufficient cpu", used.cpu_millis.saturating_add(wanted.cpu_millis) > offered.cpu_millis),
        ("Insufficient memory", used.memory.saturating_add(wanted.memory) > offered.memory_bytes),
        (
            "Insufficient ephemeral-storage",
            used.storage.saturating_add(wanted.storage) > offered.ephemeral_storage_bytes,
        ),
    ];
    let short: Vec<&str> = short.iter().filter(|(_, short)| *short).map(|(name, _)| *name).collect();
    (!short.is_empty()).then(|| short.join(", 1 "))
}

/// Why the node takes no pods, or not this one.
fn unwelcome(cluster: &Cluster, pod: &Value) -> Option<String> {
    let Some(node) = cluster.store.get(&Key::new(resources::core("nodes"), "", &cluster.config.node_name)) else {
        return Some("node(s) were not found".to_owned());
    };
    let tolerations = items(pod, &["spec", "tolerations"]);
    let tolerates = |key: &str, value: &str, effect: &str| {
        tolerations.iter().any(|one| {
            let (its_key, its_effect) = (text(one, &["key"]), text(one, &["effect"]));
            let exists = text(one, &["operator"]) == "Exists";
            (its_key == key || (its_key.is_empty() && exists))
                && (its_effect.is_empty() || its_effect == effect)
                && (exists || text(one, &["value"]) == value)
        })
    };
    if node["spec"]["unschedulable"] == json!(true) && !tolerates("node.kubernetes.io/unschedulable", "", "NoSchedule")
    {
        return Some("node(s) were unschedulable".to_owned());
    }
    items(&node, &["spec", "taints"]).iter().find_map(|taint| {
        let (key, value, effect) = (text(taint, &["key"]), text(taint, &["value"]), text(taint, &["effect"]));
        let repels = ["NoSchedule", "NoExecute"].contains(&effect) && !tolerates(key, value, effect);
        repels.then(|| format!("node(s) had untolerated taint {{{key}: {value}}}"))
    })
}

/// What is wrong with a claim of the pod. There is no storage here that a claim could be bound to.
fn unclaimed(cluster: &Cluster, pod: &Value) -> Option<String> {
    items(pod, &["spec", "volumes"]).iter().find_map(|volume| {
        let name = object::at(volume, &["persistentVolumeClaim", "claimName"])?.as_str()?;
        let key = Key::new(resources::core("persistentvolumeclaims"), object::namespace(pod), name);
        Some(match cluster.store.get(&key) {
            None => format!("persistentvolumeclaim {name:?} not found"),
            Some(_) => "pod has unbound immediate PersistentVolumeClaims".to_owned(),
        })
    })
}

fn priority(pod: &Value) -> i64 {
    pod["spec"]["priority"].as_i64().unwrap_or(0)
}

/// Makes room for a pod by deleting pods of lower priority, as few and as low as possible. Returns
/// how many go.
fn preempt(cluster: &Cluster, pod: &Value, wanted: &Usage) -> usize {
    if text(pod, &["spec", "preemptionPolicy"]) == "Never" || unwelcome(cluster, pod).is_some() {
        return 0;
    }
    let pods = resources::core("pods");
    let (all, _) = cluster.store.list(pods, None);
    let ended = |pod: &Value| ["Succeeded", "Failed"].contains(&text(pod, &["status", "phase"]));
    let (mut lower, others): (Vec<_>, Vec<_>) = all
        .into_iter()
        .filter(|one| !text(one, &["spec", "nodeName"]).is_empty() && !ended(one))
        .partition(|one| priority(one) < priority(pod));
    let mut used = Usage::of(&others);
    // Whoever goes already makes room for this pod; nobody else has to.
    if lower.iter().any(|one| object::is_terminating(one)) || short(cluster, wanted, &used).is_some() {
        return 0;
    }
    lower.sort_by_key(|one| std::cmp::Reverse(priority(one)));
    let mut victims = Vec::new();
    for one in lower {
        let mut with = used.clone();
        with.add(&Usage::wanted(&one));
        if short(cluster, wanted, &with).is_some() { victims.push(one) } else { used = with }
    }
    for victim in &victims {
        dismiss(cluster, pod, victim);
    }
    victims.len()
}

fn dismiss(cluster: &Cluster, pod: &Value, victim: &Value) {
    let pods = resources::core("pods");
    let stamp = cluster.clock.stamp();
    let node = &cluster.config.node_name;
    if cluster.config.disruption_conditions {
        let done: Result<_, Infallible> = cluster.store.modify(&Key::of(pods, victim), |old| {
            let mut new = old.clone();
            let condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "PreemptionByScheduler",
                "message": "default-scheduler: preempting to accommodate a higher priority pod"});
            put_condition(&mut new["status"], condition, &stamp);
            Ok(Verdict::Replace(new))
        });
        drop(done);
    }
    let message = format!("Preempted by pod {} on node {node}", object::uid(pod));
    events::record(cluster, victim, &events::scheduler(Kind::Normal, "Preempted", &message));
    let removal = Removal { uid: Some(object::uid(victim).to_owned()), ..Removal::default() };
    drop(api::begin_removal(cluster, pods, &Key::of(pods, victim), &removal));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_summed() {
        let pod = json!({"spec": {
            "initContainers": [{"resources": {"requests": {"cpu": "3"}}}],
            "containers": [{"resources": {"requests": {"cpu": "500m", "memory": "1Gi"}}},
                {"resources": {"requests": {"cpu": "1", "memory": "1Gi"}}}]
        }});
        let wanted = Usage::wanted(&pod);
        assert_eq!((wanted.cpu_millis, wanted.memory, wanted.pods), (3_000, 2 << 30, 1));
    }
}
