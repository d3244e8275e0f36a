//! What the helper tells operators: lines on standard error, which `kubectl logs` shows. Never the
//! job's output, never a secret.

use std::fmt;
use std::io::Write as _;
use std::sync::OnceLock;

use gantry_core::redactor::Redactor;
use gantry_core::{Secret, user_info};

static SECRETS: OnceLock<Redactor> = OnceLock::new();
static ELSEWHERE: OnceLock<fn(fmt::Arguments<'_>)> = OnceLock::new();

/// Gives all lines to `take` from now on: for a process that is many helpers. Only the first call
/// counts.
pub fn send_diagnostics_to(take: fn(fmt::Arguments<'_>)) {
    let _ = ELSEWHERE.set(take);
}

/// Keeps the secrets of the job out of all lines from now on: a tool's or a library's words can
/// repeat what they were given. The process has one job, so only the first call counts.
pub(crate) fn keep_out<'s>(secrets: impl IntoIterator<Item = &'s Secret>) {
    SECRETS.get_or_init(|| Redactor::new(secrets));
}

/// Writes one line. A standard error that nobody reads is no reason to fail, so this cannot fail or
/// panic.
pub(crate) fn say(line: fmt::Arguments<'_>) {
    if let Some(take) = ELSEWHERE.get() {
        return take(line);
    }
    let line = line.to_string();
    let line = SECRETS.get().map_or_else(|| user_info::mask(&line), |secrets| secrets.redact(&line));
    let _ = writeln!(std::io::stderr(), "gantry-helper: {line}");
}
