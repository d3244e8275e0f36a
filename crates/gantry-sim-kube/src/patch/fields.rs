//! Sets of fields of an object, as `managedFields` writes them: a path leads through maps by name
//! and through lists by the keys of their elements. Lists without keys are one field.

use std::collections::BTreeSet;

use serde::ser::{Serialize, SerializeMap as _, Serializer};
use serde_json::{Map, Value, json};

use super::strategic::{is_set, merge_key};

/// One step of a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    Field(String),
    /// The keys of a list's element, as JSON.
    Key(String),
    /// An element of a list that is a set.
    Element(String),
}

pub(crate) type Path = Vec<Step>;
pub(crate) type Fields = BTreeSet<Path>;

/// Deepest nesting of a set that a client may send.
const DEPTH: usize = 64;

/// What no manager owns: identity, and what the server writes.
const NOBODYS: [&str; 11] = [
    "name",
    "namespace",
    "generateName",
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "generation",
    "managedFields",
    "selfLink",
];

/// All fields of an object that can have an owner. Its status is somebody else's.
pub(crate) fn of(object: &Value) -> Fields {
    let mut fields = Fields::new();
    for (parent, field, value) in outermost(object) {
        let mut path: Path = parent.into_iter().chain([field]).map(|name| Step::Field(name.to_owned())).collect();
        collect(field, value, &mut path, &mut fields);
    }
    fields
}

/// The same as the text of a `fieldsV1`, made at once: most objects are never changed by a second
/// owner.
pub(crate) fn all_as_text(object: &Value) -> String {
    // Only names and values that are JSON already: writing them into memory cannot fail.
    serde_json::to_string(&Tree(object)).unwrap_or_default()
}

/// The outermost fields that can have an owner, those of the metadata with their parent.
fn outermost(object: &Value) -> impl Iterator<Item = (Option<&'static str>, &str, &Value)> {
    let top = owned_outside(object).map(|(key, value)| (None, key, value));
    top.chain(owned_metadata(object).map(|(key, value)| (Some("metadata"), key, value)))
}

fn owned_outside(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = object.as_object().into_iter().flatten().map(|(key, value)| (key.as_str(), value));
    all.filter(|(key, _)| !["apiVersion", "kind", "metadata", "status"].contains(key))
}

fn owned_metadata(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    let all = object.get("metadata").and_then(Value::as_object).into_iter().flatten();
    all.map(|(key, value)| (key.as_str(), value)).filter(|(key, _)| !NOBODYS.contains(key))
}

/// All fields of an object that can have an owner.
struct Tree<'v>(&'v Value);

impl Serialize for Tree<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(None)?;
        // In the order of the names, as everything else is.
        for (key, value) in owned_outside(self.0).filter(|(key, _)| *key < "metadata") {
            map.serialize_entry(&format!("f:{key}"), &Node::field(key, value))?;
        }
        if owned_metadata(self.0).next().is_some() {
            map.serialize_entry("f:metadata", &Metadata(self.0))?;
        }
        for (key, value) in owned_outside(self.0).filter(|(key, _)| *key > "metadata") {
            map.serialize_entry(&format!("f:{key}"), &Node::field(key, value))?;
        }
        map.end()
    }
}

struct Metadata<'v>(&'v Value);

impl Serialize for Metadata<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let fields = owned_metadata(self.0);
        to.collect_map(fields.map(|(key, value)| (format!("f:{key}"), Node::field(key, value))))
    }
}

/// What is below a field, or below an element of a list, which is a field of its own.
struct Node<'v> {
    field: &'v str,
    value: &'v Value,
    is_member: bool,
}

impl<'v> Node<'v> {
    fn field(field: &'v str, value: &'v Value) -> Self {
        Self { field, value, is_member: false }
    }

    /// Its children, in the order of their names.
    fn children(&self) -> Vec<(String, Self)> {
        let members = |name: &dyn Fn(&Value) -> String, list: &'v [Value]| {
            let member = |value| (name(value), Self { field: "", value, is_member: true });
            let mut members: Vec<_> = list.iter().map(member).collect();
            members.sort_by(|(one, _), (other, _)| one.cmp(other));
            members
        };
        match self.value {
            Value::Object(map) => {
                map.iter().map(|(key, value)| (format!("f:{key}"), Self::field(key, value))).collect()
            }
            Value::Array(list) if is_set(self.field) => members(&|item| format!("v:{item}"), list),
            Value::Array(list) if merge_key(self.field, list).is_some() => {
                members(&|item| step_text(&key_of(self.field, list, item)), list)
            }
            _ => Vec::new(),
        }
    }
}

impl Serialize for Node<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let children = self.children();
        let mut map = to.serialize_map(None)?;
        if self.is_member && !children.is_empty() {
            map.serialize_entry(".", &Map::new())?;
        }
        for (name, child) in children {
            map.serialize_entry(&name, &child)?;
        }
        map.end()
    }
}

fn collect(field: &str, value: &Value, path: &mut Path, fields: &mut Fields) {
    let mut into = |step: Step, field: &str, value: &Value, member: bool| {
        path.push(step);
        if member {
            fields.insert(path.clone());
        }
        collect(field, value, path, fields);
        path.pop();
    };
    match value {
        Value::Object(map) if !map.is_empty() => {
            map.iter().for_each(|(key, value)| into(Step::Field(key.clone()), key, value, false));
        }
        Value::Array(list) if is_set(field) => {
            for item in list {
                into(Step::Element(item.to_string()), "", item, true);
            }
        }
        Value::Array(list) if merge_key(field, list).is_some() && !list.is_empty() => {
            for item in list {
                into(key_of(field, list, item), "", item, true);
            }
        }
        _ => drop(fields.insert(path.clone())),
    }
}

/// The step to an element of a list with keys.
fn key_of(field: &str, list: &[Value], item: &Value) -> Step {
    let key = merge_key(field, list).unwrap_or("name");
    let mut keys = Map::new();
    keys.insert(key.to_owned(), item.get(key).cloned().unwrap_or_default());
    if field == "ports" {
        // Ports are told apart by their protocol too, which has a default.
        keys.insert("protocol".to_owned(), item.get("protocol").cloned().unwrap_or_else(|| json!("TCP")));
    }
    Step::Key(Value::Object(keys).to_string())
}

fn position(field: &str, list: &[Value], step: &Step) -> Option<usize> {
    match step {
        Step::Key(_) => list.iter().position(|item| key_of(field, list, item) == *step),
        Step::Element(text) => {
            let wanted: Value = serde_json::from_str(text).ok()?;
            list.iter().position(|item| *item == wanted)
        }
        Step::Field(_) => None,
    }
}

/// The value at a path.
pub(crate) fn get<'v>(object: &'v Value, path: &[Step]) -> Option<&'v Value> {
    let mut value = object;
    let mut field = "";
    for step in path {
        value = match (step, value) {
            (Step::Field(name), Value::Object(map)) => {
                field = name;
                map.get(name)?
            }
            (step, Value::Array(list)) => list.get(position(field, list, step)?)?,
            _ => return None,
        };
    }
    Some(value)
}

/// Takes away what is at a path, and maps that become empty by that.
pub(crate) fn remove(object: &mut Value, path: &[Step]) {
    remove_in("", object, path);
}

fn remove_in(field: &str, value: &mut Value, path: &[Step]) {
    let Some((step, rest)) = path.split_first() else { return };
    match (step, value) {
        (Step::Field(name), Value::Object(map)) => {
            if rest.is_empty() {
                map.remove(name);
            } else if let Some(inner) = map.get_mut(name) {
                remove_in(name, inner, rest);
                if inner.as_object().is_some_and(Map::is_empty) || inner.as_array().is_some_and(Vec::is_empty) {
                    map.remove(name);
                }
            }
        }
        (step, Value::Array(list)) => {
            let Some(index) = position(field, list, step) else { return };
            if rest.is_empty() { drop(list.remove(index)) } else { remove_in("", &mut list[index], rest) }
        }
        _ => {}
    }
}

/// Puts the fields of one object into another: maps and lists with keys are merged, everything else
/// is replaced.
pub(crate) fn merge(target: &mut Value, from: &Value) {
    merge_in("", target, from);
}

fn merge_in(field: &str, target: &mut Value, from: &Value) {
    match (target, from) {
        (Value::Object(target), Value::Object(from)) => {
            for (key, value) in from {
                merge_in(key, target.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (Value::Array(target), Value::Array(from)) if is_set(field) => {
            from.iter()
                .filter(|item| !target.contains(item))
                .cloned()
                .collect::<Vec<_>>()
                .into_iter()
                .for_each(|item| target.push(item));
        }
        (Value::Array(target), Value::Array(from)) if merge_key(field, from).is_some() => {
            for item in from {
                match position(field, target, &key_of(field, from, item)) {
                    Some(index) => merge_in("", &mut target[index], item),
                    None => target.push(item.clone()),
                }
            }
        }
        (target, from) => *target = from.clone(),
    }
}

fn step_text(step: &Step) -> String {
    match step {
        Step::Field(name) => format!("f:{name}"),
        Step::Key(keys) => format!("k:{keys}"),
        Step::Element(value) => format!("v:{value}"),
    }
}

/// The set as `fieldsV1`.
pub(crate) fn to_json(fields: &Fields) -> Value {
    let mut tree = json!({});
    for path in fields {
        let mut node = &mut tree;
        for step in path {
            node = &mut node[step_text(step)];
            if node.is_null() {
                *node = json!({});
            }
        }
    }
    // An element that is owned itself, besides what is in it.
    for path in fields.iter().filter(|path| !matches!(path.last(), Some(Step::Field(_)))) {
        let mut node = &mut tree;
        for step in path {
            node = &mut node[step_text(step)];
        }
        if node.as_object().is_some_and(|map| !map.is_empty()) {
            node["."] = json!({});
        }
    }
    tree
}

/// A set from `fieldsV1`.
pub(crate) fn from_json(tree: &Value) -> Fields {
    let mut fields = Fields::new();
    read(tree, &mut Path::new(), &mut fields);
    fields.remove(&Path::new());
    fields
}

fn read(node: &Value, path: &mut Path, fields: &mut Fields) {
    let empty = Map::new();
    let map = node.as_object().unwrap_or(&empty);
    if map.is_empty() || map.contains_key(".") {
        fields.insert(path.clone());
    }
    for (key, inner) in map {
        let step = match key.split_once(':') {
            Some(("f", name)) => Step::Field(name.to_owned()),
            Some(("k", keys)) => Step::Key(keys.to_owned()),
            Some(("v", value)) => Step::Element(value.to_owned()),
            _ => continue,
        };
        if path.len() < DEPTH {
            path.push(step);
            read(inner, path, fields);
            path.pop();
        }
    }
}

/// A path as messages show it.
pub(crate) fn shown(path: &[Step]) -> String {
    path.iter()
        .map(|step| match step {
            Step::Field(name) => format!(".{name}"),
            Step::Key(keys) => {
                let keys: Value = serde_json::from_str(keys).unwrap_or_default();
                let all = keys.as_object().into_iter().flatten().map(|(key, value)| format!("{key}={value}"));
                format!("[{}]", all.collect::<Vec<_>>().join(","))
            }
            Step::Element(value) => format!("[={value}]"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"kind": "Pod", "metadata": {"name": "p", "labels": {"a": "1"}, "finalizers": ["x"]},
            "spec": {"containers": [{"name": "c", "image": "i", "args": ["1"], "ports": [{"containerPort": 80}]}]},
            "status": {"phase": "Running"}})
    }

    #[test]
    fn a_set_is_written_as_kubernetes_does_and_read_back() {
        let fields = of(&pod());
        let tree = to_json(&fields);
        assert_eq!(
            tree,
            json!({"f:metadata": {"f:labels": {"f:a": {}}, "f:finalizers": {"v:\"x\"": {}}},
                "f:spec": {"f:containers": {"k:{\"name\":\"c\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}}}}}})
        );
        assert_eq!(from_json(&tree), fields);
        assert_eq!(all_as_text(&pod()), tree.to_string());
    }

    #[test]
    fn paths_lead_to_values() {
        let mut pod = pod();
        let path = |pod: &Value, end: &str| of(pod).into_iter().find(|path| shown(path).ends_with(end)).unwrap();
        let image = path(&pod, ".image");
        assert_eq!(shown(&image), r#".spec.containers[name="c"].image"#);
        assert_eq!(get(&pod, &image), Some(&json!("i")));
        merge(&mut pod, &json!({"spec": {"containers": [{"name": "d"}, {"name": "c", "image": "j"}]}}));
        assert_eq!(get(&pod, &image), Some(&json!("j")));
        assert_eq!(pod["spec"]["containers"].as_array().unwrap().len(), 2);
        remove(&mut pod, &image);
        assert_eq!(get(&pod, &image), None);
        let label = path(&pod, ".labels.a");
        remove(&mut pod, &label);
        assert!(pod["metadata"].get("labels").is_none());
    }
}
