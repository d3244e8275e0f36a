//! `[labels]` and `[runners.labels]`: what GitLab is told about a runner manager with every request
//! for a job.

use std::collections::BTreeMap;

use crate::problem::Severity;
use crate::section::Section;

/// Labels of all runners and of one together (GitLab Runner 19.4).
const MAX_LABELS: usize = 32;

/// Reads the labels of one table.
pub(super) fn read(section: &Section<'_>, key: &'static str) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::new();
    for (name, found) in section.entries(key) {
        let Some(value) = found.text() else { continue };
        if !is_name(&name) {
            found.problem(
                Severity::Error,
                "the name of a label is 3 to 65 letters, digits, '.', '_' and '-', and begins with neither '.' nor '-'",
            );
        } else if !is_value(&value) {
            found.problem(Severity::Error, "the value of a label is 1 to 256 letters, digits, '.', '_' and '-'");
        } else {
            labels.insert(name, value);
        }
    }
    check(section, key, &labels);
    labels
}

/// Adds the labels of the file to those of an entry, which win.
pub(super) fn merge(section: &Section<'_>, own: &mut BTreeMap<String, String>, of_all: &BTreeMap<String, String>) {
    for (name, value) in of_all {
        own.entry(name.clone()).or_insert_with(|| value.clone());
    }
    check(section, "labels", own);
}

fn check(section: &Section<'_>, key: &'static str, labels: &BTreeMap<String, String>) {
    if labels.len() > MAX_LABELS {
        section.problem(Severity::Error, key, format!("{} labels are more than {MAX_LABELS}", labels.len()));
    }
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_name(text: &str) -> bool {
    (3..=65).contains(&text.len()) && is_word(text) && !text.starts_with(['.', '-'])
}

fn is_value(text: &str) -> bool {
    (1..=256).contains(&text.len()) && is_word(text)
}
