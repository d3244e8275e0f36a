//! Strategic merge patch for the built-in types: a merge patch in which some lists are merged by
//! key. The keys come from the Kubernetes API types (`patchMergeKey`); lists that are not named
//! here are replaced.

use serde_json::{Map, Value};

/// Field name of a list and the key its elements are merged by. Names are unique enough among the
/// types served here that the path does not matter, except `ports`, see [`merge_key`].
const MERGE_KEYS: &[(&str, &str)] = &[
    ("containers", "name"),
    ("initContainers", "name"),
    ("ephemeralContainers", "name"),
    ("env", "name"),
    ("volumes", "name"),
    ("volumeMounts", "mountPath"),
    ("volumeDevices", "devicePath"),
    ("imagePullSecrets", "name"),
    ("secrets", "name"),
    ("hostAliases", "ip"),
    ("ownerReferences", "uid"),
    ("conditions", "type"),
    ("podIPs", "ip"),
    ("hostIPs", "ip"),
    ("addresses", "type"),
    ("topologySpreadConstraints", "topologyKey"),
    ("resourceClaims", "name"),
    ("schedulingGates", "name"),
];

/// Lists of plain values that are merged as sets.
const SETS: &[&str] = &["finalizers"];

pub(super) fn merge_key(field: &str, list: &[Value]) -> Option<&'static str> {
    if field == "ports" {
        // A container's ports are merged by `containerPort`, a service's by `port`.
        let service = list.iter().any(|item| item.get("port").is_some());
        return Some(if service { "port" } else { "containerPort" });
    }
    MERGE_KEYS.iter().find(|(name, _)| *name == field).map(|(_, key)| *key)
}

/// Whether a list of that name is merged as a set.
pub(super) fn is_set(field: &str) -> bool {
    SETS.contains(&field)
}

/// Applies a strategic merge patch.
pub(crate) fn strategic(target: &mut Value, patch: &Value) {
    merge_value("", target, patch);
}

fn merge_value(field: &str, target: &mut Value, patch: &Value) {
    match patch {
        Value::Object(patch) => merge_map(target, patch),
        Value::Array(patch) => merge_list(field, target, patch),
        plain => *target = plain.clone(),
    }
}

fn merge_map(target: &mut Value, patch: &Map<String, Value>) {
    if patch.get("$patch").and_then(Value::as_str) == Some("replace") {
        *target = Value::Object(patch.iter().filter(|(key, _)| *key != "$patch").map(owned).collect());
        return;
    }
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(map) = target else { return };
    if patch.get("$patch").and_then(Value::as_str) == Some("delete") {
        map.clear();
        return;
    }
    retain_keys(map, patch);
    for (key, value) in patch {
        if let Some(field) = key.strip_prefix("$deleteFromPrimitiveList/") {
            if let (Some(Value::Array(list)), Some(gone)) = (map.get_mut(field), value.as_array()) {
                list.retain(|item| !gone.contains(item));
            }
        } else if key.starts_with('$') {
            // Order hints do not change what the objects mean here.
        } else if value.is_null() {
            map.remove(key);
        } else {
            merge_value(key, map.entry(key.clone()).or_insert(Value::Null), value);
        }
    }
}

fn owned((key, value): (&String, &Value)) -> (String, Value) {
    (key.clone(), value.clone())
}

/// `$retainKeys`: of a union (a volume's source, say) keep only the named members.
fn retain_keys(map: &mut Map<String, Value>, patch: &Map<String, Value>) {
    if let Some(keep) = patch.get("$retainKeys").and_then(Value::as_array) {
        map.retain(|key, _| keep.iter().any(|kept| kept.as_str() == Some(key)));
    }
}

fn merge_list(field: &str, target: &mut Value, patch: &[Value]) {
    let directive = |item: &Value| item.get("$patch").and_then(Value::as_str).map(str::to_owned);
    if patch.iter().any(|item| directive(item).as_deref() == Some("replace")) {
        *target = Value::Array(patch.iter().filter(|item| directive(item).is_none()).cloned().collect());
        return;
    }
    let Value::Array(list) = target else {
        *target = Value::Array(patch.iter().filter(|item| directive(item).is_none()).cloned().collect());
        return;
    };
    if is_set(field) {
        for item in patch {
            if !list.contains(item) {
                list.push(item.clone());
            }
        }
        return;
    }
    let Some(key) = merge_key(field, patch) else {
        *list = patch.to_vec();
        return;
    };
    for item in patch {
        let place = list.iter().position(|old| old.get(key).is_some() && old.get(key) == item.get(key));
        match (place, directive(item).as_deref()) {
            (Some(index), Some("delete")) => drop(list.remove(index)),
            (None, Some("delete")) => {}
            (Some(index), _) => merge_value("", &mut list[index], item),
            (None, _) => list.push(item.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_merge_by_their_key() {
        let mut pod = json!({"spec": {"containers": [{"name": "a", "image": "x", "args": ["1"]}, {"name": "b"}]}});
        strategic(
            &mut pod,
            &json!({"spec": {
                "$setElementOrder/containers": [{"name": "a"}],
                "containers": [{"name": "a", "image": "y", "args": ["2"]}, {"$patch": "delete", "name": "b"}, {"name": "c"}]
            }}),
        );
        assert_eq!(pod, json!({"spec": {"containers": [{"name": "a", "image": "y", "args": ["2"]}, {"name": "c"}]}}));
    }

    #[test]
    fn maps_retain_and_drop() {
        let mut object = json!({"metadata": {"labels": {"a": "1"}, "finalizers": ["x", "y"]}, "v": {"p": 1, "q": 2}});
        strategic(
            &mut object,
            &json!({
                "metadata": {"labels": {"a": null, "b": "2"}, "$deleteFromPrimitiveList/finalizers": ["x"]},
                "v": {"$retainKeys": ["r"], "r": 3}
            }),
        );
        assert_eq!(object, json!({"metadata": {"labels": {"b": "2"}, "finalizers": ["y"]}, "v": {"r": 3}}));
    }
}
