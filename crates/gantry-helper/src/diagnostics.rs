//! What the helper tells operators: lines on standard error, which `kubectl logs` shows. Never the job's output, never a secret.

use std::fmt;
use std::io::Write as _;

/// Writes one line. A standard error that nobody reads is no reason to fail, so this cannot fail or panic.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "gantry-helper: {line}");
}
