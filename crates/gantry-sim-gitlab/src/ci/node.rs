//! The values of a configuration, each with its file and line.

use std::rc::Rc;

use indexmap::IndexMap;

use super::problem::At;

/// A value with its place and its size.
#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) at: At,
    pub(super) value: Value,
    /// How many nodes this is when every alias in it is written out; saturates.
    pub(super) weight: usize,
    /// Whether a `!reference` is somewhere inside.
    pub(super) has_reference: bool,
}

/// The kinds of value that matter here.
#[derive(Clone, Debug)]
pub(super) enum Value {
    Null,
    /// With the text as it was written.
    Bool(bool, Rc<str>),
    /// With the text as it was written.
    Int(i64, Rc<str>),
    /// As GitLab would print it, and as it was written.
    Float(Rc<str>, Rc<str>),
    Text(Rc<str>),
    List(Rc<Vec<Node>>),
    Map(Rc<Map>),
    /// `!reference [job, key, …]`, before references are resolved.
    Reference(Rc<Vec<String>>),
    /// Something already reported; readers treat it as absent and stay silent.
    Broken,
}

/// A mapping, in the order of the file.
pub(super) type Map = IndexMap<String, Entry>;

/// A value under a key.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// Where the key stands.
    pub(super) at: At,
    pub(super) value: Node,
}

impl Node {
    pub(super) fn scalar(at: At, value: Value) -> Self {
        Self { at, value, weight: 1, has_reference: false }
    }

    pub(super) fn list(at: At, items: Vec<Self>) -> Self {
        let weight = items.iter().fold(1_usize, |sum, item| sum.saturating_add(item.weight));
        let has_reference = items.iter().any(|item| item.has_reference);
        Self { at, value: Value::List(Rc::new(items)), weight, has_reference }
    }

    pub(super) fn map(at: At, map: Map) -> Self {
        let weight = map.values().fold(1_usize, |sum, entry| sum.saturating_add(entry.value.weight));
        let has_reference = map.values().any(|entry| entry.value.has_reference);
        Self { at, value: Value::Map(Rc::new(map)), weight, has_reference }
    }

    pub(super) fn as_map(&self) -> Option<&Rc<Map>> {
        if let Value::Map(map) = &self.value { Some(map) } else { None }
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        if let Value::List(items) = &self.value { Some(items) } else { None }
    }

    /// The value as text that YAML reads as the same again: texts as they are, lists and mappings
    /// as JSON.
    pub(super) fn inline(&self) -> String {
        match &self.value {
            Value::Text(text) => text.to_string(),
            Value::Int(number, _) => number.to_string(),
            Value::Float(printed, _) => printed.to_string(),
            Value::Bool(flag, _) => flag.to_string(),
            _ => self.json().to_string(),
        }
    }

    /// The value as JSON, which is YAML too.
    pub(super) fn json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null | Value::Broken => serde_json::Value::Null,
            Value::Bool(flag, _) => (*flag).into(),
            Value::Int(number, _) => (*number).into(),
            Value::Float(printed, _) => serde_json::from_str(printed).unwrap_or_else(|_| printed.to_string().into()),
            Value::Text(text) => text.to_string().into(),
            Value::List(items) => items.iter().map(Self::json).collect(),
            Value::Map(map) => map.iter().map(|(key, entry)| (key.clone(), entry.value.json())).collect(),
            Value::Reference(names) => names.iter().map(String::as_str).collect(),
        }
    }

    /// What the value is, for "expected …, but this is …".
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "empty",
            Value::Bool(..) => "a boolean",
            Value::Int(..) | Value::Float(..) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Reference(_) => "a reference",
            Value::Broken => "unreadable",
        }
    }
}
