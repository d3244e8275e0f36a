//! `!reference [job, key, …]`: replaces each reference by the value it names.
//!
//! As in GitLab this happens after includes and `extends`: what a job inherits can be named like
//! its own keys, and a reference that a template holds is looked up from the whole configuration.

use std::rc::Rc;

use super::extends::Extended;
use super::node::{Entry, Map, Node, Value};
use super::problem::{At, Report};
use super::yaml::{MAX_DEPTH, MAX_NODES};

/// How long a chain of references may be. GitLab has no limit of its own for it, only one for the
/// depth of scripts; the resolver recurses.
const MAX_CHAIN: usize = 100;

/// How deep values with references in them may be nested. Each reference can add the depth of a
/// whole file, and everything later walks values recursively.
const MAX_NESTING: usize = 2 * MAX_DEPTH;

/// Resolves every reference of a configuration.
pub(super) fn resolve(config: &mut Extended, at: &At, report: &mut Report) {
    let root = Node::map(at.clone(), config.root.clone());
    let mut resolver = Resolver { root: &root, report, chain: Vec::new(), depth: 0, budget: MAX_NODES, lost: None };
    for (name, entry) in &mut config.root {
        if !entry.value.has_reference {
            continue;
        }
        entry.value = resolver.node(&entry.value);
        if let Some(text) = resolver.lost.take() {
            config.lacking.entry(name.clone()).or_insert(text);
        }
    }
}

struct Resolver<'r> {
    root: &'r Node,
    report: &'r mut Report,
    /// The references being resolved, outermost first.
    chain: Vec<Rc<Vec<String>>>,
    /// How deep the value being built is nested.
    depth: usize,
    /// How many more nodes may be visited: nested references can name the same value again and
    /// again.
    budget: usize,
    /// What was last looked for in vain that a missing include may have.
    lost: Option<String>,
}

impl Resolver<'_> {
    fn node(&mut self, node: &Node) -> Node {
        if !node.has_reference {
            return node.clone();
        }
        self.budget = self.budget.saturating_sub(1);
        if self.depth >= MAX_NESTING {
            self.report.problem(&node.at, "", &format!("references nest values deeper than {MAX_NESTING} levels"));
            return Node::scalar(node.at.clone(), Value::Broken);
        }
        self.depth += 1;
        let resolved = self.inside(node);
        self.depth -= 1;
        resolved
    }

    fn inside(&mut self, node: &Node) -> Node {
        match &node.value {
            Value::List(items) => Node::list(node.at.clone(), items.iter().map(|item| self.node(item)).collect()),
            Value::Map(map) => {
                let resolved: Map = map
                    .iter()
                    .map(|(key, entry)| (key.clone(), Entry { at: entry.at.clone(), value: self.node(&entry.value) }))
                    .collect();
                Node::map(node.at.clone(), resolved)
            }
            Value::Reference(path) => self.reference(node, path),
            _ => node.clone(),
        }
    }

    fn reference(&mut self, node: &Node, path: &Rc<Vec<String>>) -> Node {
        let name = format!("!reference [{}]", path.join(", "));
        let problem = if self.chain.contains(path) {
            Some(format!("{name} refers to itself"))
        } else if self.chain.len() >= MAX_CHAIN {
            Some(format!("{name} is nested deeper than {MAX_CHAIN} references"))
        } else if self.budget == 0 {
            Some(format!("references make the configuration larger than {MAX_NODES} values"))
        } else {
            None
        };
        let found = match problem {
            Some(problem) => Err(problem),
            None => dig(self.root, path, self.report).map_err(|hint| format!("{name} could not be found{hint}")),
        };
        match found {
            Ok(target) => {
                self.chain.push(Rc::clone(path));
                let resolved = self.node(target);
                self.chain.pop();
                self.budget = self.budget.saturating_sub(resolved.weight);
                resolved
            }
            Err(text) => {
                let absent =
                    path.first().is_some_and(|first| self.root.as_map().is_none_or(|map| !map.contains_key(first)));
                match self.report.may_be_included().filter(|_| absent) {
                    Some(whence) => {
                        self.lost = Some(format!("it refers to {}, which is not here: {whence}", path.join(", ")));
                    }
                    None => self.report.problem(&node.at, "", &text),
                }
                Node::scalar(node.at.clone(), Value::Broken)
            }
        }
    }
}

/// The value at `path`, or a hint about the first name that does not exist.
fn dig<'n>(root: &'n Node, path: &[String], report: &mut Report) -> Result<&'n Node, String> {
    let mut node = root;
    for name in path {
        let map = node.as_map().ok_or_else(String::new)?;
        node = match map.get(name) {
            Some(entry) => &entry.value,
            None => return Err(report.hint(name, map.keys().map(String::as_str))),
        };
    }
    Ok(node)
}
