//! What the helper tells operators: lines on standard error, which `kubectl logs` shows. Never the job's output, never a secret.

use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;

use gantry_core::user_info;

static ELSEWHERE: OnceLock<fn(fmt::Arguments<'_>)> = OnceLock::new();

/// Gives all lines to `take` from now on: for a process that is many helpers. Only the first call counts.
pub fn send_diagnostics_to(take: fn(fmt::Arguments<'_>)) {
    let _ = ELSEWHERE.set(take);
}

/// Writes one line. A standard error that nobody reads is no reason to fail, so this cannot fail or panic.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    match ELSEWHERE.get() {
        Some(take) => take(line),
        None => {
            // A tool's or a library's words can hold a URL with a password.
            let _ = writeln!(std::io::stderr(), "gantry-helper: {}", user_info::mask(&line.to_string()));
        }
    }
}
