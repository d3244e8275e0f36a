//! What can be wrong with a configuration, each with its place in the file. A message must never
//! contain the value of a secret.

use std::fmt;

/// Whether the file can be used in spite of a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file, or the `[[runners]]` entry that it is in, cannot be used.
    Error,
    /// The file can be used, but something in it has no effect or not the expected one.
    Warning,
}

/// The message about a key that nobody knows.
pub(crate) const UNKNOWN_KEY: &str = "unknown key";

/// How the message about a key begins that must be there and is not.
const MISSING: &str = "is missing: ";

/// One thing that is wrong, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether the file can be used all the same.
    pub severity: Severity,
    /// Line in the file, from 1; 0 where the problem has no place of its own.
    pub line: usize,
    /// Column in characters, from 1; 0 where the problem has no place of its own.
    pub column: usize,
    /// Key path as written in TOML, such as `runners[0].kubernetes.poll_timeout`; empty for the
    /// file as a whole.
    pub path: String,
    /// What is wrong: a fragment in lower case that fits after the path.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// Whether nobody knows the key, and that is all that is wrong.
    pub fn is_unknown_key(&self) -> bool {
        self.message == UNKNOWN_KEY
    }

    /// Whether the key must be there and is not, or says nothing.
    pub fn is_missing(&self) -> bool {
        self.message.starts_with(MISSING)
    }

    /// The problem in one line, in the form that editors and terminals turn into a link.
    pub fn in_file<'a>(&'a self, file: &'a str) -> impl fmt::Display + 'a {
        InFile { problem: self, file }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.in_file("config.toml").fmt(f)
    }
}

struct InFile<'a> {
    problem: &'a Problem,
    file: &'a str,
}

impl fmt::Display for InFile<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem { line, path, message, hint, .. } = self.problem;
        f.write_str(self.file)?;
        if *line > 0 {
            write!(f, ":{line}")?;
        }
        f.write_str(": ")?;
        if !path.is_empty() {
            write!(f, "{path}: ")?;
        }
        f.write_str(message)?;
        match hint {
            Some(hint) => write!(f, " ({hint})"),
            None => Ok(()),
        }
    }
}

/// A `[[runners]]` entry that cannot be used. The rest of its file can.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnusableRunner {
    /// Its place in the file, from 0.
    pub index: usize,
    /// `name`, empty where absent.
    pub name: String,
    /// Its errors, in the order of the file; at least one.
    pub errors: Vec<Problem>,
}
