//! What is said of a text that is not TOML. The parser goes on behind a mistake, and finds more
//! that follow from it: of these only the first is said.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue, Error};

use crate::problem::Severity;
use crate::report::{Report, line_at};
use crate::section::join;

/// Adds what is wrong with the text, of which the parser has understood `document`.
pub(crate) fn report(report: &Report<'_>, text: &str, document: &DeTable<'_>, errors: &[Error]) {
    let at = |error: &Error| error.span().unwrap_or_default().start;
    let mut errors: Vec<&Error> = errors.iter().collect();
    errors.sort_by_key(|error| at(error));
    let open = errors.iter().any(|error| is_about_an_end(error)).then(|| open_value(text, document)).flatten();
    if let Some(open) = open {
        // All that stands behind its beginning is taken for a part of it.
        let behind = errors.split_off(errors.partition_point(|error| at(error) < open.at));
        let first = behind.iter().find(|error| !is_about_an_end(error));
        let shows = first.map(|error| format!(": line {} is no part of it", line_number(text, at(error))));
        let message = format!("the {} that begins here has no {} at its end", open.what, open.end);
        report.add(Severity::Error, open.at, &open.path, message + &shows.unwrap_or_default());
    }
    errors.dedup_by_key(|error| line_number(text, at(error)));
    for error in errors {
        let span = error.span().unwrap_or_default();
        let message = about(error.message(), text.get(span.clone()).unwrap_or_default());
        let hint = help(line_at(text, span.start)).map(str::to_owned);
        report.add_with_hint(Severity::Error, span.start, "", (message, hint));
    }
}

/// Whether the parser misses the end of a value, and says so where the text ends.
fn is_about_an_end(error: &Error) -> bool {
    let beginnings = ["unclosed array,", "unclosed inline table", "invalid multi-line"];
    beginnings.iter().any(|beginning| error.message().starts_with(beginning))
}

/// A value that has no end.
struct Open {
    at: usize,
    path: String,
    what: &'static str,
    end: &'static str,
}

/// The first of them.
fn open_value(text: &str, document: &DeTable<'_>) -> Option<Open> {
    let mut found = Vec::new();
    look(text, "", document, &mut found);
    found.into_iter().min_by_key(|open| open.at)
}

fn look(text: &str, path: &str, table: &DeTable<'_>, found: &mut Vec<Open>) {
    for (key, value) in table {
        look_at(text, join(path, key.get_ref()), value, found);
    }
}

fn look_at(text: &str, path: String, value: &Spanned<DeValue<'_>>, found: &mut Vec<Open>) {
    let span = value.span();
    // What stands behind no `=` is a header, or follows from one.
    let is_written = text.get(..span.start).is_some_and(|before| before.trim_end().ends_with('='));
    if is_written {
        let open = missing_end(text, value.get_ref(), &span);
        found.extend(open.map(|(what, end)| Open { at: span.start, path, what, end }));
        return;
    }
    match value.get_ref() {
        DeValue::Table(table) => look(text, &path, table, found),
        DeValue::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                look_at(text, format!("{path}[{index}]"), item, found);
            }
        }
        _ => {}
    }
}

/// What a value is, and how it would end, where it does not.
fn missing_end(text: &str, value: &DeValue<'_>, span: &Range<usize>) -> Option<(&'static str, &'static str)> {
    let written = text.get(span.clone())?;
    // The end of what is last in it is not its own.
    let is_closed = |last: Option<usize>, end: char| written.ends_with(end) && last.is_none_or(|last| last < span.end);
    match value {
        DeValue::Array(items) => {
            let last = items.iter().map(|item| item.span().end).max();
            (!is_closed(last, ']')).then_some(("list", "]"))
        }
        DeValue::Table(table) => {
            let last = table.iter().map(|(_, value)| value.span().end).max();
            (!is_closed(last, '}')).then_some(("table", "}"))
        }
        DeValue::String(_) => {
            let quotes = ["\"\"\"", "'''"].into_iter().find(|quotes| written.starts_with(quotes))?;
            let is_closed = written.get(quotes.len()..).is_some_and(|rest| rest.ends_with(quotes));
            (!is_closed).then_some(("text", quotes))
        }
        _ => None,
    }
}

/// The number of the line that a byte of the text is in, from 1.
fn line_number(text: &str, at: usize) -> usize {
    text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1
}

/// What helps with a line that is not TOML, where that is more than the parser's words.
fn help(line: &str) -> Option<&'static str> {
    if line.contains(['“', '”', '„', '‘', '’']) {
        return Some("write plain quotes, \" or ', and not those of a word processor");
    }
    let (key, _) = line.split_once('=')?;
    let is_bare = |c: char| c.is_ascii_alphanumeric() || "_-. \t".contains(c);
    let is_quoted = key.contains(['"', '\'', '[', '{', '#']);
    (!is_quoted && !key.chars().all(is_bare)).then_some(
        "put a key that holds other characters than letters, digits, - and _ in quotes: \"example.com/team\" = …",
    )
}

/// A parser's message about a part of the text, which is shown only where it is a key.
fn about(message: &str, part: &str) -> String {
    let message = one_line(message);
    let is_key = |part: &str| part.chars().all(|c| c.is_ascii_alphanumeric() || "_-.\"' ".contains(c));
    let is_named = message == "duplicate key" && !part.is_empty() && is_key(part);
    if is_named { format!("{message}: {part} stands there twice") } else { message }
}

/// A parser's message as a fragment that fits in a line.
fn one_line(message: &str) -> String {
    let text = message.split_whitespace().collect::<Vec<_>>().join(" ");
    if text.is_empty() { "is not TOML".to_owned() } else { text }
}
