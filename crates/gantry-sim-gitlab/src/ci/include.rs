//! `include:`: reads the files a configuration asks for and merges them under it.
//!
//! What nothing on this machine stands for is a warning with its line, and whatever in the rest of
//! the configuration may depend on it is not run.

use std::rc::Rc;

use super::field::Field;
use super::inputs::{self, Given, Values};
use super::interpolate::{self, InterpolationScope};
use super::model::{CiInput, FileLookup};
use super::node::{Entry, Map, Node, Value};
use super::problem::{At, Report};
use super::rules::{self, Outcome};
use super::source::{self, Home, IncludeContext, Lost, Source, normal};
use super::variables::Lookup;
use super::yaml::{self, MAX_NODES};

/// How many files one configuration may include, directly or not; GitLab's limit.
const MAX_INCLUDES: usize = 150;

/// How deep includes may be nested; GitLab counts only files, but the reader recurses.
const MAX_INCLUDE_DEPTH: usize = 50;

/// Reads the main file and everything it includes; `None` if that failed, which is then reported.
pub(super) fn load(input: &CiInput<'_>, report: &mut Report) -> Option<Node> {
    let lookup = Lookup::new(input.variables);
    let mut loader =
        Loader { input, lookup: &lookup, report, open: vec![normal(input.file)], home: Home::Own, count: 0 };
    let start = At { file: input.file.into(), line: 1 };
    let root = loader.file(input.yaml, input.file, &Given::Person(input.inputs, start), &Values::new())?;
    if root.weight > MAX_NODES {
        return loader.too_large(&root.at);
    }
    Some(root)
}

/// Merges two values as GitLab merges includes and `extends`: mappings key by key, anything else is
/// replaced.
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
    /// Whose file is being read.
    home: Home,
    count: usize,
}

impl Loader<'_> {
    fn file(&mut self, text: &str, name: &str, given: &Given<'_>, component: &Values) -> Option<Node> {
        let text = self.with_inputs(text, name, given, component)?;
        let root = yaml::parse(&text, name, self.report)?;
        let Some(include) = root.as_map().and_then(|map| map.get("include")) else {
            return Some(root);
        };
        let mut failed = false;
        let mut merged: Option<Node> = None;
        for item in items(&include.value) {
            let nodes = match self.item(item) {
                Ok(nodes) => nodes,
                Err(Lost::Missing) => continue,
                Err(Lost::Refused) => {
                    failed = true;
                    continue;
                }
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

    /// The text with the values of the inputs that its header asks for; as it is if it has no
    /// header.
    fn with_inputs(&mut self, text: &str, name: &str, given: &Given<'_>, component: &Values) -> Option<String> {
        let Some((header, rest)) = inputs::split(text) else {
            inputs::values(None, given, self.lookup, self.report)?;
            return Some(text.to_owned());
        };
        let root = yaml::parse(&header, name, self.report)?;
        let root = Field::new(&root, "");
        root.map_of(self.report, &["spec"])?;
        let spec = root.get("spec").map(|spec| spec.renamed("spec"));
        let mut wanted = Node::map(root.node.at.clone(), Map::new());
        let mut component = component.clone();
        if let Some(spec) = &spec {
            spec.map_of(self.report, &["inputs", "component", "include"])?;
            if let Some(include) = spec.get("include") {
                wanted = self.external_inputs(&include)?;
            }
            if let Some(own) = spec.get("inputs") {
                wanted = deep_merge(&wanted, own.node);
            }
            let asked = spec.get("component").and_then(|list| list.texts(self.report)).unwrap_or_default();
            component.retain(|key, _| asked.contains(key));
            for unknown in asked.iter().filter(|key| !inputs::COMPONENT.contains(&key.as_str())) {
                let hint = self.report.hint(unknown, inputs::COMPONENT.iter().copied());
                spec.problem(self.report, &format!("component contains unknown values: {unknown}{hint}"));
            }
        }
        let wanted = Field::new(&wanted, "spec:inputs");
        let values = inputs::values(Some(&wanted), given, self.lookup, self.report)?;
        let known = InterpolationScope { inputs: &values, component: &component, lookup: self.lookup };
        interpolate::interpolate(&rest, name, &known, self.report)
    }

    /// `spec:include`: inputs that other files define.
    fn external_inputs(&mut self, include: &Field<'_>) -> Option<Node> {
        let mut all = Node::map(include.node.at.clone(), Map::new());
        for item in items(include.node) {
            let field = Field::new(item, "spec:include");
            let place = IncludeContext { repository: self.input.repository, lookup: self.lookup, home: &self.home };
            for source in place.resolve(&field, self.report).ok()? {
                let text = self.text_of(&item.at, &source).ok()?;
                let root = yaml::parse(&text, &source.name(), self.report)?;
                let root = Field::new(&root, "");
                root.map_of(self.report, &["inputs"])?;
                if let Some(inputs) = root.get("inputs") {
                    all = deep_merge(&all, inputs.node);
                }
            }
        }
        Some(all)
    }

    /// One entry of `include`: the files that it stands for.
    fn item(&mut self, node: &Node) -> Result<Vec<Node>, Lost> {
        let field = Field::new(node, "include");
        if field.node.as_map().is_some() && !self.is_wanted(&field)? {
            return Ok(Vec::new());
        }
        let inputs = field.get("inputs");
        if let Some(inputs) = &inputs {
            inputs.map(self.report).ok_or(Lost::Refused)?;
        }
        let place = IncludeContext { repository: self.input.repository, lookup: self.lookup, home: &self.home };
        let sources = place.resolve(&field, self.report)?;
        let given = Given::File(inputs);
        sources.iter().map(|source| self.source(&node.at, source, &given)).collect()
    }

    /// What the entry's rules say.
    fn is_wanted(&mut self, field: &Field<'_>) -> Result<bool, Lost> {
        let Some(list) = field.get("rules") else { return Ok(true) };
        let rules = rules::parse(&list, rules::INCLUDE, self.report);
        match rules::evaluate(&rules, self.lookup, self.input.repository, self.report) {
            Outcome::Matched(_) => Ok(true),
            Outcome::Excluded(_) => Ok(false),
            Outcome::Unknown(at, why) => {
                self.report.problem(at, "include:rules", why);
                Err(Lost::Refused)
            }
        }
    }

    fn too_large(&mut self, at: &At) -> Option<Node> {
        let text = format!("the configuration has more than {MAX_NODES} values with its includes");
        self.report.problem(at, "", &text);
        None
    }

    /// The text of a file that may be included.
    fn text_of(&mut self, at: &At, source: &Source) -> Result<String, Lost> {
        self.count += 1;
        let (path, name) = (&source.path, source.name());
        let is_url = source.home == Home::Nowhere;
        let wrong = if !is_url && path.split('/').any(|part| part == "..") {
            Some(format!("`{name}` leads out of the repository"))
        } else if !has_yaml_extension(path) {
            Some(format!("`{name}` does not end in .yml or .yaml"))
        } else if self.open.contains(&name) {
            Some(format!("`{name}` includes itself: {} → {name}", self.open.join(" → ")))
        } else if self.count > MAX_INCLUDES || self.open.len() > MAX_INCLUDE_DEPTH {
            Some(format!("`{name}`: more than {MAX_INCLUDES} files, or deeper than {MAX_INCLUDE_DEPTH} levels"))
        } else {
            None
        };
        if let Some(text) = wrong {
            self.report.problem(at, "include", &text);
            return Err(Lost::Refused);
        }
        match source.read(self.input.repository) {
            FileLookup::Text(text) => Ok(text),
            FileLookup::Unmapped => Err(source::missing(at, source, self.report)),
            FileLookup::Nothing => {
                let place = match (&source.home, &source.job) {
                    (_, Some(job)) => format!("`{path}` is not in the artifacts of {job}"),
                    (Home::Own, None) => format!("`{path}` does not exist in the repository"),
                    (Home::Project(project), None) => {
                        format!("`{path}` does not exist in the directory that stands for {project}")
                    }
                    (Home::Nowhere, None) => format!("`{path}`: the file that stands for it cannot be read"),
                };
                self.report.problem(at, "include", &place);
                Err(Lost::Refused)
            }
        }
    }

    fn source(&mut self, at: &At, source: &Source, given: &Given<'_>) -> Result<Node, Lost> {
        let text = self.text_of(at, source)?;
        let name = source.name();
        self.open.push(name.clone());
        let home = if source.job.is_some() { Home::Nowhere } else { source.home.clone() };
        let outer = std::mem::replace(&mut self.home, home);
        let node = self.file(&text, &name, given, &source.component);
        self.home = outer;
        self.open.pop();
        node.ok_or(Lost::Refused)
    }
}

fn items(node: &Node) -> &[Node] {
    match &node.value {
        Value::List(items) => items.as_slice(),
        Value::Null => &[],
        _ => std::slice::from_ref(node),
    }
}

fn has_yaml_extension(path: &str) -> bool {
    let path = path.split(['?', '#']).next().unwrap_or(path);
    path.rsplit_once('.').is_some_and(|(_, extension)| matches!(extension, "yml" | "yaml"))
}

/// Shares the root's mapping without copying it.
pub(super) fn root_map(root: &Node) -> Rc<Map> {
    root.as_map().map(Rc::clone).unwrap_or_default()
}
