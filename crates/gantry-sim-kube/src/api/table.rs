//! Tables: the columns that `kubectl get` shows. Pods have theirs in full; other types have the
//! columns that help most.

use serde_json::{Value, json};

use super::{partial::metadata_only, request::Query, workload};
use crate::{
    cluster::Cluster,
    resources::ResourceType,
    store::object::{self, at, items, text},
};

/// A column: name, and whether only `-o wide` shows it.
type Column = (&'static str, bool);

/// Objects as a table.
pub(crate) fn table<'o>(
    cluster: &Cluster,
    kind: &ResourceType,
    query: &Query,
    objects: impl Iterator<Item = &'o Value>,
) -> Value {
    let include = query.get("includeObject").unwrap_or("Metadata");
    let rows: Vec<Value> = objects
        .map(|object| {
            let mut row = json!({"cells": cells(cluster, kind, object)});
            match include {
                "None" => {}
                "Object" => row["object"] = object.clone(),
                _ => row["object"] = metadata_only(object),
            }
            row
        })
        .collect();
    let columns: Vec<Value> = columns(kind)
        .iter()
        .map(|(name, wide)| {
            json!({
                "name": name, "type": "string", "format": if *name == "Name" { "name" } else { "" },
                "description": "", "priority": i32::from(*wide),
            })
        })
        .collect();
    json!({
        "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {}, "columnDefinitions": columns, "rows": rows,
    })
}

fn columns(kind: &ResourceType) -> &'static [Column] {
    match kind.plural {
        "pods" => &[
            ("Name", false),
            ("Ready", false),
            ("Status", false),
            ("Restarts", false),
            ("Age", false),
            ("IP", true),
            ("Node", true),
            ("Nominated Node", true),
            ("Readiness Gates", true),
        ],
        "namespaces" => &[("Name", false), ("Status", false), ("Age", false)],
        "nodes" => &[
            ("Name", false),
            ("Status", false),
            ("Roles", false),
            ("Age", false),
            ("Version", false),
            ("Internal-IP", true),
        ],
        "secrets" => &[("Name", false), ("Type", false), ("Data", false), ("Age", false)],
        "configmaps" => &[("Name", false), ("Data", false), ("Age", false)],
        "serviceaccounts" => &[("Name", false), ("Secrets", false), ("Age", false)],
        "rolebindings" | "clusterrolebindings" => &[("Name", false), ("Role", false), ("Age", false)],
        "services" => &[
            ("Name", false),
            ("Type", false),
            ("Cluster-IP", false),
            ("External-IP", false),
            ("Port(s)", false),
            ("Age", false),
        ],
        "deployments" => &[
            ("Name", false),
            ("Ready", false),
            ("Up-to-date", false),
            ("Available", false),
            ("Age", false),
            ("Containers", true),
            ("Images", true),
            ("Selector", true),
        ],
        "replicasets" => &[("Name", false), ("Desired", false), ("Current", false), ("Ready", false), ("Age", false)],
        "poddisruptionbudgets" => &[
            ("Name", false),
            ("Min Available", false),
            ("Max Unavailable", false),
            ("Allowed Disruptions", false),
            ("Age", false),
        ],
        "priorityclasses" => &[("Name", false), ("Value", false), ("Global-Default", false), ("Age", false)],
        "resourcequotas" => &[("Name", false), ("Request", false), ("Limit", false), ("Age", false)],
        "limitranges" => &[("Name", false), ("Created At", false)],
        "events" => &[("Last Seen", false), ("Type", false), ("Reason", false), ("Object", false), ("Message", false)],
        _ => &[("Name", false), ("Age", false)],
    }
}

fn cells(cluster: &Cluster, kind: &ResourceType, object: &Value) -> Vec<Value> {
    let age = json!(age(cluster, text(object, &["metadata", "creationTimestamp"])));
    let name = json!(object::name(object));
    let size = |field: &str| at(object, &[field]).and_then(Value::as_object).map_or(0, serde_json::Map::len);
    match kind.plural {
        "pods" => pod_cells(cluster, object, name, age),
        "namespaces" => vec![name, object["status"]["phase"].clone(), age],
        "deployments"
        | "replicasets"
        | "poddisruptionbudgets"
        | "priorityclasses"
        | "resourcequotas"
        | "limitranges" => workload::cells(kind.plural, object, name, age),
        "nodes" => vec![
            name,
            json!(workload::node_status(object)),
            json!("<none>"),
            age,
            object["status"]["nodeInfo"]["kubeletVersion"].clone(),
            object["status"]["addresses"][0]["address"].clone(),
        ],
        "secrets" => vec![name, object["type"].clone(), json!(size("data")), age],
        "configmaps" => vec![name, json!(size("data") + size("binaryData")), age],
        "serviceaccounts" => vec![name, json!(items(object, &["secrets"]).len()), age],
        "rolebindings" | "clusterrolebindings" => {
            let role = format!("{}/{}", text(object, &["roleRef", "kind"]), text(object, &["roleRef", "name"]));
            vec![name, json!(role), age]
        }
        "services" => {
            let ports: Vec<String> = items(object, &["spec", "ports"])
                .iter()
                .map(|port| format!("{}/{}", port["port"], text(port, &["protocol"])))
                .collect();
            let ports = if ports.is_empty() { "<none>".to_owned() } else { ports.join(",") };
            let spec = &object["spec"];
            vec![name, spec["type"].clone(), spec["clusterIP"].clone(), json!("<none>"), json!(ports), age]
        }
        "events" => {
            let about = &object["involvedObject"];
            let what = format!("{}/{}", text(about, &["kind"]).to_lowercase(), text(about, &["name"]));
            let seen = self::age(cluster, text(object, &["lastTimestamp"]));
            vec![json!(seen), object["type"].clone(), object["reason"].clone(), json!(what), object["message"].clone()]
        }
        _ => vec![name, age],
    }
}

fn pod_cells(cluster: &Cluster, pod: &Value, name: Value, age: Value) -> Vec<Value> {
    let statuses = items(pod, &["status", "containerStatuses"]);
    let ready = statuses.iter().filter(|status| status["ready"] == json!(true)).count();
    let restarts: u64 = statuses.iter().filter_map(|status| status["restartCount"].as_u64()).sum();
    let last = statuses
        .iter()
        .map(|status| text(status, &["lastState", "terminated", "finishedAt"]))
        .max()
        .filter(|last| !last.is_empty() && restarts > 0);
    let restarts = match last {
        Some(last) => format!("{restarts} ({} ago)", self::age(cluster, last)),
        None => restarts.to_string(),
    };
    let or_none = |path: &[&str]| match text(pod, path) {
        "" => json!("<none>"),
        found => json!(found),
    };
    vec![
        name,
        json!(format!("{ready}/{}", items(pod, &["spec", "containers"]).len())),
        json!(pod_status(pod)),
        json!(restarts),
        age,
        or_none(&["status", "podIP"]),
        or_none(&["spec", "nodeName"]),
        json!("<none>"),
        json!("<none>"),
    ]
}

/// The word in the STATUS column: the most telling reason of the pod or its containers.
fn pod_status(pod: &Value) -> String {
    let mut word = match text(pod, &["status", "reason"]) {
        "" => text(pod, &["status", "phase"]).to_owned(),
        reason => reason.to_owned(),
    };
    let inits = items(pod, &["status", "initContainerStatuses"]);
    let initializing = inits.iter().enumerate().find_map(|(index, status)| {
        let ended = at(status, &["state", "terminated"]);
        if ended.is_some_and(|ended| ended["exitCode"] == json!(0)) {
            return None;
        }
        let reason = match ended {
            Some(ended) => end_word(ended),
            None => text(status, &["state", "waiting", "reason"]).to_owned(),
        };
        Some(if reason.is_empty() || reason == "PodInitializing" {
            format!("{index}/{}", items(pod, &["spec", "initContainers"]).len())
        } else {
            reason
        })
    });
    if let Some(initializing) = initializing.filter(|_| word == "Pending" || word == "Failed") {
        word = format!("Init:{initializing}");
    } else {
        let mut running = false;
        for status in items(pod, &["status", "containerStatuses"]).iter().rev() {
            let waiting = text(status, &["state", "waiting", "reason"]);
            if !waiting.is_empty() {
                waiting.clone_into(&mut word);
            } else if let Some(ended) = at(status, &["state", "terminated"]) {
                word = end_word(ended);
            } else if at(status, &["state", "running"]).is_some() && status["ready"] == json!(true) {
                running = true;
            }
        }
        if word == "Completed" && running {
            "Running".clone_into(&mut word);
        }
    }
    if object::is_terminating(pod) { "Terminating".to_owned() } else { word }
}

fn end_word(ended: &Value) -> String {
    match text(ended, &["reason"]) {
        "" => format!("ExitCode:{}", ended["exitCode"]),
        reason => reason.to_owned(),
    }
}

/// How long ago, as kubectl writes it: two units at most, fewer the longer ago.
fn age(cluster: &Cluster, stamp: &str) -> String {
    let Ok(then) = stamp.parse::<jiff::Timestamp>() else { return "<unknown>".to_owned() };
    short_duration((cluster.clock.now().as_second() - then.as_second()).max(0))
}

fn short_duration(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let two = |large: i64, unit: &str, small: i64, rest: &str| {
        if small == 0 { format!("{large}{unit}") } else { format!("{large}{unit}{small}{rest}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_words() {
        let word = |status: Value| {
            pod_status(&json!({"metadata": {}, "spec": {"initContainers": [{}, {}]}, "status": status}))
        };
        assert_eq!(word(json!({"phase": "Pending"})), "Pending");
        assert_eq!(
            word(
                json!({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ErrImagePull"}}}]})
            ),
            "ErrImagePull"
        );
        assert_eq!(word(json!({"phase": "Failed", "reason": "Evicted"})), "Evicted");
        assert_eq!(
            word(json!({"phase": "Pending", "initContainerStatuses": [
                {"state": {"terminated": {"exitCode": 0}}}, {"state": {"running": {}}}]})),
            "Init:1/2"
        );
        assert_eq!(
            word(json!({"phase": "Failed", "containerStatuses": [
                {"state": {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}}]})),
            "OOMKilled"
        );
    }

    #[test]
    fn ages_are_short() {
        assert_eq!(short_duration(5), "5s");
        assert_eq!(short_duration(125), "2m5s");
        assert_eq!(short_duration(3_600), "60m");
        assert_eq!(short_duration(200_000), "2d7h");
    }
}
