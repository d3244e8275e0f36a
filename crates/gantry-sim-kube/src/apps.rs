//! Deployments and replica sets, as far as rollouts and scaling need them: a replica set keeps so
//! many pods of its template, a deployment moves them from old templates to the newest one within
//! its limits.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
    sync::Arc,
};

use serde_json::{Value, json};

use crate::{
    api::{self, Removal, budgets::share, status::ApiError},
    cluster::Cluster,
    ids,
    kubelet::put_condition,
    resources::{self, ResourceType},
    store::{
        Key, Verdict,
        object::{self, items, map_mut, text},
    },
};

/// Tells pods of different templates apart.
const HASH: &str = "pod-template-hash";

/// One pass over all deployments and replica sets.
pub(crate) fn pass(cluster: &Cluster) {
    for deployment in live(cluster, "deployments", None) {
        roll(cluster, &deployment);
    }
    for set in live(cluster, "replicasets", None) {
        replicate(cluster, &set);
    }
    for deployment in live(cluster, "deployments", None) {
        tell(cluster, &deployment);
    }
}

fn live(cluster: &Cluster, plural: &str, namespace: Option<&str>) -> Vec<Arc<Value>> {
    let (all, _) = cluster.store.list(resources::any(plural), namespace);
    all.into_iter().filter(|one| !object::is_terminating(one)).collect()
}

fn owned(cluster: &Cluster, plural: &str, owner: &Value) -> Vec<Arc<Value>> {
    let uid = object::uid(owner);
    let (all, _) = cluster.store.list(resources::any(plural), Some(object::namespace(owner)));
    let mine = |one: &Value| {
        items(one, &["metadata", "ownerReferences"])
            .iter()
            .any(|owner| text(owner, &["uid"]) == uid && owner["controller"] == Value::Bool(true))
    };
    all.into_iter().filter(|one| mine(one)).collect()
}

fn replicas(object: &Value) -> u64 {
    object["spec"]["replicas"].as_u64().unwrap_or(1)
}

fn number(object: &Value, field: &str) -> u64 {
    object["status"][field].as_u64().unwrap_or(0)
}

fn hash(template: &Value) -> String {
    let mut hasher = DefaultHasher::new();
    template.to_string().hash(&mut hasher);
    format!("{:010x}", hasher.finish() & 0xff_ffff_ffff)
}

fn owner(kind: &ResourceType, object: &Value) -> Value {
    json!([{"apiVersion": kind.api_version(), "kind": kind.kind, "name": object::name(object),
        "uid": object::uid(object), "controller": true, "blockOwnerDeletion": true}])
}

fn change(cluster: &Cluster, plural: &str, object: &Value, change: impl FnOnce(&mut Value)) {
    let key = Key::of(resources::any(plural), object);
    let done: Result<_, Infallible> = cluster.store.modify(&key, |old| {
        let mut new = old.clone();
        change(&mut new);
        Ok(if object::uid(old) == object::uid(object) { Verdict::Replace(new) } else { Verdict::Keep })
    });
    drop(done);
}

/// Makes the replica set of the newest template and moves pods towards it.
fn roll(cluster: &Cluster, deployment: &Value) {
    let template = &deployment["spec"]["template"];
    let hash = hash(template);
    let name = format!("{}-{hash}", object::name(deployment));
    let sets = owned(cluster, "replicasets", deployment);
    let newest = sets.iter().find(|set| object::name(set) == name);
    let olds: Vec<&Arc<Value>> = sets.iter().filter(|set| object::name(set) != name).collect();
    let wanted = replicas(deployment);
    let Some(newest) = newest else {
        let first = olds.iter().all(|set| replicas(set) == 0);
        return make_set(cluster, deployment, (&name, &hash), if first { wanted } else { 0 });
    };
    let strategy = &deployment["spec"]["strategy"];
    let recreate = strategy["type"] == "Recreate";
    let limit = |field: &str| strategy["rollingUpdate"].get(field).cloned().unwrap_or_else(|| json!("25%"));
    let surge = share(&limit("maxSurge"), wanted);
    let missing = match limit("maxUnavailable") {
        // Percentages of pods that may be missing are rounded down.
        Value::String(text) => wanted * text.trim_end_matches('%').parse::<u64>().unwrap_or(0) / 100,
        number => number.as_u64().unwrap_or(0),
    };
    let missing = if surge == 0 { missing.max(1) } else { missing };
    let old_pods: u64 = olds.iter().map(|set| replicas(set).max(number(set, "replicas"))).sum();
    let room =
        if recreate { if old_pods == 0 { wanted } else { 0 } } else { (wanted + surge).saturating_sub(old_pods) };
    let target = if replicas(newest) > wanted { wanted } else { room.min(wanted).max(replicas(newest)) };
    if target != replicas(newest) {
        change(cluster, "replicasets", newest, |set| set["spec"]["replicas"] = json!(target));
    }
    let available: u64 = sets.iter().map(|set| number(set, "availableReplicas")).sum();
    let mut spare = if recreate { u64::MAX } else { available.saturating_sub(wanted.saturating_sub(missing)) };
    for set in olds.iter().filter(|set| replicas(set) > 0) {
        // Pods that are not available are no loss.
        let idle = replicas(set).saturating_sub(number(set, "availableReplicas"));
        let gone = idle.saturating_add(spare).min(replicas(set));
        spare = spare.saturating_sub(gone.saturating_sub(idle));
        if gone > 0 {
            let left = replicas(set) - gone;
            change(cluster, "replicasets", set, |set| set["spec"]["replicas"] = json!(left));
        }
    }
}

fn make_set(cluster: &Cluster, deployment: &Value, (name, hash): (&str, &str), replicas: u64) {
    let kind = resources::any("replicasets");
    let mut template = deployment["spec"]["template"].clone();
    map_mut(&mut template, &["metadata", "labels"]).insert(HASH.to_owned(), json!(hash));
    let mut selector = deployment["spec"]["selector"].clone();
    map_mut(&mut selector, &["matchLabels"]).insert(HASH.to_owned(), json!(hash));
    let set = json!({
        "kind": kind.kind, "apiVersion": kind.api_version(),
        "metadata": {"name": name, "namespace": object::namespace(deployment), "labels": template["metadata"]["labels"],
            "ownerReferences": owner(resources::any("deployments"), deployment)},
        "spec": {"replicas": replicas, "selector": selector, "template": template},
    });
    if let Err(error) = api::add(cluster, kind, set, false) {
        tracing::debug!(message = error.message, "a replica set could not be made");
    }
}

/// Keeps as many pods as a replica set wants, and tells how many there are.
fn replicate(cluster: &Cluster, set: &Value) {
    let pods = owned(cluster, "pods", set);
    let ended = |pod: &Value| ["Succeeded", "Failed"].contains(&text(pod, &["status", "phase"]));
    let mut active: Vec<&Arc<Value>> = pods.iter().filter(|pod| !ended(pod) && !object::is_terminating(pod)).collect();
    let wanted = usize::try_from(replicas(set)).unwrap_or(usize::MAX);
    let mut failure = None;
    for _ in active.len()..wanted {
        if let Err(error) = make_pod(cluster, set) {
            failure = Some(error);
            break;
        }
    }
    // Those that are not ready go first.
    active.sort_by_key(|pod| is_ready(pod));
    for pod in active.iter().take(active.len().saturating_sub(wanted)) {
        let removal = Removal { uid: Some(object::uid(pod).to_owned()), ..Removal::default() };
        let kind = resources::core("pods");
        drop(api::begin_removal(cluster, kind, &Key::of(kind, pod), &removal));
    }
    let ready = active.iter().filter(|pod| is_ready(pod)).count();
    let stamp = cluster.clock.stamp();
    let generation = set["metadata"]["generation"].as_u64().unwrap_or(1);
    change(cluster, "replicasets", set, |set| {
        let mut status = json!({"replicas": active.len(), "fullyLabeledReplicas": active.len(), "readyReplicas": ready,
            "availableReplicas": ready, "observedGeneration": generation});
        if let Some(error) = failure {
            let condition = json!({"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
                "message": error.message});
            put_condition(&mut status, condition, &stamp);
        }
        set["status"] = status;
    });
}

fn make_pod(cluster: &Cluster, set: &Value) -> Result<(), ApiError> {
    let mut pod = set["spec"]["template"].clone();
    let name = ids::generated(&format!("{}-", object::name(set)));
    let metadata = map_mut(&mut pod, &["metadata"]);
    metadata.insert("generateName".to_owned(), json!(format!("{}-", object::name(set))));
    metadata.insert("name".to_owned(), json!(name));
    metadata.insert("namespace".to_owned(), json!(object::namespace(set)));
    metadata.insert("ownerReferences".to_owned(), owner(resources::any("replicasets"), set));
    pod["kind"] = json!("Pod");
    pod["apiVersion"] = json!("v1");
    api::add(cluster, resources::core("pods"), pod, false).map(drop)
}

fn is_ready(pod: &Value) -> bool {
    items(pod, &["status", "conditions"]).iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
}

/// Tells how far a deployment is.
fn tell(cluster: &Cluster, deployment: &Value) {
    let name = format!("{}-{}", object::name(deployment), hash(&deployment["spec"]["template"]));
    let sets = owned(cluster, "replicasets", deployment);
    let sum = |field: &str| sets.iter().map(|set| number(set, field)).sum::<u64>();
    let updated = sets.iter().find(|set| object::name(set) == name).map_or(0, |set| number(set, "replicas"));
    let (wanted, all, available) = (replicas(deployment), sum("replicas"), sum("availableReplicas"));
    let done = updated == wanted && all == wanted && available >= wanted;
    let generation = deployment["metadata"]["generation"].as_u64().unwrap_or(1);
    let stamp = cluster.clock.stamp();
    change(cluster, "deployments", deployment, |new| {
        let status = map_mut(new, &["status"]);
        for (field, value) in [
            ("replicas", all),
            ("updatedReplicas", updated),
            ("readyReplicas", sum("readyReplicas")),
            ("availableReplicas", available),
            ("unavailableReplicas", wanted.max(all).saturating_sub(available)),
            ("observedGeneration", generation),
        ] {
            status.insert(field.to_owned(), json!(value));
        }
        let has_least = available >= wanted.saturating_sub(wanted / 4);
        let (least, why) = if has_least {
            ("True", ("MinimumReplicasAvailable", "Deployment has minimum availability."))
        } else {
            ("False", ("MinimumReplicasUnavailable", "Deployment does not have minimum availability."))
        };
        let available = json!({"type": "Available", "status": least, "reason": why.0, "message": why.1});
        put_condition(&mut new["status"], available, &stamp);
        let (reason, message) = if done {
            ("NewReplicaSetAvailable", format!("ReplicaSet {name:?} has successfully progressed."))
        } else {
            ("ReplicaSetUpdated", format!("ReplicaSet {name:?} is progressing."))
        };
        let progress = json!({"type": "Progressing", "status": "True", "reason": reason, "message": message});
        put_condition(&mut new["status"], progress, &stamp);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_have_their_names() {
        let one = hash(&json!({"spec": {"containers": [{"image": "a"}]}}));
        assert_eq!(one.len(), 10);
        assert_ne!(one, hash(&json!({"spec": {"containers": [{"image": "b"}]}})));
    }
}
