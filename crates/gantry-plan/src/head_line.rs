//! A line that the manager writes into the job log before there is an agent.

use gantry_core::NoteLevel;
use serde::Serialize;

/// One line of the runner in the job log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HeadLine {
    /// How it looks.
    pub level: NoteLevel,
    /// Without line end.
    pub text: String,
}

impl HeadLine {
    /// A line without colour.
    pub fn plain(text: impl Into<String>) -> Self {
        Self { level: NoteLevel::Plain, text: text.into() }
    }

    pub(crate) fn info(text: impl Into<String>) -> Self {
        Self { level: NoteLevel::Info, text: text.into() }
    }

    /// A line in yellow, with `WARNING: `.
    pub fn warning(text: impl Into<String>) -> Self {
        Self { level: NoteLevel::Warning, text: text.into() }
    }
}
