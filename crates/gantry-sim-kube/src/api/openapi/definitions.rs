//! The schemas of the API's messages, made from the table in `schema`: fields, types, and how lists
//! are patched. Descriptions are not in it.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use crate::{
    resources::TYPES,
    schema::{Count, Field, KUBERNETES, Kind},
};

/// Messages with a kind of their own, by name: group and version.
fn kinds() -> BTreeMap<String, (&'static str, &'static str)> {
    let mut kinds = BTreeMap::new();
    for kind in TYPES {
        kinds.insert(kind.kind.to_owned(), (kind.group, kind.version));
        if kind.stored {
            kinds.insert(format!("{}List", kind.kind), (kind.group, kind.version));
        }
        for sub in kind.subresources {
            let own = sub.group_version.split_once('/').unwrap_or((kind.group, kind.version));
            kinds.entry(sub.kind.to_owned()).or_insert(own);
        }
    }
    kinds
}

/// The schemas of a group's types, or of all, and of whatever they consist of. References begin
/// with `prefix`.
pub(super) fn schemas(group: Option<&str>, prefix: &str) -> Map<String, Value> {
    let kinds = kinds();
    let mut waiting: Vec<&str> = kinds
        .iter()
        .filter(|(_, (own, _))| group.is_none_or(|group| group == *own))
        .map(|(name, _)| name.as_str())
        .collect();
    let mut seen = BTreeSet::new();
    let mut schemas = Map::new();
    while let Some(name) = waiting.pop() {
        let Some(fields) = KUBERNETES.get(name).filter(|_| seen.insert(name.to_owned())) else { continue };
        let mut properties = Map::new();
        let mut schema = json!({"type": "object"});
        if let Some((group, version)) = kinds.get(name) {
            properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
            properties.insert("kind".to_owned(), json!({"type": "string"}));
            schema["x-kubernetes-group-version-kind"] = json!([{"group": group, "version": version, "kind": name}]);
        }
        flattened(fields, &mut |name, field| {
            if let Kind::Message(inner) = field.kind {
                waiting.push(inner);
            }
            properties.insert(name.to_owned(), property(field, prefix));
        });
        schema["properties"] = Value::Object(properties);
        schemas.insert(name.to_owned(), schema);
    }
    schemas
}

/// Every field that JSON shows, also those of messages that are part of the outer one.
fn flattened(fields: &'static [Field], each: &mut dyn FnMut(&'static str, &Field)) {
    for field in fields {
        match (field.name, field.kind) {
            (Some(name), _) => each(name, field),
            (None, Kind::Message(inner)) => {
                flattened(KUBERNETES.get(inner).map_or(&[][..], Vec::as_slice), each);
            }
            (None, _) => {}
        }
    }
}

fn property(field: &Field, prefix: &str) -> Value {
    let one = match field.kind {
        Kind::Text | Kind::Quantity => json!({"type": "string"}),
        Kind::Bytes => json!({"type": "string", "format": "byte"}),
        Kind::Flag => json!({"type": "boolean"}),
        Kind::Number => json!({"type": "integer"}),
        Kind::Time | Kind::MicroTime => json!({"type": "string", "format": "date-time"}),
        Kind::Either => json!({"type": "string", "format": "int-or-string"}),
        Kind::Json => json!({"type": "object"}),
        Kind::Texts => json!({"type": "array", "items": {"type": "string"}}),
        Kind::Message(name) => json!({"$ref": format!("{prefix}{name}")}),
    };
    let mut property = match field.count {
        Count::One => one,
        Count::List => json!({"type": "array", "items": one}),
        Count::Map => json!({"type": "object", "additionalProperties": one}),
    };
    for (key, value) in [("strategy", field.patch_strategy), ("merge-key", field.merge_key)] {
        if !value.is_empty() {
            property[format!("x-kubernetes-patch-{key}")] = json!(value);
        }
    }
    property
}
