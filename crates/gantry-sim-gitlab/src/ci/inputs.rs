//! `spec:inputs`: what a file asks for in its header, and the values it is given.
//!
//! As in GitLab the header is a document of its own above `---`, and the values are put into the
//! text of the rest before it is read as YAML.

use std::rc::Rc;

use indexmap::IndexMap;
use regex::Regex;

use super::expr::Expr;
use super::field::Field;
use super::model::CiJobInput;
use super::node::{Entry, Node, Value};
use super::problem::{At, Report};
use super::variables::Lookup;

/// How many inputs one file may ask for; far above real use.
const MAX_INPUTS: usize = 200;

/// The longest pattern of `regex`, in bytes; it bounds the work for hostile files.
const MAX_PATTERN: usize = 4096;

const TYPES: &[&str] = &["string", "number", "boolean", "array"];
const KEYS: &[&str] = &["default", "description", "options", "regex", "type", "rules"];
const JOB_KEYS: &[&str] = &["default", "description", "options", "regex", "type"];
const RULE_KEYS: &[&str] = &["if", "options", "default"];

/// What `spec:component` may ask for.
pub(super) const COMPONENT: &[&str] = &["name", "sha", "version", "reference"];

/// Values by name, as they are put into the text.
pub(super) type Values = IndexMap<String, String>;

/// Splits a text into its header and the rest, which keeps its line numbers; `None` if there is no
/// header.
pub(super) fn split(text: &str) -> Option<(String, String)> {
    let is_divider = |line: &str| line.trim_end() == "---" || line.starts_with("--- ");
    let mut has_spec = false;
    let mut header = String::new();
    let mut lines = text.split_inclusive('\n');
    let mut count = 0;
    for line in lines.by_ref() {
        count += 1;
        if is_divider(line) {
            if has_spec {
                let rest: String = lines.collect();
                return Some((header, "\n".repeat(count) + &rest));
            }
            if !header.trim().is_empty() && header.lines().any(|line| !is_blank(line)) {
                return None;
            }
            header.push('\n');
            continue;
        }
        has_spec |= line.starts_with("spec:");
        header.push_str(line);
    }
    None
}

fn is_blank(line: &str) -> bool {
    let line = line.trim_start();
    line.is_empty() || line.starts_with('#')
}

/// The values of a file's inputs: those that are given, checked against `spec:inputs`, and its
/// defaults. `given` may hold texts that are still to be read as the input's type (`is_typed:
/// false`). `None` if any is wrong.
pub(super) fn values(
    inputs: Option<&Field<'_>>,
    given: &Given<'_>,
    lookup: &Lookup,
    report: &mut Report,
) -> Option<Values> {
    let mut values = Values::new();
    let mut is_right = true;
    let wanted = inputs.and_then(|inputs| inputs.map(report).map(|map| (inputs, map)));
    for (name, entry) in wanted.iter().flat_map(|(_, map)| map.iter()).take(MAX_INPUTS) {
        let path = format!("spec:inputs:{name}");
        let field = Field::new(&entry.value, path);
        let known = InterpolationScope { values: &values, lookup };
        match value(name, &field, given, &known, report) {
            Some(value) => drop(values.insert(name.clone(), value)),
            None => is_right = false,
        }
    }
    for (name, at) in given.names() {
        if !wanted.as_ref().is_some_and(|(_, map)| map.contains_key(name)) {
            let known = wanted.iter().flat_map(|(_, map)| map.keys().map(String::as_str));
            let hint = report.hint(name, known);
            report.problem(
                &at,
                "inputs",
                &format!("has `{name}`, which `spec:inputs` of the file does not know{hint}"),
            );
            is_right = false;
        }
    }
    is_right.then_some(values)
}

/// Where given values come from.
pub(super) enum Given<'g> {
    /// `inputs` of an include.
    File(Option<Field<'g>>),
    /// Texts that somebody gave with the pipeline.
    Person(&'g [(String, String)], At),
}

impl Given<'_> {
    fn get(&self, name: &str, kind: &str) -> Option<Node> {
        match self {
            Self::File(field) => field.as_ref()?.node.as_map()?.get(name).map(|entry| entry.value.clone()),
            Self::Person(list, at) => {
                let (_, text) = list.iter().rev().find(|(other, _)| other == name)?;
                Some(typed(text, kind, at))
            }
        }
    }

    /// Whether nobody but a person has given it, and what they wrote.
    fn of_person(&self, name: &str) -> Option<&str> {
        match self {
            Self::File(_) => None,
            Self::Person(list, _) => list.iter().rev().find(|(other, _)| other == name).map(|(_, text)| text.as_str()),
        }
    }

    fn names(&self) -> Vec<(&str, At)> {
        match self {
            Self::File(field) => {
                let map = field.as_ref().and_then(|field| field.node.as_map());
                map.into_iter()
                    .flat_map(|map| map.iter())
                    .map(|(name, entry)| (name.as_str(), entry.at.clone()))
                    .collect()
            }
            Self::Person(list, at) => list.iter().map(|(name, _)| (name.as_str(), at.clone())).collect(),
        }
    }
}

/// A text of a person as the input's type wants it; one that does not fit stays a text and is
/// refused later.
fn typed(text: &str, kind: &str, at: &At) -> Node {
    let as_written = || Node::scalar(at.clone(), Value::Text(text.into()));
    match kind {
        "boolean" if text == "true" || text == "false" => {
            Node::scalar(at.clone(), Value::Bool(text == "true", text.into()))
        }
        "number" => match (text.parse::<i64>(), text.parse::<f64>()) {
            (Ok(number), _) => Node::scalar(at.clone(), Value::Int(number, text.into())),
            (_, Ok(_)) => Node::scalar(at.clone(), Value::Float(text.into(), text.into())),
            _ => as_written(),
        },
        "array" if is_json(text) => match serde_json::from_str(text) {
            Ok(value) => of_json(&value, at),
            Err(_) => as_written(),
        },
        "array" => {
            let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
            let node = |item: &str| Node::scalar(at.clone(), Value::Text(item.into()));
            Node::list(at.clone(), items.map(node).collect())
        }
        _ => as_written(),
    }
}

/// Whether a person means JSON by an array's text, and not a list with commas.
fn is_json(text: &str) -> bool {
    text.trim_start().starts_with('[')
}

fn of_json(value: &serde_json::Value, at: &At) -> Node {
    use serde_json::Value as Json;
    let value = match value {
        Json::Null => Value::Null,
        Json::Bool(flag) => Value::Bool(*flag, flag.to_string().into()),
        Json::Number(number) => {
            let text: Rc<str> = number.to_string().into();
            match number.as_i64() {
                Some(number) => Value::Int(number, text),
                None => Value::Float(Rc::clone(&text), text),
            }
        }
        Json::String(text) => Value::Text(text.as_str().into()),
        Json::Array(items) => return Node::list(at.clone(), items.iter().map(|item| of_json(item, at)).collect()),
        Json::Object(entries) => {
            let entry = |(key, value)| (String::clone(key), Entry { at: at.clone(), value: of_json(value, at) });
            return Node::map(at.clone(), entries.iter().map(entry).collect());
        }
    };
    Node::scalar(at.clone(), value)
}

/// What an input may depend on: those before it, and variables.
struct InterpolationScope<'k> {
    values: &'k Values,
    lookup: &'k Lookup,
}

fn value(
    name: &str,
    field: &Field<'_>,
    given: &Given<'_>,
    known: &InterpolationScope<'_>,
    report: &mut Report,
) -> Option<String> {
    let is_plain = matches!(field.node.value, Value::Null);
    if !is_plain {
        field.map_of(report, KEYS)?;
    }
    if let Some(description) = field.get("description") {
        description.check_description(report);
    }
    let kind = match field.get("type") {
        Some(kind) => kind.one_of(report, TYPES)?,
        None => "string".to_owned(),
    };
    let rule = match field.get("rules") {
        Some(rules) => matching(&rules, known, report).ok()?,
        None => None,
    };
    let from_rule = |key: &str| rule.and_then(|rule| rule.as_map()?.get(key).map(|entry| entry.value.clone()));
    let own = |key: &str| field.node.as_map().and_then(|map| map.get(key)).map(|entry| entry.value.clone());
    let value = given.get(name, &kind).or_else(|| from_rule("default")).or_else(|| own("default"));
    let Some(value) = value else {
        let text = format!("`{name}` has no default and is not given");
        report.problem(&field.node.at, "spec:inputs", &text);
        return None;
    };
    let written = given.of_person(name).filter(|text| kind == "array" && is_json(text));
    if let Some(Err(error)) = written.map(serde_json::from_str::<serde_json::Value>) {
        report.problem(&value.at, "inputs", &format!("`{name}` begins with `[` and is no JSON: {error}"));
        return None;
    }
    let options = from_rule("options").or_else(|| own("options"));
    checked((name, field), &kind, &value, options.as_ref(), report)
}

/// The inputs of a job, which all have a default, with their values. Those that a person gives when
/// the job is started or tried again are not known here.
pub(super) fn of_job(inputs: &Field<'_>, report: &mut Report) -> Vec<CiJobInput> {
    let mut values = Vec::new();
    let Some(map) = inputs.map(report) else { return values };
    for (name, entry) in map.iter().take(MAX_INPUTS) {
        let field = Field::new(&entry.value, format!("{}:{name}", inputs.path));
        let Some(map) = field.map_of(report, JOB_KEYS) else { continue };
        if let Some(description) = field.get("description") {
            description.check_description(report);
        }
        let kind = match field.get("type") {
            Some(kind) => match kind.one_of(report, TYPES) {
                Some(kind) => kind,
                None => continue,
            },
            None => "string".to_owned(),
        };
        let own = |key: &str| map.get(key).map(|entry| &entry.value);
        let Some(default) = own("default") else {
            field.problem(report, "config must have a default value");
            continue;
        };
        if let Some(text) = checked((name, &field), &kind, default, own("options"), report) {
            let content = if kind == "string" { text.into() } else { default.json() };
            values.push(CiJobInput { name: name.clone(), kind, content });
        }
    }
    values
}

/// A value that fits its type, its options and its pattern, as text.
fn checked(
    (name, field): (&str, &Field<'_>),
    kind: &str,
    value: &Node,
    options: Option<&Node>,
    report: &mut Report,
) -> Option<String> {
    let fits = matches!(
        (&value.value, kind),
        (Value::Text(_) | Value::Null, "string")
            | (Value::Bool(..), "boolean")
            | (Value::List(_), "array")
            | (Value::Int(..) | Value::Float(..), "number")
    );
    if !fits {
        let text = format!("`{name}` should be of the type {kind}, but it is {}", value.kind());
        report.problem(&value.at, "inputs", &text);
        return None;
    }
    let text = if matches!(value.value, Value::Null) { String::new() } else { value.inline() };
    let options: Vec<String> = options.iter().filter_map(|list| list.as_list()).flatten().map(Node::inline).collect();
    if !options.is_empty() && !options.contains(&text) {
        let text = format!("`{name}` should be one of: {}; `{text}` is not", options.join(", "));
        report.problem(&value.at, "inputs", &text);
        return None;
    }
    if let Some(pattern) = field.get("regex").and_then(|pattern| pattern.text(report)) {
        let inner = pattern.strip_prefix('/').and_then(|text| text.strip_suffix('/')).unwrap_or(&pattern);
        match Regex::new(inner).map_err(|error| error.to_string()) {
            Ok(regex) if inner.len() <= MAX_PATTERN && regex.is_match(&text) => {}
            Ok(_) => {
                report.problem(&value.at, "inputs", &format!("`{name}` should match {pattern}; `{text}` does not"));
                return None;
            }
            Err(_) => {
                field.problem(report, &format!("regex: `{pattern}` is not a pattern that can be used here"));
                return None;
            }
        }
    }
    Some(text)
}

/// A rule is wrong and reported.
struct Wrong;

/// The first of an input's rules that holds, if any does.
fn matching<'n>(
    rules: &Field<'n>,
    known: &InterpolationScope<'_>,
    report: &mut Report,
) -> Result<Option<&'n Node>, Wrong> {
    if rules.list().is_none() {
        rules.expected(report, "an array of rules");
        return Err(Wrong);
    }
    for rule in rules.items() {
        rule.map_of(report, RULE_KEYS).ok_or(Wrong)?;
        let holds = match rule.get("if") {
            None => true,
            Some(condition) => {
                let text = condition.text(report).ok_or(Wrong)?;
                let text = quoted(&text, known.values);
                match Expr::parse(&text, &report.patterns) {
                    Ok(expr) => expr.holds(known.lookup),
                    Err(error) => {
                        condition.problem(report, &format!("invalid expression syntax: {error}"));
                        return Err(Wrong);
                    }
                }
            }
        };
        if holds {
            return Ok(Some(rule.node));
        }
    }
    Ok(None)
}

/// A condition with the values of earlier inputs as texts in place of `$[[ inputs.NAME ]]`.
fn quoted(condition: &str, known: &Values) -> String {
    let mut out = String::new();
    let mut rest = condition;
    while let Some((before, after)) = rest.split_once("$[[") {
        out.push_str(before);
        let Some((inside, tail)) = after.split_once("]]") else {
            out.push_str("$[[");
            rest = after;
            continue;
        };
        let value = inside.trim().strip_prefix("inputs.").and_then(|name| known.get(name.trim()));
        let value = value.map(|value| value.replace(['"', '\\'], "")).unwrap_or_default();
        out.extend(["\"", &value, "\""]);
        rest = tail;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_what_stands_above_the_line_and_has_a_spec() {
        let (header, rest) = split("# top\n---\nspec:\n  inputs:\n    a:\n---\njob: {script: x}\n").unwrap();
        assert_eq!(header, "# top\n\nspec:\n  inputs:\n    a:\n");
        assert_eq!(rest, "\n\n\n\n\n\njob: {script: x}\n", "lines keep their numbers");
        assert_eq!(split("job: {script: x}\n---\nother: {}\n"), None);
        assert_eq!(split("spec: {inputs: {}}\n"), None);
        assert_eq!(split("---\njob: {script: 'spec:'}\n"), None);
    }
}
