//! YAML text into nodes that know their file and line.
//!
//! Nodes share what aliases repeat, so an alias costs nothing by itself; every node knows how large it would be when
//! written out, and that size is limited. Nesting is limited too, because everything later walks nodes recursively.

use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use indexmap::IndexMap;
use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::problem::{At, Report};
use super::scalar;

/// The largest file read, in bytes; GitLab's own default limit for a configuration is of this order.
pub(super) const MAX_YAML_BYTES: usize = 2 << 20;

/// How deep values may be nested; GitLab's default limit for YAML depth.
pub(super) const MAX_DEPTH: usize = 100;

/// How many nodes a configuration may have once all aliases and references are written out. Real configurations
/// have a few thousand; the limit keeps an "alias bomb" from costing more than a moment.
pub(super) const MAX_NODES: usize = 200_000;

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
    Bool(bool),
    Int(i64),
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

    /// What the value is, for "expected …, but this is …".
    pub(super) fn kind(&self) -> &'static str {
        match self.value {
            Value::Null => "empty",
            Value::Bool(_) => "a boolean",
            Value::Int(_) | Value::Float(..) => "a number",
            Value::Text(_) => "a string",
            Value::List(_) => "a list",
            Value::Map(_) => "a mapping",
            Value::Reference(_) => "a reference",
            Value::Broken => "unreadable",
        }
    }
}

/// Reads one file into its root mapping; `None` if there is none, which is then reported.
pub(super) fn parse(text: &str, file: &str, report: &mut Report) -> Option<Node> {
    let file: Rc<str> = Rc::from(file);
    let start = At { file: Rc::clone(&file), line: 1 };
    if text.len() > MAX_YAML_BYTES {
        report.problem(&start, "", &format!("the file is larger than {MAX_YAML_BYTES} bytes"));
        return None;
    }
    let mut builder =
        Builder { file, report, stack: Vec::new(), anchors: BTreeMap::new(), documents: Vec::new(), merged_keys: 0 };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        let taken = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => builder.syntax_error(&error),
        };
        taken?;
    }
    let mut documents = builder.documents;
    if let Some(second) = documents.get(1) {
        let text = if documents.first().and_then(Node::as_map).is_some_and(|map| map.contains_key("spec")) {
            "a `spec:` header with inputs is not supported here"
        } else {
            "a second YAML document is not read; remove the `---`"
        };
        report.problem(&second.at, "", text);
        return None;
    }
    let Some(root) = documents.pop().filter(|root| !matches!(root.value, Value::Null)) else {
        report.problem(&start, "", "the file is empty; it should hold at least one job");
        return None;
    };
    if root.weight > MAX_NODES {
        report.problem(
            &start,
            "",
            &format!("the file has more than {MAX_NODES} values when its aliases are written out"),
        );
        return None;
    }
    match root.value {
        Value::Map(_) => Some(root),
        Value::Broken => None,
        _ => {
            report.problem(
                &root.at,
                "",
                &format!("the file should be a mapping with jobs, but this is {}", root.kind()),
            );
            None
        }
    }
}

struct Builder<'r> {
    file: Rc<str>,
    report: &'r mut Report,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    documents: Vec<Node>,
    /// How many keys `<<` has copied so far; unlike aliases they are not shared.
    merged_keys: usize,
}

/// A collection that is being read.
struct Frame {
    at: At,
    anchor: usize,
    /// The tag as written, `None` for none or one without meaning here.
    tag: Option<String>,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map { map: Map, merged: HashSet<String>, key: Option<Key> },
}

struct Key {
    at: At,
    text: String,
    is_merge: bool,
}

impl Builder<'_> {
    /// Takes the next event; `None` ends reading.
    fn take(&mut self, event: Event<'_>, span: Span) -> Option<()> {
        let at = At { file: Rc::clone(&self.file), line: span.start.line().max(1) };
        match event {
            Event::SequenceStart(anchor, tag) => self.open(at, anchor, tag.as_deref(), Content::List(Vec::new()))?,
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map { map: Map::new(), merged: HashSet::new(), key: None };
                self.open(at, anchor, tag.as_deref(), content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Scalar(text, style, anchor, tag) => {
                let is_merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
                let node = self.scalar(at, &text, style, tag.as_deref());
                self.finish(node, anchor, is_merge)?;
            }
            Event::Alias(id) => {
                let node = self.anchors.get(&id).cloned().unwrap_or_else(|| {
                    self.report.problem(&at, "", "this alias lies inside the value it stands for");
                    Node::scalar(at, Value::Broken)
                });
                self.finish(node, 0, false)?;
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentStart(_) | Event::DocumentEnd => {}
        }
        Some(())
    }

    fn syntax_error(&mut self, error: &ScanError) -> Option<()> {
        let at = At { file: Rc::clone(&self.file), line: error.marker().line().max(1) };
        let column = error.marker().col().saturating_add(1);
        self.report.problem(&at, "", &format!("invalid YAML at column {column}: {}", error.info()));
        None
    }

    fn open(&mut self, at: At, anchor: usize, tag: Option<&Tag>, content: Content) -> Option<()> {
        if self.stack.len() >= MAX_DEPTH {
            self.report.problem(&at, "", &format!("values are nested deeper than {MAX_DEPTH} levels"));
            return None;
        }
        let tag = tag.filter(|tag| !tag.is_yaml_core_schema()).map(ToString::to_string);
        self.stack.push(Frame { at, anchor, tag, content });
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let Frame { at, anchor, tag, content } = self.stack.pop()?;
        let node = match content {
            Content::List(items) => match tag.as_deref() {
                Some("!reference") => self.reference(at, &items),
                Some(tag) => self.unknown_tag(at, tag),
                None => Node::list(at, items),
            },
            Content::Map { map, .. } => match tag.as_deref() {
                Some(tag) => self.unknown_tag(at, tag),
                None => Node::map(at, map),
            },
        };
        self.finish(node, anchor, false)
    }

    fn scalar(&mut self, at: At, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Node {
        let value = match tag {
            None if style == ScalarStyle::Plain => scalar::resolve(text),
            None => Value::Text(Rc::from(text)),
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix != "str" => scalar::resolve(text),
            Some(tag) if tag.is_yaml_core_schema() || tag.to_string() == "!" => Value::Text(Rc::from(text)),
            Some(tag) => return self.unknown_tag(at, &tag.to_string()),
        };
        Node::scalar(at, value)
    }

    fn reference(&mut self, at: At, items: &[Node]) -> Node {
        let names: Option<Vec<String>> = items
            .iter()
            .map(|item| if let Value::Text(text) = &item.value { Some(text.to_string()) } else { None })
            .collect();
        match names {
            Some(names) if !names.is_empty() => {
                Node { at, value: Value::Reference(Rc::new(names)), weight: 1, has_reference: true }
            }
            _ => {
                self.report.problem(
                    &at,
                    "",
                    "!reference should be a list of names, such as !reference [.setup, script]",
                );
                Node::scalar(at, Value::Broken)
            }
        }
    }

    fn unknown_tag(&mut self, at: At, tag: &str) -> Node {
        let text = if tag == "!reference" {
            "!reference should be a list of names, such as !reference [.setup, script]".to_owned()
        } else {
            format!("the tag `{tag}` is not known; only `!reference` is")
        };
        self.report.problem(&at, "", &text);
        Node::scalar(at, Value::Broken)
    }

    /// Puts a complete node where it belongs.
    fn finish(&mut self, node: Node, anchor: usize, is_merge: bool) -> Option<()> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(frame) = self.stack.last_mut() else {
            self.documents.push(node);
            return Some(());
        };
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map { map, merged, key } => match key.take() {
                None => *key = Some(as_key(&node, is_merge, self.report)),
                Some(key) if key.is_merge => {
                    self.merged_keys = self.merged_keys.saturating_add(merge(map, merged, &node, self.report));
                    if self.merged_keys > MAX_NODES {
                        self.report.problem(&key.at, "", &format!("`<<` copies more than {MAX_NODES} keys"));
                        return None;
                    }
                }
                Some(key) => insert(map, merged, key, node, self.report),
            },
        }
        Some(())
    }
}

fn as_key(node: &Node, is_merge: bool, report: &mut Report) -> Key {
    let text = match &node.value {
        Value::Text(text) | Value::Float(_, text) => text.to_string(),
        Value::Int(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Null => String::new(),
        Value::Broken => "(unreadable)".to_owned(),
        Value::List(_) | Value::Map(_) | Value::Reference(_) => {
            report.problem(&node.at, "", &format!("a key should be a string, but this is {}", node.kind()));
            "(unreadable)".to_owned()
        }
    };
    Key { at: node.at.clone(), text, is_merge }
}

fn insert(map: &mut Map, merged: &mut HashSet<String>, key: Key, value: Node, report: &mut Report) {
    let entry = Entry { at: key.at, value };
    let was_merged = merged.remove(&key.text);
    if let Some(first) = map.get(&key.text).filter(|_| !was_merged) {
        report.problem(&entry.at, "", &format!("duplicate key `{}`; the first is on line {}", key.text, first.at.line));
    }
    map.insert(key.text, entry);
}

/// `<<`: takes over the keys of one mapping, or of a list of them where the first has precedence. Keys that the
/// mapping has itself always win; of several `<<` the last wins, as in GitLab. Returns how many keys it copied.
fn merge(map: &mut Map, merged: &mut HashSet<String>, node: &Node, report: &mut Report) -> usize {
    match &node.value {
        Value::Map(source) => {
            for (key, entry) in source.iter() {
                if merged.contains(key) {
                    map.insert(key.clone(), entry.clone());
                } else if !map.contains_key(key) {
                    map.insert(key.clone(), entry.clone());
                    merged.insert(key.clone());
                }
            }
            source.len()
        }
        Value::List(sources) if sources.iter().all(|source| source.as_map().is_some()) => {
            sources.iter().rev().map(|source| merge(map, merged, source, report)).sum()
        }
        Value::Broken => 0,
        _ => {
            let text = format!("`<<` should be a mapping or a list of them, but this is {}", node.kind());
            report.problem(&node.at, "", &text);
            0
        }
    }
}
