//! Problems with their place, and the collector that every part of the reader reports to.
//!
//! The reader goes on after a problem, so that one run shows them all; a problem that many jobs
//! inherit from one line is shown once.

use std::collections::HashSet;
use std::fmt;
use std::rc::Rc;

use super::patterns::Patterns;
use super::suggest;

/// How many problems or warnings are kept; nobody reads more, and a hostile file could cause one
/// for each byte.
const MAX_REPORTED: usize = 100;

/// The longest message kept, in bytes: messages quote the file, and a hostile file can have names
/// of any length.
const MAX_MESSAGE_BYTES: usize = 600;

/// How many comparisons of a file with a pattern one rule may take before it counts as one that
/// matches; GitLab's limit.
const MAX_COMPARISONS: usize = 50_000;

/// The same for all rules of a pipeline: some seconds of work, and far more than real pipelines
/// take.
const MAX_ALL_COMPARISONS: usize = 5_000_000;

/// Something wrong, or ignored, in a configuration file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
#[error("{file}:{line}: {message}")]
pub struct Problem {
    /// The file, as named by the caller or by `include`.
    pub file: String,
    /// The line, counted from 1.
    pub line: usize,
    /// What is wrong and, where known, what would be right.
    pub message: String,
}

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct At {
    pub(super) file: Rc<str>,
    pub(super) line: usize,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// Collects problems and warnings.
#[derive(Default)]
pub(super) struct Report {
    problems: Vec<Problem>,
    warnings: Vec<Problem>,
    seen: HashSet<(String, usize, String)>,
    hints: usize,
    /// The first include that cannot be had here.
    missing: Option<At>,
    /// What was said of each of them: they may be why something else is wrong, and who reads only
    /// of that would look for it in vain.
    missing_includes: Vec<Problem>,
    comparisons: usize,
    /// The patterns of conditions, compiled once.
    pub(super) patterns: Patterns,
}

impl Report {
    /// Records that `path` (such as `jobs:test:script`) is wrong.
    ///
    /// The same text for the same key at the same line is recorded once, whatever job inherits it.
    pub(super) fn problem(&mut self, at: &At, path: &str, text: &str) {
        if self.problems.len() < MAX_REPORTED && self.is_new(at, path, text) {
            self.problems.push(problem(at, path, text));
        }
    }

    /// Records that `path` is understood but has no effect.
    pub(super) fn warning(&mut self, at: &At, path: &str, text: &str) {
        if self.warnings.len() < MAX_REPORTED && self.is_new(at, path, text) {
            self.warnings.push(problem(at, path, text));
        }
    }

    /// A "did you mean" to append to a problem, or nothing; see [`suggest::hint`].
    pub(super) fn hint<'k>(&mut self, name: &str, known: impl IntoIterator<Item = &'k str>) -> String {
        self.hints += 1;
        if self.hints > MAX_REPORTED { String::new() } else { suggest::hint(name, known) }
    }

    /// Records an include that cannot be had here: the rest of the configuration is read without
    /// it.
    pub(super) fn missing_include(&mut self, at: &At, what: &str) {
        let said = self.warnings.len();
        self.warning(at, "include", &format!("{what}; what it defines is missing"));
        self.missing_includes.extend(self.warnings.iter().skip(said).cloned());
        self.missing.get_or_insert_with(|| at.clone());
    }

    /// Where something that is nowhere may come from, if an include is missing.
    pub(super) fn may_be_included(&self) -> Option<String> {
        self.missing.as_ref().map(|at| format!("it may be in the include of {at}"))
    }

    /// Whether so many more files may be compared with patterns; if not, the rule that asks counts
    /// as true.
    pub(super) fn may_compare(&mut self, count: usize) -> bool {
        self.comparisons = self.comparisons.saturating_add(count);
        count <= MAX_COMPARISONS && self.comparisons <= MAX_ALL_COMPARISONS
    }

    /// Whether anything is wrong so far.
    pub(super) fn failed(&self) -> bool {
        !self.problems.is_empty()
    }

    /// The problems and the warnings, each ordered by place, those of `main_file` first.
    pub(super) fn finish(mut self, main_file: &str) -> (Vec<Problem>, Vec<Problem>) {
        if self.failed() {
            self.problems.append(&mut self.missing_includes);
        }
        for list in [&mut self.problems, &mut self.warnings] {
            list.sort_by(|a, b| (a.file != main_file, &a.file, a.line).cmp(&(b.file != main_file, &b.file, b.line)));
        }
        (self.problems, self.warnings)
    }

    fn is_new(&mut self, at: &At, path: &str, text: &str) -> bool {
        let key = path.rsplit(':').next().unwrap_or(path);
        self.seen.insert((at.file.to_string(), at.line, format!("{key} {text}")))
    }
}

fn problem(at: &At, path: &str, text: &str) -> Problem {
    let mut message = if path.is_empty() { text.to_owned() } else { format!("{path} {text}") };
    if message.len() > MAX_MESSAGE_BYTES {
        let end = (0..=MAX_MESSAGE_BYTES).rev().find(|&n| message.is_char_boundary(n)).unwrap_or(0);
        message.truncate(end);
        message.push('…');
    }
    Problem { file: at.file.to_string(), line: at.line, message }
}
