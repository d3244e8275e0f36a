//! What the helper tells operators: lines on standard error, which `kubectl logs` shows. Never the job's output, never a secret.

use std::fmt;
use std::io::Write as _;

/// Writes one line. A standard error that nobody reads is no reason to fail, so this cannot fail or panic.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "gantry-helper: {line}");
}

/// An error with its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
