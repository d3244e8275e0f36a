//! `script`, `before_script`, `after_script` and hooks: text, or lists of it nested by anchors and
//! references.

use super::field::Field;
use super::node::Value;
use super::problem::Report;

/// How deep lists may be nested; GitLab's limit.
const MAX_NESTING: usize = 10;

const EXPECTED: &str = "a string or a nested array of strings up to 10 levels deep";

/// The lines of a script, flattened.
pub(super) fn read(field: &Field<'_>, report: &mut Report) -> Vec<String> {
    let mut lines = Vec::new();
    collect(field, 0, &mut lines, report);
    lines
}

fn collect(field: &Field<'_>, level: usize, lines: &mut Vec<String>, report: &mut Report) {
    match &field.node.value {
        Value::Text(text) => lines.push(text.to_string()),
        Value::List(_) if level < MAX_NESTING => {
            for item in field.items() {
                collect(&item, level + 1, lines, report);
            }
        }
        Value::Map(_) if level > 0 => {
            let text = format!("config should be {EXPECTED}; a line with `: ` in it is a hash unless it is quoted");
            field.problem(report, &text);
        }
        _ => field.expected(report, EXPECTED),
    }
}
