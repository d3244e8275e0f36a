//! What is wrong with a file that cannot be used.

use std::fmt;

use crate::problem::{Problem, Severity};
use crate::settings::LogSettings;

/// Everything that is wrong with a file that cannot be used: its errors, then its warnings, each in
/// the order of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problems {
    /// At least one of them is an error.
    pub list: Vec<Problem>,
    /// How the file wants log lines to be, these problems included.
    pub log: LogSettings,
}

impl Problems {
    /// Those that make the file unusable.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.list.iter().filter(|problem| problem.severity == Severity::Error)
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.errors().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
