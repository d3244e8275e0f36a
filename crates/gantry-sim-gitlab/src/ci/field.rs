//! A value together with the name it is reported under, and the checks that every keyword needs.
//!
//! Each `Option` or list returned here is the value if it is right; if it is wrong the problem is
//! already recorded and the caller goes on as if the key were absent.

use super::node::{Map, Node, Value};
use super::problem::Report;

/// A value and its path, such as `jobs:test:artifacts:paths`.
#[derive(Clone)]
pub(super) struct Field<'n> {
    pub(super) node: &'n Node,
    pub(super) path: String,
}

impl<'n> Field<'n> {
    pub(super) fn new(node: &'n Node, path: impl Into<String>) -> Self {
        Self { node, path: path.into() }
    }

    /// The value under `key`; a null counts as absent.
    pub(super) fn get(&self, key: &str) -> Option<Self> {
        let node = &self.node.as_map()?.get(key)?.value;
        match node.value {
            Value::Null | Value::Broken => None,
            _ => Some(Self::new(node, format!("{}:{key}", self.path))),
        }
    }

    /// Whether `key` is written at all, even as null.
    pub(super) fn has(&self, key: &str) -> bool {
        self.node.as_map().is_some_and(|map| map.contains_key(key))
    }

    /// The same value under another name.
    pub(super) fn renamed(&self, path: impl Into<String>) -> Self {
        Self::new(self.node, path)
    }

    pub(super) fn problem(&self, report: &mut Report, text: &str) {
        report.problem(&self.node.at, &self.path, text);
    }

    pub(super) fn warning(&self, report: &mut Report, text: &str) {
        report.warning(&self.node.at, &self.path, text);
    }

    /// Records that the value should be `expected`; silent for values already reported.
    pub(super) fn expected(&self, report: &mut Report, expected: &str) {
        if !matches!(self.node.value, Value::Broken) {
            self.problem(report, &format!("config should be {expected}, but this is {}", self.node.kind()));
        }
    }

    /// The mapping, with every key in `allowed`.
    pub(super) fn map_of(&self, report: &mut Report, allowed: &[&str]) -> Option<&'n Map> {
        let map = self.map(report)?;
        for (key, entry) in map {
            if !allowed.contains(&key.as_str()) {
                let hint = report.hint(key, allowed.iter().copied());
                report.problem(&entry.at, &self.path, &format!("config contains unknown keys: {key}{hint}"));
            }
        }
        Some(map)
    }

    pub(super) fn map(&self, report: &mut Report) -> Option<&'n Map> {
        if let Value::Map(map) = &self.node.value {
            return Some(map);
        }
        self.expected(report, "a hash");
        None
    }

    pub(super) fn list(&self) -> Option<&'n [Node]> {
        if let Value::List(items) = &self.node.value { Some(items) } else { None }
    }

    /// The items of a list, each under the list's own path.
    pub(super) fn items(&self) -> impl Iterator<Item = Field<'n>> + use<'n> {
        let path = self.path.clone();
        self.list().unwrap_or_default().iter().map(move |item| Field::new(item, path.clone()))
    }

    /// The same with those of lists inside in their place, as anchors and references leave them.
    pub(super) fn flat_items(&self) -> Vec<Field<'n>> {
        let inner = |item: Field<'n>| if item.list().is_some() { item.flat_items() } else { vec![item] };
        self.items().flat_map(inner).collect()
    }

    pub(super) fn as_text(&self) -> Option<&'n str> {
        if let Value::Text(text) = &self.node.value { Some(text) } else { None }
    }

    pub(super) fn text(&self, report: &mut Report) -> Option<String> {
        let text = self.as_text();
        if text.is_none() {
            self.expected(report, "a string");
        }
        text.map(str::to_owned)
    }

    /// A description, which may be a number: nothing acts on it.
    pub(super) fn check_description(&self, report: &mut Report) {
        if !matches!(self.node.value, Value::Text(_) | Value::Int(..)) {
            self.expected(report, "a string or a number");
        }
    }

    pub(super) fn flag(&self, report: &mut Report) -> Option<bool> {
        if let Value::Bool(flag, _) = self.node.value {
            return Some(flag);
        }
        self.expected(report, "a boolean value");
        None
    }

    /// An integer in `min..=max`.
    pub(super) fn integer(&self, report: &mut Report, min: i64, max: i64) -> Option<i64> {
        match self.node.value {
            Value::Int(number, _) if (min..=max).contains(&number) => return Some(number),
            Value::Int(number, _) => {
                self.problem(report, &format!("config should be between {min} and {max}, but this is {number}"));
            }
            _ => self.expected(report, &format!("an integer between {min} and {max}")),
        }
        None
    }

    pub(super) fn one_of(&self, report: &mut Report, allowed: &[&str]) -> Option<String> {
        let text = self.text(report)?;
        if allowed.contains(&text.as_str()) {
            return Some(text);
        }
        let hint = report.hint(&text, allowed.iter().copied());
        self.problem(report, &format!("should be one of: {}; `{text}` is not{hint}", allowed.join(", ")));
        None
    }

    /// A list of strings.
    pub(super) fn texts(&self, report: &mut Report) -> Option<Vec<String>> {
        if self.list().is_none() {
            self.expected(report, "an array of strings");
            return None;
        }
        let mut texts = Vec::new();
        for item in self.items() {
            match item.as_text() {
                Some(text) => texts.push(text.to_owned()),
                None => item.expected(report, "an array of strings"),
            }
        }
        Some(texts)
    }

    /// A string, or a list of them.
    pub(super) fn text_or_texts(&self, report: &mut Report) -> Option<Vec<String>> {
        match (&self.node.value, self.list()) {
            (Value::Text(text), _) => Some(vec![text.to_string()]),
            (_, Some(_)) => self.texts(report),
            _ => {
                self.expected(report, "a string or an array of strings");
                None
            }
        }
    }

    /// A string or a number, as text.
    pub(super) fn alphanumeric(&self, report: &mut Report) -> Option<String> {
        if matches!(self.node.value, Value::Bool(..)) { None } else { self.plain(report) }
    }

    /// A string, a number or a boolean, as GitLab turns it into text.
    pub(super) fn plain(&self, report: &mut Report) -> Option<String> {
        let (kind, printed, written) = match &self.node.value {
            Value::Text(text) => return Some(text.to_string()),
            Value::Int(number, written) => ("number", number.to_string(), written),
            Value::Float(printed, written) => ("number", printed.to_string(), written),
            Value::Bool(flag, written) => ("boolean", flag.to_string(), written),
            _ => return None,
        };
        if printed != **written {
            self.warning(report, &format!("is read as the {kind} {printed}; quote it to keep {written}"));
        }
        Some(printed)
    }
}
