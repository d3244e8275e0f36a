//! Collects problems while a file is read, and knows the lines of its text. Reading never stops at
//! a problem.

use std::cell::RefCell;

use crate::helm;
use crate::problem::{Problem, Severity, UnusableRunner};

/// Answers for `$VAR`.
pub(crate) type Env<'e> = dyn Fn(&str) -> Option<String> + 'e;

/// The problems of one file so far.
pub(crate) struct Report<'d> {
    text: &'d str,
    /// For the keys that are expanded.
    pub(crate) env: &'d Env<'d>,
    list: RefCell<Vec<Problem>>,
    unusable: RefCell<Vec<UnusableRunner>>,
}

impl<'d> Report<'d> {
    pub(crate) fn new(text: &'d str, env: &'d Env<'d>) -> Self {
        Self { text, env, list: RefCell::default(), unusable: RefCell::default() }
    }

    /// Adds a problem at byte `at` of the text.
    pub(crate) fn add(&self, severity: Severity, at: usize, path: &str, message: impl Into<String>) {
        self.add_with_hint(severity, at, path, (message.into(), None));
    }

    /// The same with a hint.
    pub(crate) fn add_with_hint(&self, severity: Severity, at: usize, path: &str, what: (String, Option<String>)) {
        let (line, column) = self.place(at);
        let (message, hint) = what;
        let is_of_helm = severity == Severity::Error && helm::has_braces(line_at(self.text, at));
        let hint = if is_of_helm { Some(helm::RENDER.to_owned()) } else { hint };
        self.list.borrow_mut().push(Problem { severity, line, column, path: path.to_owned(), message, hint });
    }

    /// Whether something in the line of a byte is wrong.
    pub(crate) fn has_error_at(&self, at: usize) -> bool {
        let (line, _) = self.place(at);
        let is_there = |problem: &Problem| problem.severity == Severity::Error && problem.line == line;
        self.list.borrow().iter().any(is_there)
            || self.unusable.borrow().iter().flat_map(|entry| &entry.errors).any(is_there)
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

    /// How many problems there are so far: a mark for [`Report::take_errors`].
    pub(crate) fn mark(&self) -> usize {
        self.list.borrow().len()
    }

    /// Takes out the errors that were added after `mark`, in the order of the file.
    pub(crate) fn take_errors(&self, mark: usize) -> Vec<Problem> {
        let mut list = self.list.borrow_mut();
        let from = mark.min(list.len());
        let newer = list.split_off(from);
        let (errors, others): (Vec<Problem>, Vec<Problem>) =
            newer.into_iter().partition(|problem| problem.severity == Severity::Error);
        list.extend(others);
        sorted(errors)
    }

    /// An entry cannot be used.
    pub(crate) fn is_unusable(&self, runner: UnusableRunner) {
        self.unusable.borrow_mut().push(runner);
    }

    /// All problems, each kind in the order of the file, and the entries that cannot be used.
    pub(crate) fn into_parts(self) -> (Vec<Problem>, Vec<UnusableRunner>) {
        (sorted(self.list.into_inner()), self.unusable.into_inner())
    }
}

/// Each kind in the order of the file. A value that is read twice is reported once.
pub(crate) fn sorted(mut list: Vec<Problem>) -> Vec<Problem> {
    list.sort_by_key(|problem| (problem.severity, problem.line, problem.column));
    list.dedup();
    list
}

/// The line that a byte of the text is in.
pub(crate) fn line_at(text: &str, at: usize) -> &str {
    let (before, behind) = text.split_at_checked(at).unwrap_or((text, ""));
    let (from, to) = (before.rfind('\n').map_or(0, |end| end + 1), at + behind.find('\n').unwrap_or(behind.len()));
    text.get(from..to).unwrap_or_default()
}
