//! Who owns which field: server-side apply with its conflicts, and what other changes do to
//! ownership. Pure functions from an object to an object; the record is the object's
//! `managedFields`.
//!
//! The sets of fields are kept as text: as trees they would be half of an object, and are only ever
//! passed on.

use serde_json::{Value, json};

use super::fields::{self, Fields, Path};
use crate::store::object::{self, items, map_mut, text};

/// Where a record has its set of fields.
pub(crate) const FIELDS: &str = "fieldsV1";

/// One manager's record.
#[derive(Debug, Clone, PartialEq)]
struct Entry {
    manager: String,
    applies: bool,
    version: String,
    time: Value,
    subresource: String,
    fields: Fields,
}

impl Entry {
    /// The record with this text as `fieldsV1`.
    fn to_json(&self, fields: String) -> Value {
        let mut json = json!({
            "manager": self.manager, "operation": if self.applies { "Apply" } else { "Update" },
            "apiVersion": self.version, "time": self.time, "fieldsType": "FieldsV1",
        });
        json[FIELDS] = Value::String(fields);
        if !self.subresource.is_empty() {
            json["subresource"] = json!(self.subresource);
        }
        json
    }
}

/// A field that somebody else owns and that is to get another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Conflict {
    /// Who, in the words of the message.
    pub(crate) owner: String,
    pub(crate) field: String,
}

/// Who changes an object, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Author<'a> {
    pub(crate) manager: &'a str,
    pub(crate) version: &'a str,
    pub(crate) stamp: &'a str,
}

impl Author<'_> {
    fn entry(&self, applies: bool, fields: Fields) -> Entry {
        Entry {
            manager: self.manager.to_owned(),
            applies,
            version: self.version.to_owned(),
            time: json!(self.stamp),
            subresource: String::new(),
            fields,
        }
    }
}

fn entries(object: &Value) -> Vec<Entry> {
    items(object, &["metadata", "managedFields"])
        .iter()
        .map(|entry| Entry {
            manager: text(entry, &["manager"]).to_owned(),
            applies: entry["operation"] == "Apply",
            version: text(entry, &["apiVersion"]).to_owned(),
            time: entry["time"].clone(),
            subresource: text(entry, &["subresource"]).to_owned(),
            fields: match &entry[FIELDS] {
                Value::String(text) => fields::from_json(&serde_json::from_str(text).unwrap_or_default()),
                tree => fields::from_json(tree),
            },
        })
        .collect()
}

fn put(object: &mut Value, entries: &[Entry]) {
    let list: Vec<Value> = entries
        .iter()
        .filter(|entry| !entry.fields.is_empty())
        .map(|entry| entry.to_json(fields::to_json(&entry.fields).to_string()))
        .collect();
    let metadata = map_mut(object, &["metadata"]);
    if list.is_empty() {
        metadata.remove("managedFields");
    } else {
        metadata.insert("managedFields".to_owned(), Value::Array(list));
    }
}

/// Makes texts of the sets of fields that a client has sent.
fn pack(object: &mut Value) {
    let records = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
    for set in records.into_iter().flatten().filter_map(|record| record.get_mut(FIELDS)) {
        if !set.is_string() {
            *set = Value::String(set.to_string());
        }
    }
}

/// Makes trees of the sets of fields again, as clients see them.
pub(crate) fn unpack(metadata: &mut Value) {
    let records = metadata.get_mut("managedFields").and_then(Value::as_array_mut);
    for set in records.into_iter().flatten().filter_map(|record| record.get_mut(FIELDS)) {
        if let Value::String(text) = set {
            *set = serde_json::from_str(text).unwrap_or_default();
        }
    }
}

/// Records that a new object is its creator's.
pub(crate) fn created(object: &mut Value, author: Author<'_>, applies: bool) {
    let fields = fields::all_as_text(object);
    let entry = author.entry(applies, Fields::new()).to_json(fields);
    map_mut(object, &["metadata"]).insert("managedFields".to_owned(), Value::Array(vec![entry]));
}

/// Records what an update has changed. A record that came with the update counts as it is.
pub(crate) fn updated(old: &Value, new: &mut Value, author: Author<'_>) {
    pack(new);
    if new["metadata"].get("managedFields").is_some_and(|sent| Some(sent) != old["metadata"].get("managedFields")) {
        return;
    }
    let (before, after) = (fields::of(old), fields::of(new));
    let is_leaf = |path: &Path| fields::get(new, path).is_none_or(|value| !value.is_object() || value == &json!({}));
    let changed: Fields = after
        .iter()
        .filter(|path| is_leaf(path) && fields::get(old, path) != fields::get(new, path))
        .cloned()
        .collect();
    let gone: Fields = before.difference(&after).cloned().collect();
    let mut all = entries(old);
    for entry in &mut all {
        entry.fields.retain(|path| !changed.contains(path) && !gone.contains(path));
    }
    if !changed.is_empty() {
        let mine = all
            .iter_mut()
            .find(|entry| !entry.applies && entry.manager == author.manager && entry.subresource.is_empty());
        match mine {
            Some(entry) => {
                entry.fields.extend(changed);
                entry.time = json!(author.stamp);
            }
            None => all.push(author.entry(false, changed)),
        }
    }
    put(new, &all);
}

/// Applies a configuration: its fields become the author's, and what the author no longer names
/// goes, unless somebody else owns it too.
pub(crate) fn apply(live: &Value, config: &Value, author: Author<'_>, force: bool) -> Result<Value, Vec<Conflict>> {
    let wanted = fields::of(config);
    let mut all = entries(live);
    let mine = |entry: &Entry| entry.applies && entry.manager == author.manager && entry.subresource.is_empty();
    let mut conflicts = Vec::new();
    for entry in all.iter_mut().filter(|entry| !mine(entry)) {
        let differs = |path: &&Path| {
            let (is, shall) = (fields::get(live, path), fields::get(config, path));
            is.is_some()
                && is != shall
                && shall.is_none_or(|shall| shall.as_object().is_none_or(serde_json::Map::is_empty))
        };
        let hit: Vec<Path> = entry.fields.intersection(&wanted).filter(differs).cloned().collect();
        for path in hit {
            let how = if entry.applies { String::new() } else { format!(" using {}", entry.version) };
            conflicts.push(Conflict {
                owner: format!("conflict with {:?}{how}", entry.manager),
                field: fields::shown(&path),
            });
            if force {
                entry.fields.remove(&path);
            }
        }
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts);
    }
    let mut new = live.clone();
    let mut config = config.clone();
    if let Some(metadata) = config.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    fields::merge(&mut new, &config);
    let before = all.iter().find(|entry| mine(entry)).map(|entry| entry.fields.clone()).unwrap_or_default();
    let others: Fields =
        all.iter().filter(|entry| !mine(entry)).flat_map(|entry| entry.fields.iter().cloned()).collect();
    // From the inside outwards, so that an element goes after what was in it.
    for path in before.difference(&wanted).collect::<Vec<_>>().into_iter().rev() {
        let shared = others.iter().chain(&wanted).any(|other| other.starts_with(path));
        if !shared {
            fields::remove(&mut new, path);
        }
    }
    match all.iter_mut().find(|entry| mine(entry)) {
        Some(entry) if entry.fields == wanted => {}
        Some(entry) => {
            entry.fields = wanted;
            entry.time = json!(author.stamp);
        }
        None => all.push(author.entry(true, wanted)),
    }
    put(&mut new, &all);
    object::drop_nulls(&mut new);
    Ok(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(manager: &str) -> Author<'_> {
        Author { manager, version: "v1", stamp: "now" }
    }

    fn config(data: &Value) -> Value {
        json!({"kind": "ConfigMap", "metadata": {"name": "m"}, "data": data})
    }

    #[test]
    fn fields_come_and_go_with_their_owner() {
        let mut live = config(&json!({"a": "1", "b": "1"}));
        created(&mut live, by("one"), true);
        let live = apply(&live, &config(&json!({"b": "1", "c": "2"})), by("two"), false).unwrap();
        assert_eq!(live["data"], json!({"a": "1", "b": "1", "c": "2"}));
        let live = apply(&live, &config(&json!({})), by("one"), false).unwrap();
        assert_eq!(live["data"], json!({"b": "1", "c": "2"}), "what two owns stays");
        let live = apply(&live, &config(&json!({"c": "2"})), by("two"), false).unwrap();
        assert_eq!(live["data"], json!({"c": "2"}));
    }

    #[test]
    fn another_value_for_somebody_elses_field_is_a_conflict() {
        let mut live = config(&json!({"a": "1"}));
        created(&mut live, by("kubectl-create"), false);
        let wanted = config(&json!({"a": "2"}));
        let conflicts = apply(&live, &wanted, by("two"), false).unwrap_err();
        assert_eq!(conflicts[0].owner, "conflict with \"kubectl-create\" using v1");
        assert_eq!(conflicts[0].field, ".data.a");
        let live = apply(&live, &wanted, by("two"), true).unwrap();
        assert_eq!(live["data"]["a"], "2");
        assert_eq!(entries(&live).len(), 1, "who owns nothing is forgotten");
        assert!(apply(&live, &config(&json!({"a": "2"})), by("three"), false).is_ok(), "the same value is no conflict");
    }

    #[test]
    fn an_update_takes_over_what_it_changes() {
        let mut old = config(&json!({"a": "1", "b": "1"}));
        created(&mut old, by("one"), true);
        let mut new = old.clone();
        new["data"]["a"] = json!("2");
        updated(&old, &mut new, by("editor"));
        let all = entries(&new);
        assert_eq!((all[0].fields.len(), all[1].manager.as_str(), all[1].fields.len()), (1, "editor", 1));
        let mut same = new.clone();
        updated(&new, &mut same, by("nobody"));
        assert_eq!(same, new);
    }
}
