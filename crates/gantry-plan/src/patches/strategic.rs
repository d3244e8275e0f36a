//! Kubernetes' strategic merge patch for the spec of a pod: like a merge patch, but for lists of
//! objects that have a key, which are merged object by object. Which lists those are, and by which
//! key, says the Kubernetes API (`patchMergeKey` of its types).

use serde_json::{Map, Value};

/// What the fields of an object are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Within {
    /// The spec of a pod.
    Spec,
    /// A container of any kind.
    Container,
    /// Anything else: all of its lists are replaced.
    Other,
}

/// The lists that are merged: where, the field, its key, and what its elements are.
const MERGED: [(Within, &str, &str, Within); 14] = [
    (Within::Spec, "containers", "name", Within::Container),
    (Within::Spec, "initContainers", "name", Within::Container),
    (Within::Spec, "ephemeralContainers", "name", Within::Container),
    (Within::Spec, "volumes", "name", Within::Other),
    (Within::Spec, "imagePullSecrets", "name", Within::Other),
    (Within::Spec, "hostAliases", "ip", Within::Other),
    (Within::Spec, "topologySpreadConstraints", "topologyKey", Within::Other),
    (Within::Spec, "schedulingGates", "name", Within::Other),
    (Within::Spec, "resourceClaims", "name", Within::Other),
    (Within::Container, "env", "name", Within::Other),
    (Within::Container, "ports", "containerPort", Within::Other),
    (Within::Container, "volumeMounts", "mountPath", Within::Other),
    (Within::Container, "volumeDevices", "devicePath", Within::Other),
    (Within::Other, "ownerReferences", "uid", Within::Other),
];

/// What is to be done with an object or a list instead of merging it (Kubernetes API).
const DIRECTIVE: &str = "$patch";
/// The keys of an object that stay; others go.
const RETAIN: &str = "$retainKeys";
/// Values that a list of plain values loses; the field follows.
const REMOVE: &str = "$deleteFromPrimitiveList/";
/// The order of a list; the field follows.
const ORDER: &str = "$setElementOrder/";

/// Applies a patch to the spec of a pod.
///
/// # Errors
/// A directive that does not exist, or an element without the key of its list: what and where, as a
/// fragment of a sentence.
pub(super) fn apply(spec: &mut Value, patch: &Value) -> Result<(), String> {
    merge(spec, patch, Within::Spec, "")
}

fn merge(target: &mut Value, patch: &Value, within: Within, path: &str) -> Result<(), String> {
    let Value::Object(patch) = patch else {
        *target = patch.clone();
        return Ok(());
    };
    if !target.is_object() {
        *target = Value::Object(Map::new());
    }
    let Value::Object(target) = target else { return Ok(()) };
    match directive(patch, path)? {
        None | Some("merge") => {}
        Some("replace") => {
            *target = without_directives(patch);
            return Ok(());
        }
        Some("delete") => {
            target.clear();
            return Ok(());
        }
        Some(other) => return Err(unknown(other, path)),
    }
    retain(target, patch, path)?;
    for (field, value) in patch.iter().filter(|(field, _)| !field.starts_with('$')) {
        merge_field(target, (field, value), within, path)?;
    }
    for (directive, value) in patch.iter().filter(|(field, _)| field.starts_with('$')) {
        if let Some(field) = directive.strip_prefix(REMOVE) {
            let gone = value.as_array().map(Vec::as_slice).unwrap_or_default();
            if let Some(Value::Array(list)) = target.get_mut(field) {
                list.retain(|item| !gone.contains(item));
            }
        } else if let Some(field) = directive.strip_prefix(ORDER) {
            if let (Some(Value::Array(list)), Some(wanted)) = (target.get_mut(field), value.as_array()) {
                order(list, wanted, key_of(within, field).map(|(key, _)| key));
            }
        } else if ![DIRECTIVE, RETAIN].contains(&directive.as_str()) {
            return Err(unknown(directive, path));
        }
    }
    Ok(())
}

fn merge_field(
    target: &mut Map<String, Value>,
    (field, value): (&String, &Value),
    within: Within,
    path: &str,
) -> Result<(), String> {
    let path = format!("{path}/{field}");
    match value {
        Value::Null => {
            target.remove(field);
            Ok(())
        }
        Value::Array(items) => {
            let Some((key, element)) = key_of(within, field) else {
                target.insert(field.clone(), value.clone());
                return Ok(());
            };
            let list = target.entry(field.clone()).or_insert_with(|| Value::Array(Vec::new()));
            merge_list(list, items, (key, element), &path)
        }
        _ => merge(target.entry(field.clone()).or_insert(Value::Null), value, Within::Other, &path),
    }
}

fn key_of(within: Within, field: &str) -> Option<(&'static str, Within)> {
    let merged = MERGED.iter().find(|(place, name, ..)| *place == within && *name == field);
    merged.map(|(_, _, key, element)| (*key, *element))
}

fn merge_list(list: &mut Value, items: &[Value], (key, element): (&str, Within), path: &str) -> Result<(), String> {
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    let Value::Array(list) = list else { return Ok(()) };
    // One element that is nothing but a directive means the whole list.
    if items.iter().any(|item| item.as_object().is_some_and(|map| map.len() == 1 && is_replace(map))) {
        list.clear();
    }
    for item in items {
        let Value::Object(map) = item else {
            return Err(format!("an element of {path} is not an object"));
        };
        if map.len() == 1 && is_replace(map) {
            continue;
        }
        let Some(name) = map.get(key).filter(|name| !name.is_null()) else {
            return Err(format!(
                "an element of {path} has no {key}, by which the elements of that list are told apart"
            ));
        };
        let place = list.iter().position(|other| other.get(key) == Some(name));
        let path = format!("{path}/{}", name.as_str().map_or_else(|| name.to_string(), str::to_owned));
        match (directive(map, &path)?, place) {
            (Some("delete"), Some(place)) => drop(list.remove(place)),
            (Some("delete"), None) => {}
            (_, Some(place)) => {
                if let Some(found) = list.get_mut(place) {
                    merge(found, item, element, &path)?;
                }
            }
            (_, None) => {
                let mut new = Value::Object(Map::new());
                merge(&mut new, item, element, &path)?;
                list.push(new);
            }
        }
    }
    Ok(())
}

fn is_replace(map: &Map<String, Value>) -> bool {
    map.get(DIRECTIVE).and_then(Value::as_str) == Some("replace")
}

fn directive<'p>(patch: &'p Map<String, Value>, path: &str) -> Result<Option<&'p str>, String> {
    match patch.get(DIRECTIVE) {
        None => Ok(None),
        Some(Value::String(word)) => Ok(Some(word)),
        Some(other) => Err(unknown(&other.to_string(), path)),
    }
}

fn unknown(word: &str, path: &str) -> String {
    let place = if path.is_empty() { "/" } else { path };
    format!(
        "{word} at {place} is no directive: there are $patch: replace, merge and delete, $retainKeys, {REMOVE}… and {ORDER}…"
    )
}

fn without_directives(patch: &Map<String, Value>) -> Map<String, Value> {
    let plain = patch.iter().filter(|(field, value)| !field.starts_with('$') && !value.is_null());
    plain.map(|(field, value)| (field.clone(), value.clone())).collect()
}

fn retain(target: &mut Map<String, Value>, patch: &Map<String, Value>, path: &str) -> Result<(), String> {
    let Some(kept) = patch.get(RETAIN) else { return Ok(()) };
    let kept: Vec<&str> = kept.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    if let Some(field) = patch.keys().find(|field| !field.starts_with('$') && !kept.contains(&field.as_str())) {
        return Err(format!("{RETAIN} at {path} does not name {field}, which the patch sets there"));
    }
    target.retain(|field, _| kept.contains(&field.as_str()));
    Ok(())
}

/// Puts the elements that are named into the order of their names, at the places that they had
/// together.
fn order(list: &mut [Value], wanted: &[Value], key: Option<&str>) {
    let rank = |item: &Value| {
        let own = key.map_or(Some(item), |key| item.get(key));
        wanted.iter().position(|other| key.map_or(Some(other), |key| other.get(key)) == own)
    };
    let places: Vec<usize> = (0..list.len()).filter(|at| list.get(*at).and_then(rank).is_some()).collect();
    let mut named: Vec<Value> = places.iter().filter_map(|at| list.get(*at).cloned()).collect();
    named.sort_by_key(rank);
    for (at, item) in places.into_iter().zip(named) {
        if let Some(place) = list.get_mut(at) {
            *place = item;
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn spec() -> Value {
        json!({
            "containers": [
                {"name": "build", "image": "ruby", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                 "args": ["x"], "volumeMounts": [{"name": "repo", "mountPath": "/builds"}]},
                {"name": "helper", "image": "helper"},
            ],
            "volumes": [{"name": "repo", "emptyDir": {}}],
            "tolerations": [{"key": "a"}],
            "securityContext": {"fsGroup": 1, "supplementalGroups": [1, 2]},
        })
    }

    fn patched(patch: &Value) -> Value {
        let mut spec = spec();
        apply(&mut spec, patch).unwrap();
        spec
    }

    #[test]
    fn lists_with_keys_are_merged_and_others_replaced() {
        let spec = patched(&json!({
            "containers": [
                {"name": "build", "env": [{"name": "B", "value": "3"}, {"name": "C", "value": "4"}], "args": ["y"],
                 "resources": {"limits": {"nvidia.com/gpu": 1}},
                 "volumeMounts": [{"mountPath": "/builds", "name": "big"}, {"mountPath": "/x", "name": "big"}]},
                {"name": "proxy", "image": "envoy"},
            ],
            "tolerations": [{"key": "b"}],
            "hostUsers": false,
            "securityContext": {"fsGroup": null, "runAsUser": 5},
        }));
        let build = &spec["containers"][0];
        assert_eq!(
            build["env"],
            json!([{"name": "A", "value": "1"}, {"name": "B", "value": "3"}, {"name": "C", "value": "4"}])
        );
        assert_eq!((&build["image"], &build["args"]), (&json!("ruby"), &json!(["y"])));
        assert_eq!(
            build["volumeMounts"],
            json!([{"mountPath": "/builds", "name": "big"}, {"mountPath": "/x", "name": "big"}])
        );
        assert_eq!(spec["containers"][1], json!({"name": "helper", "image": "helper"}));
        assert_eq!(spec["containers"][2], json!({"name": "proxy", "image": "envoy"}));
        assert_eq!((&spec["tolerations"], &spec["hostUsers"]), (&json!([{"key": "b"}]), &json!(false)));
        assert_eq!(spec["securityContext"], json!({"supplementalGroups": [1, 2], "runAsUser": 5}));
    }

    #[test]
    fn directives() {
        let spec = patched(&json!({
            "containers": [{"name": "helper", "$patch": "delete"}, {"name": "build", "env": [{"$patch": "replace"}, {"name": "Z"}]}],
            "volumes": [{"name": "repo", "$retainKeys": ["name", "ephemeral"], "ephemeral": {}}],
            "securityContext": {"$patch": "replace", "runAsUser": 5},
            "$setElementOrder/containers": [{"name": "build"}],
        }));
        let names: Vec<&Value> = spec["containers"].as_array().unwrap().iter().map(|item| &item["name"]).collect();
        assert_eq!(names, ["build"]);
        assert_eq!(spec["containers"][0]["env"], json!([{"name": "Z"}]));
        assert_eq!(spec["volumes"], json!([{"name": "repo", "ephemeral": {}}]));
        assert_eq!(spec["securityContext"], json!({"runAsUser": 5}));
        let spec = patched(&json!({
            "$setElementOrder/containers": [{"name": "helper"}, {"name": "build"}],
            "securityContext": {"$deleteFromPrimitiveList/supplementalGroups": [1]},
        }));
        assert_eq!(spec["containers"][0]["name"], "helper");
        assert_eq!(spec["securityContext"]["supplementalGroups"], json!([2]));
    }

    #[test]
    fn what_cannot_be_applied_is_said() {
        for (patch, said) in [
            (json!({"containers": [{"image": "x"}]}), "an element of /containers has no name"),
            (json!({"containers": [{"name": "build", "env": ["A"]}]}), "/containers/build/env is not an object"),
            (json!({"$patch": "erase"}), "erase at / is no directive"),
            (json!({"securityContext": {"$drop": []}}), "$drop at /securityContext is no directive"),
            (json!({"volumes": [{"name": "repo", "$retainKeys": ["name"], "csi": {}}]}), "does not name csi"),
        ] {
            let error = apply(&mut spec(), &patch).unwrap_err();
            assert!(error.contains(said), "{error}");
        }
    }
}
