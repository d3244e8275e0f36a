//! What of a file is known: keys that nobody knows, and keys that do nothing, are one warning each,
//! by the declarations of [`crate::key`].

use std::collections::BTreeMap;
use std::sync::OnceLock;

use toml::de::{DeTable, DeValue};

use crate::helm;
use crate::homes;
use crate::key::{Form, Key};
use crate::keys::keys;
use crate::nearest::nearest;
use crate::problem::{Severity, UNKNOWN_KEY};
use crate::report::Report;
use crate::section::join;

use gantry_core::Effect;

/// A table and its keys, by their names in lower case.
#[derive(Default)]
struct Node {
    name: String,
    /// `None` for tables that have no declaration of their own, such as `[runners.artifact]`.
    key: Option<&'static Key>,
    below: BTreeMap<String, Node>,
}

fn tree() -> &'static Node {
    static TREE: OnceLock<Node> = OnceLock::new();
    TREE.get_or_init(|| {
        let mut root = Node::default();
        for key in keys() {
            let mut node = &mut root;
            for part in key.path.split('.') {
                let name = part.trim_end_matches("[]");
                node = node.below.entry(name.to_ascii_lowercase()).or_default();
                name.clone_into(&mut node.name);
            }
            node.key = Some(key);
        }
        root
    })
}

/// Adds the warnings for a file.
pub(crate) fn report(report: &Report<'_>, root: &DeTable<'_>) {
    Walk { report, is_said: false }.table(root, tree(), "");
}

struct Walk<'r, 'd> {
    report: &'r Report<'d>,
    /// Whether it was said already that the table has no effect.
    is_said: bool,
}

impl Walk<'_, '_> {
    fn table(&self, table: &DeTable<'_>, node: &Node, path: &str) {
        for (name, value) in table {
            let written = name.get_ref().as_ref();
            let path_of_key = join(path, written);
            let Some(known) = node.below.get(&written.to_ascii_lowercase()) else {
                let at = name.span().start.min(value.span().start);
                if let Some(what) = homes::ignored(path, written) {
                    self.report.add_with_hint(Severity::Warning, at, &path_of_key, what);
                    continue;
                }
                let candidates = node.below.values().map(|node| node.name.as_str());
                let hint = homes::hint(path, written)
                    .or_else(|| nearest(written, candidates).map(|near| format!("did you mean {near}?")));
                self.report.add_with_hint(Severity::Warning, at, &path_of_key, (UNKNOWN_KEY.to_owned(), hint));
                continue;
            };
            if let Some(other) = counts_instead(table, &known.name, written) {
                let message = format!("has no effect: it is the same key as {other}, which stands beside it");
                self.report.add(Severity::Warning, value.span().start, &path_of_key, message);
                continue;
            }
            let remark = remark(known, value.get_ref()).filter(|_| !self.is_said);
            if let Some(remark) = &remark {
                self.report.add(Severity::Warning, value.span().start, &path_of_key, remark);
            }
            let at = value.span().start;
            if is_of_helm(value.get_ref(), known) && !self.report.has_error_at(at) {
                let what = ("is as Helm should have filled it in".to_owned(), Some(helm::RENDER.to_owned()));
                self.report.add_with_hint(Severity::Warning, at, &path_of_key, what);
            }
            let below = Self { report: self.report, is_said: self.is_said || remark.is_some() };
            below.value(value.get_ref(), known, &path_of_key);
        }
    }

    fn value(&self, value: &DeValue<'_>, node: &Node, path: &str) {
        let is_table = is_table(node);
        match value {
            DeValue::Table(table) if is_table => self.table(table, node, path),
            DeValue::Array(array) if is_table => {
                for (index, element) in array.iter().enumerate() {
                    if let DeValue::Table(table) = element.get_ref() {
                        self.table(table, node, &format!("{path}[{index}]"));
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a node's keys are declared.
fn is_table(node: &Node) -> bool {
    node.key.is_none_or(|key| matches!(key.form, Form::Table | Form::Tables))
}

/// Whether a value has a text that Helm should have filled in. Those of tables whose keys are
/// declared are looked at one by one.
fn is_of_helm(value: &DeValue<'_>, node: &Node) -> bool {
    match value {
        DeValue::String(text) => helm::is_template(text),
        DeValue::Array(array) => array.iter().any(|element| is_of_helm(element.get_ref(), node)),
        DeValue::Table(table) => !is_table(node) && table.iter().any(|(_, value)| is_of_helm(value.get_ref(), node)),
        _ => false,
    }
}

/// The other spelling of a key that counts where a table has several: the usual one, else the first
/// (see [`crate::section::Section::find`]).
fn counts_instead<'t>(table: &'t DeTable<'_>, usual: &str, written: &str) -> Option<&'t str> {
    if written == usual {
        return None;
    }
    let spellings = || table.iter().map(|(name, _)| name.get_ref().as_ref());
    let first = spellings().find(|name| name.eq_ignore_ascii_case(written));
    let counts = spellings().find(|name| *name == usual).or(first)?;
    (counts != written).then_some(counts)
}

/// What to say about a key's value, if it does nothing although it says something.
fn remark(node: &Node, value: &DeValue<'_>) -> Option<String> {
    let key = node.key?;
    let says_something = match key.effect {
        Effect::Acts => false,
        Effect::AlwaysOn(_) => matches!(value, DeValue::Boolean(false)),
        Effect::Never(_) | Effect::OtherExecutor => !says_nothing(node, value),
    };
    key.effect.remark().filter(|_| says_something)
}

/// Whether a value is nothing or the default: the reference writes many of both when it saves.
fn says_nothing(node: &Node, value: &DeValue<'_>) -> bool {
    let default = node.key.map_or("", |key| key.default.as_str());
    match value {
        DeValue::String(text) => text.is_empty() || text == default,
        DeValue::Boolean(value) => !value,
        // Where 0 is an answer of its own, as for the number of a user, it says something.
        DeValue::Integer(value) if node.key.is_some_and(|key| key.form == Form::Whole) => value.as_str() == default,
        DeValue::Integer(value) => value.as_str() == "0" || value.as_str() == default,
        DeValue::Array(array) => array.iter().all(|element| says_nothing(node, element.get_ref())),
        DeValue::Table(table) => table.iter().all(|(name, value)| {
            let below = node.below.get(&name.get_ref().to_ascii_lowercase());
            says_nothing(below.unwrap_or(&Node::default()), value.get_ref())
        }),
        DeValue::Float(_) | DeValue::Datetime(_) => false,
    }
}
