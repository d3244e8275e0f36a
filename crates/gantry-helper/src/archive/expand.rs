//! Expands artifact names and paths with the job's variables, in the forms of POSIX shells that
//! such names use.

use gantry_core::variables;

/// Replaces `$NAME`, `${NAME}`, `${NAME:-word}`, `${NAME-word}`, `${NAME:+word}` and
/// `${NAME:offset:length}`.
pub(super) fn expand(text: &str, lookup: impl Fn(&str) -> Option<String>) -> String {
    variables::expand(text, |form| value_of(form, &lookup))
}

fn value_of(form: &str, lookup: &impl Fn(&str) -> Option<String>) -> Option<String> {
    let end = form.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(form.len());
    let (name, operation) = form.split_at(end);
    let value = lookup(name);
    let filled = value.clone().filter(|value| !value.is_empty());
    if let Some(word) = operation.strip_prefix(":-") {
        return filled.or_else(|| Some(word.to_owned()));
    }
    if let Some(word) = operation.strip_prefix('-') {
        return value.or_else(|| Some(word.to_owned()));
    }
    if let Some(word) = operation.strip_prefix(":+") {
        return filled.map(|_| word.to_owned());
    }
    match operation.strip_prefix(':') {
        Some(range) => value.map(|value| part(&value, range)),
        None => value,
    }
}

/// `offset` or `offset:length` in characters.
fn part(value: &str, range: &str) -> String {
    let (offset, length) = range.split_once(':').unwrap_or((range, ""));
    let offset = offset.trim().parse().unwrap_or(0);
    let length = length.trim().parse().unwrap_or(usize::MAX);
    value.chars().skip(offset).take(length).collect()
}

#[cfg(test)]
mod tests {
    use super::expand;

    #[test]
    fn the_forms_of_shells() {
        let lookup = |name: &str| match name {
            "A" => Some("value".to_owned()),
            "EMPTY" => Some(String::new()),
            _ => None,
        };
        for (text, expected) in [
            ("$A-${A}", "value-value"),
            ("${A:1:3}|${A:2}", "alu|lue"),
            ("${NO:-x}${EMPTY:-y}${EMPTY-z}${NO-w}", "xyw"),
            ("${A:+set}${NO:+set}", "set"),
            ("$NO|$$", "|$"),
        ] {
            assert_eq!(expand(text, lookup), expected, "{text}");
        }
    }
}
