//! Event objects: what `kubectl describe` shows under Events. The same thing said again raises a
//! count instead of adding an object, as in a real cluster.

use std::{
    convert::Infallible,
    hash::{DefaultHasher, Hash, Hasher},
};

use serde_json::{Value, json};

use crate::{
    cluster::Cluster,
    ids, resources,
    store::{Key, Verdict, object},
};

/// How serious an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Normal,
    Warning,
}

/// Something to tell about a pod.
#[derive(Debug, Clone, Hash)]
pub(crate) struct Telling<'t> {
    pub(crate) kind: Kind,
    pub(crate) reason: &'t str,
    pub(crate) message: &'t str,
    pub(crate) component: &'static str,
    /// The container it is about, as a field path of the pod; empty for the whole pod.
    pub(crate) field: String,
}

/// From the scheduler.
pub(crate) fn scheduler<'t>(kind: Kind, reason: &'t str, message: &'t str) -> Telling<'t> {
    Telling { kind, reason, message, component: "default-scheduler", field: String::new() }
}

/// From kubelet.
pub(crate) fn kubelet<'t>(kind: Kind, reason: &'t str, message: &'t str) -> Telling<'t> {
    Telling { kind, reason, message, component: "kubelet", field: String::new() }
}

/// Stores an event about a pod.
pub(crate) fn record(cluster: &Cluster, pod: &Value, telling: &Telling<'_>) {
    let mut hasher = DefaultHasher::new();
    (object::uid(pod), telling).hash(&mut hasher);
    let name = format!("{}.{:016x}", object::name(pod), hasher.finish());
    let events = resources::core("events");
    let key = Key::new(events, object::namespace(pod), &name);
    let stamp = cluster.clock.stamp();
    let again: Result<_, Infallible> = cluster.store.modify(&key, |event| {
        let mut event = event.clone();
        event["count"] = json!(event["count"].as_u64().unwrap_or(1) + 1);
        event["lastTimestamp"] = json!(stamp);
        Ok(Verdict::Replace(event))
    });
    if matches!(again, Ok(Some(_))) {
        return;
    }
    let mut event = json!({
        "kind": "Event", "apiVersion": "v1",
        "metadata": {"name": name, "namespace": key.namespace, "uid": ids::uid(), "creationTimestamp": stamp},
        "involvedObject": {
            "kind": "Pod", "apiVersion": "v1", "namespace": key.namespace, "name": object::name(pod),
            "uid": object::uid(pod), "resourceVersion": object::version_text(pod),
        },
        "type": if telling.kind == Kind::Normal { "Normal" } else { "Warning" },
        "reason": telling.reason, "message": telling.message,
        "source": {"component": telling.component}, "reportingComponent": telling.component,
        "reportingInstance": "", "firstTimestamp": stamp, "lastTimestamp": stamp, "count": 1,
    });
    if telling.component == "kubelet" {
        event["source"]["host"] = json!(cluster.config.node_name);
        event["reportingInstance"] = json!(cluster.config.node_name);
    }
    if !telling.field.is_empty() {
        event["involvedObject"]["fieldPath"] = json!(telling.field);
    }
    // A pod of the same name may have taken the name in between; then the event is lost, as in a
    // real cluster.
    drop(cluster.store.create(events, event));
}
