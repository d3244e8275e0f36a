//! `extends`: puts each job on top of the templates it names.
//!
//! Mappings merge key by key, lists are replaced, and of several templates the later ones win, as
//! in GitLab.

use std::collections::{HashMap, HashSet};

use super::field::Field;
use super::include::deep_merge;
use super::node::{Entry, Map, Node};
use super::problem::Report;
use super::yaml::MAX_NODES;

/// How many levels of templates there may be; GitLab's limit.
const MAX_LEVELS: usize = 10;

/// The configuration with templates applied.
pub(super) struct Extended {
    pub(super) root: Map,
    /// Entries with templates that could not be applied: what they lack is no news.
    pub(super) incomplete: HashSet<String>,
    /// Entries that lack something which a missing include may have: what.
    pub(super) lacking: HashMap<String, String>,
}

/// Applies `extends` everywhere and removes the keyword.
pub(super) fn apply(root: &Map, report: &mut Report) -> Extended {
    let mut extender = Extender {
        root,
        report,
        done: HashMap::new(),
        incomplete: HashSet::new(),
        lacking: HashMap::new(),
        open: Vec::new(),
        budget: MAX_NODES,
    };
    let mut extended = Map::new();
    for (name, entry) in root {
        let value = extender.resolve(name, &entry.value);
        extended.insert(name.clone(), Entry { at: entry.at.clone(), value });
    }
    Extended { root: extended, incomplete: extender.incomplete, lacking: extender.lacking }
}

struct Extender<'r> {
    root: &'r Map,
    report: &'r mut Report,
    done: HashMap<String, Node>,
    incomplete: HashSet<String>,
    lacking: HashMap<String, String>,
    /// The entries being resolved, outermost first.
    open: Vec<String>,
    /// How many more keys may be copied; merged mappings are not shared.
    budget: usize,
}

impl Extender<'_> {
    fn resolve(&mut self, name: &str, node: &Node) -> Node {
        let Some(extends) = Field::new(node, format!("jobs:{name}")).get("extends") else {
            return node.clone();
        };
        if let Some(done) = self.done.get(name) {
            return done.clone();
        }
        self.open.push(name.to_owned());
        let mut merged: Option<Node> = None;
        let bases = extends.text_or_texts(self.report);
        if bases.is_none() {
            self.incomplete.insert(name.to_owned());
        }
        for base in bases.unwrap_or_default() {
            match self.base(name, &base, &extends) {
                Some(base) => merged = Some(merged.map_or_else(|| base.clone(), |below| deep_merge(&below, &base))),
                None => {
                    self.incomplete.insert(name.to_owned());
                }
            }
        }
        self.open.pop();
        let own = without_extends(node);
        let result = merged.map_or_else(|| own.clone(), |below| deep_merge(&below, &own));
        self.budget = self.budget.saturating_sub(result.weight);
        self.done.insert(name.to_owned(), result.clone());
        result
    }

    fn base(&mut self, name: &str, base: &str, extends: &Field<'_>) -> Option<Node> {
        if !self.root.contains_key(base)
            && let Some(whence) = self.report.may_be_included()
        {
            let text = format!("it extends {base}, which is not here: {whence}");
            self.lacking.entry(name.to_owned()).or_insert(text);
            return None;
        }
        let text = match self.root.get(base) {
            _ if self.open.iter().any(|open| open == base) => {
                Some(format!("circular dependency detected in `extends`: {} → {base}", self.open.join(" → ")))
            }
            _ if self.open.len() > MAX_LEVELS => {
                Some(format!("nesting too deep in `extends`: over {MAX_LEVELS} levels"))
            }
            _ if self.budget == 0 => Some(format!("templates make the configuration larger than {MAX_NODES} values")),
            None => {
                let hint = self.report.hint(base, self.root.keys().map(String::as_str));
                Some(format!("unknown keys in `extends` ({base}){hint}"))
            }
            Some(entry) if entry.value.as_map().is_none() => {
                Some(format!("invalid base hashes in `extends` ({base}): it is {}", entry.value.kind()))
            }
            Some(_) => None,
        };
        if let Some(text) = text {
            let at = &extends.node.at;
            self.report.problem(at, &format!("jobs:{name}"), &text);
            return None;
        }
        let node = &self.root.get(base)?.value;
        let resolved = self.resolve(base, node);
        if self.incomplete.contains(base) {
            self.incomplete.insert(name.to_owned());
        }
        if let Some(text) = self.lacking.get(base).cloned() {
            self.lacking.entry(name.to_owned()).or_insert(text);
        }
        Some(without_extends(&resolved))
    }
}

fn without_extends(node: &Node) -> Node {
    match node.as_map() {
        Some(map) if map.contains_key("extends") => {
            let mut map = Map::clone(map);
            map.shift_remove("extends");
            Node::map(node.at.clone(), map)
        }
        _ => node.clone(),
    }
}
