//! Rules for everything that is not a pod: metadata of all objects, config data, roles and
//! bindings.

use serde_json::Value;

use super::{Cause, Problems, names};
use crate::{
    auth::tokens::{SECRET_ACCOUNT, SECRET_TYPE},
    resources::ResourceType,
    store::{
        object::{at, items, name, pairs, text},
        selector::LabelSelector,
    },
};

/// The largest sum of a `ConfigMap`'s or Secret's data.
const MAX_DATA: usize = 1 << 20;

/// What is wrong with the metadata of an object.
pub(crate) fn metadata(kind: &ResourceType, object: &Value) -> Problems {
    let mut problems = Problems::default();
    let name = name(object);
    if name.is_empty() {
        problems.required("metadata.name", "name or generateName is required");
    } else if let Some(detail) = name_rule(kind)(name) {
        problems.invalid("metadata.name", &Value::from(name), detail);
    }
    for (key, value) in pairs(object, &["metadata", "labels"]) {
        if let Some(detail) = names::qualified(key) {
            problems.invalid("metadata.labels", &Value::from(key), detail);
        }
        if let Some(detail) = names::label_value(value) {
            problems.invalid("metadata.labels", &Value::from(value), detail);
        }
    }
    for (key, _) in pairs(object, &["metadata", "annotations"]) {
        if let Some(detail) = names::qualified(&key.to_lowercase()) {
            problems.invalid("metadata.annotations", &Value::from(key), detail);
        }
    }
    problems
}

fn name_rule(kind: &ResourceType) -> fn(&str) -> Option<&'static str> {
    match kind.plural {
        "namespaces" | "services" => names::label,
        "roles" | "rolebindings" | "clusterroles" | "clusterrolebindings" => names::path_segment,
        _ => names::subdomain,
    }
}

/// What is wrong with the rest of an object that is not a pod.
pub(crate) fn body(kind: &ResourceType, object: &Value) -> Problems {
    let mut problems = Problems::default();
    match kind.plural {
        "configmaps" => data(object, &mut problems),
        "secrets" => {
            data(object, &mut problems);
            secret(object, &mut problems);
        }
        "roles" | "clusterroles" => role(object, &mut problems),
        "rolebindings" | "clusterrolebindings" => binding(object, &mut problems),
        "deployments" | "replicasets" => workload(object, &mut problems),
        _ => {}
    }
    problems
}

fn workload(object: &Value, problems: &mut Problems) {
    if let Some(replicas) = at(object, &["spec", "replicas"]).filter(|replicas| replicas.as_u64().is_none()) {
        problems.invalid("spec.replicas", replicas, "must be greater than or equal to 0");
    }
    let selector = at(object, &["spec", "selector"]).cloned().unwrap_or_default();
    let labels = at(object, &["spec", "template", "metadata", "labels"]).cloned().unwrap_or_default();
    if !selector.is_object() || selector.as_object().is_some_and(serde_json::Map::is_empty) {
        problems.required("spec.selector", "");
    } else if !LabelSelector::of(&selector).matches(&object["spec"]["template"]) {
        let detail = "`selector` does not match template `labels`";
        problems.invalid("spec.template.metadata.labels", &labels, detail);
    }
    if items(object, &["spec", "template", "spec", "containers"]).is_empty() {
        problems.required("spec.template.spec.containers", "");
    }
    let policy = text(object, &["spec", "template", "spec", "restartPolicy"]);
    if !["", "Always"].contains(&policy) {
        problems.unsupported("spec.template.spec.restartPolicy", policy, &["Always"]);
    }
}

fn data(object: &Value, problems: &mut Problems) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in pairs(object, &[field]) {
            size += value.len();
            if let Some(detail) = names::config_key(key) {
                problems.invalid(format!("{field}[{key}]"), &Value::from(key), detail);
            }
        }
    }
    if size > MAX_DATA {
        problems.0.push(Cause {
            reason: "FieldValueTooLong",
            field: String::new(),
            message: format!("Too long: may not be more than {MAX_DATA} bytes"),
        });
    }
}

/// What a Secret's type asks of it.
fn secret(object: &Value, problems: &mut Problems) {
    let missing = |key: &&&str| at(object, &["data", **key]).is_none();
    let needed: &[&str] = match text(object, &["type"]) {
        SECRET_TYPE => {
            if text(object, &["metadata", "annotations", SECRET_ACCOUNT]).is_empty() {
                problems.required(format!("metadata.annotations[{SECRET_ACCOUNT}]"), "");
            }
            &[]
        }
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    };
    for key in needed.iter().filter(missing) {
        problems.required(format!("data[{key}]"), "");
    }
}

fn role(object: &Value, problems: &mut Problems) {
    for (index, rule) in items(object, &["rules"]).iter().enumerate() {
        if items(rule, &["verbs"]).is_empty() {
            problems.required(format!("rules[{index}].verbs"), "verbs must contain at least one value");
        }
        let about_paths = !items(rule, &["nonResourceURLs"]).is_empty();
        if !about_paths && items(rule, &["apiGroups"]).is_empty() {
            problems.required(format!("rules[{index}].apiGroups"), "resource rules must supply at least one api group");
        }
        if !about_paths && items(rule, &["resources"]).is_empty() {
            problems.required(format!("rules[{index}].resources"), "resource rules must supply at least one resource");
        }
    }
}

fn binding(object: &Value, problems: &mut Problems) {
    if at(object, &["roleRef", "kind"]).is_none_or(|kind| !["Role", "ClusterRole"].iter().any(|good| kind == good)) {
        let found = text(object, &["roleRef", "kind"]);
        problems.unsupported("roleRef.kind", found, &["Role", "ClusterRole"]);
    }
    if text(object, &["roleRef", "name"]).is_empty() {
        problems.required("roleRef.name", "");
    }
    for (index, subject) in items(object, &["subjects"]).iter().enumerate() {
        if text(subject, &["name"]).is_empty() {
            problems.required(format!("subjects[{index}].name"), "");
        }
        if text(subject, &["kind"]) == "ServiceAccount" && text(subject, &["namespace"]).is_empty() {
            problems.required(format!("subjects[{index}].namespace"), "");
        }
    }
}
