//! Reading and writing the well-known fields of an object kept as JSON. Every function accepts any
//! shape: what is missing or of the wrong type reads as empty.

use serde_json::{Map, Value, json};

/// The field at a path of object keys.
pub(crate) fn at<'v>(value: &'v Value, path: &[&str]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, key| value.get(key))
}

/// The text at a path, or nothing.
pub(crate) fn text<'v>(value: &'v Value, path: &[&str]) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or("")
}

/// The elements of the list at a path.
pub(crate) fn items<'v>(value: &'v Value, path: &[&str]) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The pairs of the map at a path whose values are texts.
pub(crate) fn pairs<'v>(value: &'v Value, path: &[&str]) -> impl Iterator<Item = (&'v str, &'v str)> {
    at(value, path)
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
}

/// The map at a path, made where it is missing or something else.
pub(crate) fn map_mut<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Map<String, Value> {
    let mut value = value;
    for key in path {
        value = as_map(value).entry(*key).or_insert_with(|| json!({}));
    }
    as_map(value)
}

/// The list at `path`, made where it is missing or something else.
pub(crate) fn list_mut<'v>(value: &'v mut Value, path: &[&str]) -> &'v mut Vec<Value> {
    let Some((last, parents)) = path.split_last() else { return as_list(value) };
    as_list(map_mut(value, parents).entry(*last).or_insert_with(|| json!([])))
}

fn as_map(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object just above"),
    }
}

fn as_list(value: &mut Value) -> &mut Vec<Value> {
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(list) => list,
        _ => unreachable!("made a list just above"),
    }
}

pub(crate) fn name(object: &Value) -> &str {
    text(object, &["metadata", "name"])
}

pub(crate) fn namespace(object: &Value) -> &str {
    text(object, &["metadata", "namespace"])
}

pub(crate) fn uid(object: &Value) -> &str {
    text(object, &["metadata", "uid"])
}

pub(crate) fn version_text(object: &Value) -> &str {
    text(object, &["metadata", "resourceVersion"])
}

pub(crate) fn set_version(object: &mut Value, version: u64) {
    set_version_text(object, &version.to_string());
}

pub(crate) fn set_version_text(object: &mut Value, version: &str) {
    map_mut(object, &["metadata"]).insert("resourceVersion".to_owned(), json!(version));
}

pub(crate) fn is_terminating(object: &Value) -> bool {
    !text(object, &["metadata", "deletionTimestamp"]).is_empty()
}

/// Sets a field only when it is absent or null.
pub(crate) fn default(map: &mut Map<String, Value>, key: &str, value: impl Into<Value>) {
    if map.get(key).is_none_or(Value::is_null) {
        map.insert(key.to_owned(), value.into());
    }
}

/// Removes every null inside: in JSON sent to Kubernetes a null field means an absent one.
pub(crate) fn drop_nulls(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_nulls);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_nulls),
        _ => {}
    }
}
