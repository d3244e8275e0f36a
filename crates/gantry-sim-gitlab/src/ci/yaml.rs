//! YAML text into nodes that know their file and line.
//!
//! Nodes share what aliases repeat, so an alias costs nothing by itself; every node knows how large
//! it would be when written out, and that size is limited. Nesting is limited too, because
//! everything later walks nodes recursively.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};
use std::rc::Rc;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span, Tag};

use super::lenient::{self, Stopped};
use super::node::{Entry, Map, Node, Value};
use super::problem::{At, Report};
use super::scalar;

/// The largest file read, in bytes; GitLab's own default limit for a configuration is of this
/// order.
pub(super) const MAX_YAML_BYTES: usize = 2 << 20;

/// How deep values may be nested; GitLab's default limit for YAML depth.
pub(super) const MAX_DEPTH: usize = 100;

/// How many nodes a configuration may have once all aliases and references are written out. Real
/// configurations have a few thousand; the limit keeps an "alias bomb" from costing more than a
/// moment.
pub(super) const MAX_NODES: usize = 200_000;

/// Reads one file into its root mapping; `None` if there is none, which is then reported.
pub(super) fn parse(text: &str, file: &str, report: &mut Report) -> Option<Node> {
    let file: Rc<str> = Rc::from(file);
    let start = At { file: Rc::clone(&file), line: 1 };
    if text.len() > MAX_YAML_BYTES {
        report.problem(&start, "", &format!("the file is larger than {MAX_YAML_BYTES} bytes"));
        return None;
    }
    let mut documents = documents(text, &file, report)?;
    if let Some(second) = documents.get(1) {
        report.problem(&second.at, "", "a second YAML document is not read; remove the `---`");
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

/// Reads the documents of a file; what only our parser minds is put right.
fn documents(text: &str, file: &Rc<str>, report: &mut Report) -> Option<Vec<Node>> {
    let mut budget = lenient::Budget::new();
    let mut text = Cow::Borrowed(text);
    loop {
        match events(&text, file, report) {
            Ok(documents) => return Some(documents),
            Err(Stop::Reported) => return None,
            Err(Stop::Syntax(error, stopped)) => {
                let Some(repaired) = budget.repair(&text, stopped) else {
                    let at = At { file: Rc::clone(file), line: error.marker().line().max(1) };
                    let column = error.marker().col().saturating_add(1);
                    let (info, hint) = (error.info(), hint(error.info()));
                    report.problem(&at, "", &format!("invalid YAML at column {column}: {info}{hint}"));
                    return None;
                };
                text = Cow::Owned(repaired);
            }
        }
    }
}

/// What to do about the commonest mistake, which the parser's words do not name.
fn hint(info: &str) -> &'static str {
    if info.contains("mapping values are not allowed") {
        "; a text with a colon and a blank in it must stand between quotes, or below a `|`"
    } else {
        ""
    }
}

/// Why reading ended early.
enum Stop {
    Reported,
    Syntax(ScanError, Stopped),
}

fn events(text: &str, file: &Rc<str>, report: &mut Report) -> Result<Vec<Node>, Stop> {
    let mut builder = Builder {
        file: Rc::clone(file),
        report,
        stack: Vec::new(),
        anchors: BTreeMap::new(),
        documents: Vec::new(),
        merged_keys: 0,
        understood: 0,
    };
    let mut parser = Parser::new_from_str(text);
    while let Some(event) = parser.next_event() {
        match event {
            Ok((event, span)) => builder.take(event, span).ok_or(Stop::Reported)?,
            Err(error) => {
                let after = builder.stack.iter().find_map(|frame| frame.bracket).unwrap_or(builder.understood);
                let stopped = Stopped { after, at: error.marker().index() };
                return Err(Stop::Syntax(error, stopped));
            }
        }
    }
    Ok(builder.documents)
}

struct Builder<'r> {
    file: Rc<str>,
    report: &'r mut Report,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    documents: Vec<Node>,
    /// How many keys `<<` has copied so far; unlike aliases they are not shared.
    merged_keys: usize,
    /// Up to which character the text is understood.
    understood: usize,
}

/// A collection that is being read.
struct Frame {
    at: At,
    /// Where its bracket is, for one in brackets.
    bracket: Option<usize>,
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
        self.understood = self.understood.max(span.end.index());
        // Only a bracket is a beginning that has a length.
        let bracket = (!span.is_empty()).then(|| span.start.index());
        match event {
            Event::SequenceStart(anchor, tag) => {
                let tag = known_tag(tag.as_deref());
                self.open(Frame { at, bracket, anchor, tag, content: Content::List(Vec::new()) })?;
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map { map: Map::new(), merged: HashSet::new(), key: None };
                self.open(Frame { at, bracket, anchor, tag: known_tag(tag.as_deref()), content })?;
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

    fn open(&mut self, frame: Frame) -> Option<()> {
        if self.stack.len() >= MAX_DEPTH {
            self.report.problem(&frame.at, "", &format!("values are nested deeper than {MAX_DEPTH} levels"));
            return None;
        }
        self.stack.push(frame);
        Some(())
    }

    fn close(&mut self) -> Option<()> {
        let Frame { at, anchor, tag, content, .. } = self.stack.pop()?;
        let node = match content {
            Content::List(items) => match tag.as_deref() {
                Some("!reference") => self.reference(at, &items),
                tag => {
                    self.unknown_tag(&at, tag);
                    Node::list(at, items)
                }
            },
            Content::Map { .. } if tag.as_deref() == Some("!reference") => self.no_reference(at),
            Content::Map { map, .. } => {
                self.unknown_tag(&at, tag.as_deref());
                Node::map(at, map)
            }
        };
        self.finish(node, anchor, false)
    }

    fn scalar(&mut self, at: At, text: &str, style: ScalarStyle, tag: Option<&Tag>) -> Node {
        let known = tag.filter(|tag| tag.is_yaml_core_schema());
        let unknown = tag.filter(|tag| !tag.is_yaml_core_schema()).map(ToString::to_string);
        let value = match (known, unknown.as_deref()) {
            (_, Some("!reference")) => return self.no_reference(at),
            (_, Some("!")) => Value::Text(Rc::from(text)),
            (Some(tag), _) if tag.suffix != "str" => scalar::resolve(text),
            (Some(_), _) => Value::Text(Rc::from(text)),
            (None, unknown) => {
                self.unknown_tag(&at, unknown);
                if style == ScalarStyle::Plain { self.plain(&at, text) } else { Value::Text(Rc::from(text)) }
            }
        };
        Node::scalar(at, value)
    }

    /// A scalar without quotes.
    fn plain(&mut self, at: &At, text: &str) -> Value {
        let Some(class) = scalar::refused_class(text) else { return scalar::resolve(text) };
        let what = if class == "Date" { "a date" } else { "a time" };
        let said = format!("Tried to load unspecified class: {class}; {text} is {what} to GitLab: put it in quotes");
        self.report.problem(at, "", &said);
        Value::Broken
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
            _ => self.no_reference(at),
        }
    }

    fn no_reference(&mut self, at: At) -> Node {
        let text = "!reference should be a list of names, such as !reference [.setup, script]";
        self.report.problem(&at, "", text);
        Node::scalar(at, Value::Broken)
    }

    /// GitLab's parser goes over tags that it does not know.
    fn unknown_tag(&mut self, at: &At, tag: Option<&str>) {
        if let Some(tag) = tag {
            self.report.warning(at, "", &format!("the tag `{tag}` means nothing here; only `!reference` does"));
        }
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

/// A tag of a collection as written, `None` for none or one without meaning here.
fn known_tag(tag: Option<&Tag>) -> Option<String> {
    tag.filter(|tag| !tag.is_yaml_core_schema()).map(ToString::to_string)
}

fn as_key(node: &Node, is_merge: bool, report: &mut Report) -> Key {
    let text = match &node.value {
        Value::Text(text) | Value::Float(_, text) => text.to_string(),
        Value::Int(number, _) => number.to_string(),
        Value::Bool(flag, _) => flag.to_string(),
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
        let (key, first, last) = (&key.text, first.at.line, entry.at.line);
        let text = format!("duplicate key `{key}`: the one on line {last} replaces the one on line {first}");
        report.warning(&entry.at, "", &text);
    }
    map.insert(key.text, entry);
}

/// `<<`: takes over the keys of one mapping, or of a list of them where the first has precedence.
/// Keys that the mapping has itself always win; of several `<<` the last wins, as in GitLab.
/// Returns how many keys it copied.
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
