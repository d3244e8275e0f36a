//! The runner's own lines, in the colours and forms that GitLab and its users know (GitLab Runner
//! 19.4). The result is plain text for a runner stream of a [`crate::Trace`], which masks and
//! stamps it like all other text.

use gantry_core::{NoteLevel, Verdict};

/// Ends every line: colours back to normal.
const RESET: &str = "\x1b[0;m";
/// Clears the rest of the line; begins plain lines, and hides section markers in a terminal.
const CLEAR: &str = "\x1b[0K";
/// Bold cyan, for titles.
const TITLE: &str = "\x1b[36;1m";

fn prefix(level: NoteLevel) -> &'static str {
    match level {
        NoteLevel::Plain => CLEAR,
        NoteLevel::Info => "\x1b[32;1m",
        NoteLevel::Warning => "\x1b[0;33mWARNING: ",
        NoteLevel::Error => "\x1b[31;1mERROR: ",
    }
}

/// A line of the runner, with its newline. Newlines inside `text` stay.
pub fn note(level: NoteLevel, text: &str) -> String {
    format!("{}{text}{RESET}\n", prefix(level))
}

/// The last line of a job's log: how it ended (GitLab Runner 19.4's words).
pub fn verdict(verdict: &Verdict) -> String {
    let message = &verdict.message;
    if verdict.success {
        note(NoteLevel::Info, message)
    } else if verdict.is_system_failure() {
        note(NoteLevel::Error, &format!("Job failed (system failure): {message}"))
    } else {
        note(NoteLevel::Error, &format!("Job failed: {message}"))
    }
}

/// The title line of a section, with its newline.
pub fn section_title(text: &str) -> String {
    note(NoteLevel::Plain, &format!("{TITLE}{text}{RESET}"))
}

/// The marker that begins section `name`. No newline: the next line shows in its place.
pub fn section_start(name: &str, unix_seconds: i64) -> String {
    format!("section_start:{unix_seconds}:{name}\r{CLEAR}")
}

/// The marker that ends section `name`. No newline.
pub fn section_end(name: &str, unix_seconds: i64) -> String {
    format!("section_end:{unix_seconds}:{name}\r{CLEAR}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms_are_those_users_know() {
        assert_eq!(note(NoteLevel::Plain, "x"), "\x1b[0Kx\x1b[0;m\n");
        assert_eq!(note(NoteLevel::Info, "Job succeeded"), "\x1b[32;1mJob succeeded\x1b[0;m\n");
        assert_eq!(note(NoteLevel::Warning, "x"), "\x1b[0;33mWARNING: x\x1b[0;m\n");
        assert_eq!(note(NoteLevel::Error, "Job failed: x"), "\x1b[31;1mERROR: Job failed: x\x1b[0;m\n");
        assert_eq!(section_title("Preparing"), "\x1b[0K\x1b[36;1mPreparing\x1b[0;m\x1b[0;m\n");
        assert_eq!(section_start("get_sources", 7), "section_start:7:get_sources\r\x1b[0K");
        assert_eq!(section_end("get_sources", 9), "section_end:9:get_sources\r\x1b[0K");
    }
}
