//! `variables:` and the values that rules can see.

use std::collections::HashMap;
use std::rc::Rc;

use indexmap::IndexMap;

use super::field::Field;
use super::model::CiVariable;
use super::node::Value;
use super::patterns::Patterns;
use super::problem::Report;

/// What a variable may say about itself, in the file's own `variables` and in those of a job.
pub(super) const GLOBAL_DATA: &[&str] = &["value", "description", "options", "expand"];
/// See [`GLOBAL_DATA`].
pub(super) const JOB_DATA: &[&str] = &["value", "expand"];

/// How often variables may refer to others, and how long a text may become by it: references to
/// references can multiply.
const MAX_EXPANSIONS: usize = 10;
const MAX_EXPANDED: usize = 4096;

/// Variables by name, in the order they were first mentioned.
pub(super) type Set = IndexMap<String, CiVariable>;

/// Values by name, for conditions and paths.
#[derive(Clone, Default)]
pub(super) struct Lookup {
    /// Known before the file; these win.
    given: Rc<HashMap<String, String>>,
    /// From the file.
    file: HashMap<String, String>,
    /// The patterns that variables hold.
    pub(super) patterns: Patterns,
}

impl Lookup {
    pub(super) fn new(given: &[(String, String)]) -> Self {
        Self { given: Rc::new(given.iter().cloned().collect()), file: HashMap::new(), patterns: Patterns::default() }
    }

    /// The same, with the file's variables below the given ones.
    pub(super) fn with(&self, variables: &Set) -> Self {
        let file = variables.values().map(|variable| (variable.key.clone(), variable.value.clone())).collect();
        Self { given: Rc::clone(&self.given), file, patterns: self.patterns.clone() }
    }

    /// Adds what is predefined for one job; the file's own value of that name stays.
    pub(super) fn add(&mut self, name: &str, value: &str) {
        self.file.entry(name.to_owned()).or_insert_with(|| value.to_owned());
    }

    pub(super) fn get(&self, name: &str) -> Option<&str> {
        self.given.get(name).or_else(|| self.file.get(name)).map(String::as_str)
    }
}

/// Replaces `$NAME` and `${NAME}` once; unknown names stay as written.
pub(super) fn expand(text: &str, lookup: &Lookup) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        out.push_str(before);
        let braced = after.strip_prefix('{').and_then(|body| body.split_once('}'));
        let (name, tail) = braced.unwrap_or_else(|| {
            let end = after.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(after.len());
            after.split_at_checked(end).unwrap_or((after, ""))
        });
        if let Some(value) = lookup.get(name) {
            out.push_str(value);
        } else {
            out.push('$');
            out.push_str(after.strip_suffix(tail).unwrap_or(name));
        }
        rest = tail;
    }
    out.push_str(rest);
    out
}

/// The names that a text refers to.
pub(super) fn references(text: &str) -> Vec<&str> {
    let parts = text.split('$').skip(1).filter_map(|after| {
        let (inner, close) = after.strip_prefix('{').map_or((after, ""), |inner| (inner, "}"));
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (name, rest) = inner.split_at_checked(end)?;
        rest.starts_with(close).then_some(name)
    });
    parts.filter(|name| !name.is_empty()).collect()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    No,
    OnTheWay,
    Done,
}

fn set(seen: &mut [Seen], place: usize, to: Seen) {
    if let Some(slot) = seen.get_mut(place) {
        *slot = to;
    }
}

/// Variables that refer to one another in a circle, if any do; not one that refers to itself.
pub(super) fn circle(variables: &[CiVariable]) -> Option<Vec<&str>> {
    let by_name: HashMap<&str, usize> =
        variables.iter().enumerate().map(|(place, variable)| (variable.key.as_str(), place)).collect();
    let edges = |place: usize| {
        let variable = variables.get(place).filter(|variable| variable.expand);
        let text = variable.map(|variable| variable.value.replace("$$", "")).unwrap_or_default();
        let places = references(&text).into_iter().filter_map(|name| by_name.get(name).copied());
        places.filter(|other| *other != place).collect::<Vec<_>>()
    };
    let mut seen = vec![Seen::No; variables.len()];
    for start in 0..variables.len() {
        // The way to here, with what is still to be looked at from each step.
        let mut way = Vec::new();
        let mut next = Some(start);
        loop {
            match next.map(|place| (place, seen.get(place).copied().unwrap_or(Seen::Done))) {
                Some((place, Seen::No)) => {
                    way.push((place, edges(place)));
                    set(&mut seen, place, Seen::OnTheWay);
                }
                Some((place, Seen::OnTheWay)) => {
                    let circle = way.iter().skip_while(|(step, _)| *step != place);
                    let names = circle.filter_map(|(step, _)| Some(variables.get(*step)?.key.as_str()));
                    return Some(names.collect());
                }
                Some((_, Seen::Done)) => {}
                None => {
                    let Some((place, _)) = way.pop() else { break };
                    set(&mut seen, place, Seen::Done);
                }
            }
            next = way.last_mut().and_then(|(_, open)| open.pop());
            if way.is_empty() {
                break;
            }
        }
    }
    None
}

/// Replaces variables, and those in their values.
pub(super) fn expand_all(text: &str, lookup: &Lookup) -> String {
    let mut text = text.to_owned();
    for _ in 0..MAX_EXPANSIONS {
        let next = expand(&text, lookup);
        if next == text || next.len() > MAX_EXPANDED {
            break;
        }
        text = next;
    }
    text
}

/// Reads a mapping of variables; `data` lists the keys allowed in the long form.
pub(super) fn read(field: &Field<'_>, data: &[&str], report: &mut Report) -> Vec<CiVariable> {
    let Some(map) = field.map(report) else { return Vec::new() };
    let mut variables = Vec::new();
    for (key, entry) in map {
        let field = Field::new(&entry.value, format!("{}:{key}", field.path));
        if let Some(variable) = variable(key, &field, data, report) {
            variables.push(variable);
        }
    }
    variables
}

fn variable(key: &str, field: &Field<'_>, data: &[&str], report: &mut Report) -> Option<CiVariable> {
    let plain =
        |value: String, expand: bool| CiVariable { key: key.to_owned(), value, expand, ..CiVariable::default() };
    match &field.node.value {
        Value::Broken => None,
        Value::Map(_) => {
            field.map_of(report, data);
            let expand = field.get("expand").and_then(|flag| flag.flag(report)).unwrap_or(true);
            let value = match field.get("value") {
                None => String::new(),
                Some(value) => value.plain(report).or_else(|| {
                    value.expected(report, "a string, a number or a boolean");
                    None
                })?,
            };
            if let Some(description) = field.get("description") {
                description.check_description(report);
            }
            let options = field.get("options").and_then(|options| options.texts(report));
            if let (Some(options), Some(given)) = (options, field.get("value"))
                && !options.contains(&value)
            {
                given.problem(report, &format!("config should be one of the options: {}", options.join(", ")));
            }
            Some(plain(value, expand))
        }
        // As in GitLab, a variable without a value is empty.
        Value::Null => Some(plain(String::new(), true)),
        _ => {
            let value = field.plain(report);
            if value.is_none() {
                let kind = field.node.kind();
                field.problem(report, &format!("definition must be either a string or a hash, but this is {kind}"));
            }
            Some(plain(value?, true))
        }
    }
}

/// Adds variables; one that is already there gets the new value.
pub(super) fn merge<'v>(into: &mut Set, from: impl IntoIterator<Item = &'v CiVariable>) {
    for variable in from {
        into.insert(variable.key.clone(), variable.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_expanded_once_and_unknown_ones_stay() {
        let lookup = Lookup::new(&[("A".to_owned(), "x".to_owned()), ("B".to_owned(), "$A".to_owned())]);
        let cases = [
            ("$A-${A}-$B", "x-x-$A"),
            ("$NO ${NO}/$", "$NO ${NO}/$"),
            ("a${A", "a${A"),
            ("é$Aé", "éxé"),
            ("plain", "plain"),
        ];
        for (text, expected) in cases {
            assert_eq!(expand(text, &lookup), expected, "{text}");
        }
    }
}
