//! `include:`: reads the files a configuration asks for and merges them under it.
//!
//! Only files of the same repository can be had. Every other source is a warning with its line, and whatever in the
//! rest of the configuration may depend on it is not run.

use std::rc::Rc;

use super::field::Field;
use super::model::CiInput;
use super::problem::{At, Report};
use super::rules::{self, Outcome};
use super::variables::{Lookup, expand};
use super::yaml::{self, Entry, MAX_NODES, Map, Node, Value};

/// How many files one configuration may include, directly or not; GitLab's limit.
const MAX_INCLUDES: usize = 150;

/// How deep includes may be nested; GitLab counts only files, but the reader recurses.
const MAX_INCLUDE_DEPTH: usize = 50;

/// Reads the main file and everything it includes; `None` if that failed, which is then reported.
pub(super) fn load(input: &CiInput<'_>, report: &mut Report) -> Option<Node> {
    let lookup = Lookup::new(input.variables);
    let mut loader = Loader { input, lookup: &lookup, report, open: vec![normal(input.file)], count: 0 };
    let root = loader.file(input.yaml, input.file)?;
    if root.weight > MAX_NODES {
        return loader.too_large(&root.at);
    }
    Some(root)
}

/// Merges two values as GitLab merges includes and `extends`: mappings key by key, anything else is replaced.
pub(super) fn deep_merge(base: &Node, over: &Node) -> Node {
    let (Some(base_map), Some(over_map)) = (base.as_map(), over.as_map()) else {
        return over.clone();
    };
    let mut merged: Map = Map::clone(base_map);
    for (key, entry) in over_map.iter() {
        let value = merged.get(key).map_or_else(|| entry.value.clone(), |old| deep_merge(&old.value, &entry.value));
        merged.insert(key.clone(), Entry { at: entry.at.clone(), value });
    }
    Node::map(over.at.clone(), merged)
}

struct Loader<'a> {
    input: &'a CiInput<'a>,
    lookup: &'a Lookup,
    report: &'a mut Report,
    /// The files being read, outermost first.
    open: Vec<String>,
    count: usize,
}

impl Loader<'_> {
    fn file(&mut self, text: &str, name: &str) -> Option<Node> {
        let from = if self.open.len() > 1 { yaml::From::Include } else { yaml::From::Project };
        let root = yaml::parse(text, name, from, self.report)?;
        let Some(include) = root.as_map().and_then(|map| map.get("include")) else {
            return Some(root);
        };
        let mut failed = false;
        let mut merged: Option<Node> = None;
        for item in items(&include.value) {
            let Ok(nodes) = self.item(item) else {
                failed = true;
                continue;
            };
            for node in nodes {
                let both = merged.map_or_else(|| node.clone(), |base| deep_merge(&base, &node));
                if both.weight > MAX_NODES {
                    return self.too_large(&include.at);
                }
                merged = Some(both);
            }
        }
        if failed {
            return None;
        }
        let mut own = root.as_map().map(|map| Map::clone(map)).unwrap_or_default();
        own.shift_remove("include");
        let own = Node::map(root.at.clone(), own);
        Some(merged.map_or_else(|| own.clone(), |base| deep_merge(&base, &own)))
    }

    /// One entry of `include`: the files that it stands for.
    fn item(&mut self, node: &Node) -> Result<Vec<Node>, Refused> {
        let field = Field::new(node, "include");
        match &node.value {
            Value::Text(path) if path.contains("://") => {
                self.report.missing_include(&node.at, "of a URL");
                Ok(Vec::new())
            }
            Value::Text(path) => self.local(&node.at, path),
            Value::Map(map) => {
                if !self.is_wanted(&field)? {
                    return Ok(Vec::new());
                }
                for (kind, text) in UNSUPPORTED {
                    if let Some(entry) = map.get(*kind) {
                        self.report.missing_include(&entry.at, text);
                        return Ok(Vec::new());
                    }
                }
                field.map_of(self.report, &["local", "rules"]);
                let Some(local) = field.get("local") else {
                    field.problem(self.report, "config should have a `local` path");
                    return Err(Refused);
                };
                let path = local.text(self.report).ok_or(Refused)?;
                self.local(&local.node.at, &path)
            }
            Value::Broken => Err(Refused),
            _ => {
                field.expected(self.report, "a path or a hash with `local`");
                Err(Refused)
            }
        }
    }

    /// What the entry's rules say.
    fn is_wanted(&mut self, field: &Field<'_>) -> Result<bool, Refused> {
        let Some(list) = field.get("rules") else { return Ok(true) };
        let rules = rules::parse(&list, rules::INCLUDE, self.report);
        match rules::evaluate(&rules, self.lookup, self.input.repository, self.report) {
            Outcome::Matched(_) => Ok(true),
            Outcome::Excluded => Ok(false),
            Outcome::Unknown(at, why) => {
                self.report.problem(at, "include:rules", why);
                Err(Refused)
            }
        }
    }

    fn too_large(&mut self, at: &At) -> Option<Node> {
        let text = format!("the configuration has more than {MAX_NODES} values with its includes");
        self.report.problem(at, "", &text);
        None
    }

    /// A path, or a pattern with `*` (within one part of a path) and `**`.
    fn local(&mut self, at: &At, path: &str) -> Result<Vec<Node>, Refused> {
        let path = normal(&expand(path, self.lookup));
        if !path.contains('*') {
            return Ok(vec![self.local_file(at, &path)?]);
        }
        let pattern = regex::escape(&path).replace(r"\*\*", ".*").replace(r"\*", "[^/]*");
        let pattern = regex::Regex::new(&format!("^{pattern}$")).map_err(|_| Refused)?;
        let paths = self.input.repository.paths();
        let found: Vec<&String> = paths.iter().filter(|path| pattern.is_match(path)).collect();
        if found.is_empty() {
            self.report.problem(at, "include", &format!("`{path}`: no file of the repository is meant by it"));
            return Err(Refused);
        }
        found.into_iter().map(|path| self.local_file(at, path)).collect()
    }

    fn local_file(&mut self, at: &At, path: &str) -> Result<Node, Refused> {
        self.count += 1;
        let wrong = if path.split('/').any(|part| part == "..") {
            Some(format!("`{path}` leads out of the repository"))
        } else if !has_yaml_extension(path) {
            Some(format!("`{path}` does not end in .yml or .yaml"))
        } else if self.open.iter().any(|open| open == path) {
            Some(format!("`{path}` includes itself: {} → {path}", self.open.join(" → ")))
        } else if self.count > MAX_INCLUDES || self.open.len() > MAX_INCLUDE_DEPTH {
            Some(format!("`{path}`: more than {MAX_INCLUDES} files, or deeper than {MAX_INCLUDE_DEPTH} levels"))
        } else {
            None
        };
        if let Some(text) = wrong {
            self.report.problem(at, "include", &text);
            return Err(Refused);
        }
        let Some(text) = self.input.repository.file(path) else {
            self.report.problem(at, "include", &format!("`{path}` does not exist in the repository"));
            return Err(Refused);
        };
        self.open.push(path.to_owned());
        let node = self.file(&text, path);
        self.open.pop();
        node.ok_or(Refused)
    }
}

/// The include failed and is reported.
struct Refused;

/// Kinds of include that need another project or service, and how they are named in the warning.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("project", "of another project's file"),
    ("remote", "of a remote file"),
    ("template", "of a GitLab template"),
    ("component", "of a component"),
    ("artifact", "of a job's artifact"),
    ("inputs", "with inputs"),
];

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null => &[],
        _ => std::slice::from_ref(node),
    }
}

fn normal(path: &str) -> String {
    path.trim_start_matches("./").trim_start_matches('/').to_owned()
}

fn has_yaml_extension(path: &str) -> bool {
    path.rsplit_once('.').is_some_and(|(_, extension)| matches!(extension, "yml" | "yaml"))
}

/// Shares the root's mapping without copying it.
pub(super) fn root_map(root: &Node) -> Rc<Map> {
    root.as_map().map(Rc::clone).unwrap_or_default()
}
