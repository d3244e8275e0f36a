//! `[labels]` and `[runners.labels]`: what GitLab is told about a runner manager with every request for a job.

use std::collections::BTreeMap;

use crate::problem::Severity;
use crate::section::Section;

/// Labels of all runners and of one together (GitLab Runner 19.4).
const MAX_LABELS: usize = 32;

/// Reads `labels` of a table and merges them over `base`.
pub(super) fn read(section: &Section<'_>, base: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut labels = base.clone();
    for (key, found) in section.entries("labels") {
        let Some(value) = found.text() else { continue };
        if !is_key(&key) {
            found.problem(
                Severity::Error,
                "the name of a label is 3 to 65 letters, digits, '.', '_' and '-', and begins with neither '.' nor '-'",
            );
        } else if !is_value(&value) {
            found.problem(Severity::Error, "the value of a label is 1 to 256 letters, digits, '.', '_' and '-'");
        } else {
            labels.insert(key, value);
        }
    }
    if labels.len() > MAX_LABELS {
        section.problem(Severity::Error, "labels", format!("{} labels are more than {MAX_LABELS}", labels.len()));
    }
    labels
}

fn is_word(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}

fn is_key(text: &str) -> bool {
    (3..=65).contains(&text.len()) && is_word(text) && !text.starts_with(['.', '-'])
}

fn is_value(text: &str) -> bool {
    (1..=256).contains(&text.len()) && is_word(text)
}
