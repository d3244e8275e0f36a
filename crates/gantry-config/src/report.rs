//! Collects problems while a file is read, and knows the lines of its text. Reading never stops at a problem.

use std::cell::RefCell;

use crate::problem::{Problem, Severity};

/// The problems of one file so far.
pub(crate) struct Report<'d> {
    text: &'d str,
    list: RefCell<Vec<Problem>>,
}

impl<'d> Report<'d> {
    pub(crate) fn new(text: &'d str) -> Self {
        Self { text, list: RefCell::new(Vec::new()) }
    }

    /// Adds a problem at byte `at` of the text.
    pub(crate) fn add(&self, severity: Severity, at: usize, path: &str, message: impl Into<String>) {
        self.add_with_hint(severity, at, path, (message.into(), None));
    }

    /// The same with a hint.
    pub(crate) fn add_with_hint(&self, severity: Severity, at: usize, path: &str, what: (String, Option<String>)) {
        let (line, column) = self.place(at);
        let (message, hint) = what;
        self.list.borrow_mut().push(Problem { severity, line, column, path: path.to_owned(), message, hint });
    }

    /// Line and column of a byte, from 1.
    fn place(&self, at: usize) -> (usize, usize) {
        let mut at = at.min(self.text.len());
        while !self.text.is_char_boundary(at) {
            at -= 1;
        }
        let before = &self.text[..at];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }

    /// All problems, each kind in the order of the file. A value that is read twice is reported once.
    pub(crate) fn into_problems(self) -> Vec<Problem> {
        let mut list = self.list.into_inner();
        list.sort_by_key(|problem| (problem.severity, problem.line, problem.column));
        list.dedup();
        list
    }
}
