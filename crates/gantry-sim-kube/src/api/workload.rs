//! Table cells of types around pods: workloads, budgets, quotas, nodes.

use serde_json::{Value, json};

use crate::store::object::{at, items, pairs, text};

/// The cells of one object, after the columns of its type.
pub(super) fn cells(plural: &str, object: &Value, name: Value, age: Value) -> Vec<Value> {
    let status = |field: &str| json!(object["status"][field].as_u64().unwrap_or(0));
    let or = |value: &Value, otherwise: &str| match value {
        Value::Null => json!(otherwise),
        Value::String(text) => json!(text),
        other => json!(other.to_string()),
    };
    let spec = &object["spec"];
    match plural {
        "deployments" => {
            let containers = items(spec, &["template", "spec", "containers"]);
            let list = |field: &str| containers.iter().map(|one| text(one, &[field])).collect::<Vec<_>>().join(",");
            let labels = pairs(spec, &["selector", "matchLabels"]).map(|(key, value)| format!("{key}={value}"));
            vec![
                name,
                json!(format!("{}/{}", status("readyReplicas"), spec["replicas"].as_u64().unwrap_or(0))),
                status("updatedReplicas"),
                status("availableReplicas"),
                age,
                json!(list("name")),
                json!(list("image")),
                json!(labels.collect::<Vec<_>>().join(",")),
            ]
        }
        "replicasets" => {
            vec![name, json!(spec["replicas"].as_u64().unwrap_or(0)), status("replicas"), status("readyReplicas"), age]
        }
        "poddisruptionbudgets" => {
            let (least, most) = (or(&spec["minAvailable"], "N/A"), or(&spec["maxUnavailable"], "N/A"));
            vec![name, least, most, status("disruptionsAllowed"), age]
        }
        "priorityclasses" => {
            vec![name, object["value"].clone(), json!(object["globalDefault"] == Value::Bool(true)), age]
        }
        "resourcequotas" => {
            let (mut requests, mut limits) = (Vec::new(), Vec::new());
            for (resource, hard) in pairs(object, &["status", "hard"]) {
                let used = at(object, &["status", "used", resource]).and_then(Value::as_str).unwrap_or("0");
                let list = if resource.starts_with("limits.") { &mut limits } else { &mut requests };
                list.push(format!("{resource}: {used}/{hard}"));
            }
            vec![name, json!(requests.join(", ")), json!(limits.join(", ")), age]
        }
        _ => vec![name, object["metadata"]["creationTimestamp"].clone()],
    }
}

/// What the column STATUS says of a node.
pub(super) fn node_status(node: &Value) -> String {
    let ready = items(node, &["status", "conditions"]).iter().find(|one| one["type"] == "Ready");
    let word = if ready.is_some_and(|one| one["status"] == "True") { "Ready" } else { "NotReady" };
    let cordoned = node["spec"]["unschedulable"] == Value::Bool(true);
    if cordoned { format!("{word},SchedulingDisabled") } else { word.to_owned() }
}
