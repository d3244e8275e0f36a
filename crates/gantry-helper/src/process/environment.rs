//! Sorts a script's variables into those that `execve` can carry and those that are too large for
//! that, which the script assigns itself.
//!
//! Those are not exported: the kernel would refuse to start every command of the script ("argument
//! list too long"), whether or not it wants them.

use std::collections::HashMap;

use gantry_wire::shim::SecretText;

use crate::limits::{EXEC_TOTAL, EXEC_VARIABLE};

/// Variables sorted by how they reach a script.
#[derive(Default, PartialEq, Eq)]
pub(crate) struct Sorted<'a> {
    /// Through `execve`.
    pub(crate) passed: Vec<(&'a str, &'a str)>,
    /// By lines of the script, for the shell alone.
    pub(crate) assigned: Vec<(&'a str, &'a str)>,
    /// Not at all: too large to be passed, and no shell can have a variable of that name.
    pub(crate) lost: Vec<(&'a str, &'a str)>,
}

impl Sorted<'_> {
    /// What a reader of the log should know about them.
    pub(crate) fn warnings(&self) -> Vec<String> {
        let kib = |value: &str| value.len().div_ceil(1024);
        let assigned = self.assigned.iter().map(|(key, value)| {
            format!(
                "the variable {key} ({} KiB) is too large for the environment of a process: the script itself can use it, the \
                 programs it starts do not get it; a variable of type file has no such limit",
                kib(value)
            )
        });
        let lost = self.lost.iter().map(|(key, value)| {
            format!(
                "the variable {key:?} ({} KiB) is too large for the environment of a process, and its name is none that a shell \
                 can use: it is left out; use a variable of type file",
                kib(value)
            )
        });
        assigned.chain(lost).collect()
    }
}

/// Sorts `variables`, of which the last duplicate wins. `inherited` is the size of what the process
/// gets anyway. Names and values that no environment can hold are left out.
pub(crate) fn sort(variables: &[(String, SecretText)], inherited: usize) -> Sorted<'_> {
    let last: HashMap<&str, usize> = variables.iter().enumerate().map(|(at, (key, _))| (key.as_str(), at)).collect();
    let mut sorted = Sorted::default();
    for (at, (key, value)) in variables.iter().enumerate() {
        let value = value.0.expose();
        if last.get(key.as_str()) != Some(&at) || !is_possible(key, value) {
            continue;
        }
        if size(key, value) > EXEC_VARIABLE {
            sorted.assigned.push((key, value));
        } else {
            sorted.passed.push((key, value));
        }
    }
    let mut total = inherited + sorted.passed.iter().map(|(key, value)| size(key, value)).sum::<usize>();
    while total > EXEC_TOTAL {
        let Some(largest) = (0..sorted.passed.len()).max_by_key(|at| sorted.passed[*at].1.len()) else { break };
        let (key, value) = sorted.passed.remove(largest);
        total -= size(key, value);
        sorted.assigned.push((key, value));
    }
    let assigned = std::mem::take(&mut sorted.assigned);
    (sorted.assigned, sorted.lost) = assigned.into_iter().partition(|(key, _)| is_shell_name(key));
    sorted
}

/// Bytes that the variables of this process take.
pub(crate) fn inherited() -> usize {
    std::env::vars_os().map(|(key, value)| key.len() + value.len() + 2).sum()
}

/// Bytes that a variable takes in an environment: its name, `=`, its value and the final zero.
pub(crate) fn size(key: &str, value: &str) -> usize {
    key.len() + value.len() + 2
}

/// Whether an environment can hold it.
pub(crate) fn is_possible(key: &str, value: &str) -> bool {
    !key.is_empty() && !key.contains(['=', '\0']) && !value.contains('\0')
}

/// Whether a shell can have a variable of that name.
pub(crate) fn is_shell_name(key: &str) -> bool {
    !key.starts_with(|first: char| first.is_ascii_digit())
        && !key.is_empty()
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Lines that assign `variables`, in the quoting that every POSIX shell understands.
pub(crate) fn assignments(variables: &[(&str, &str)]) -> String {
    let mut text = String::new();
    for (key, value) in variables {
        text.push_str(key);
        text.push_str("='");
        text.push_str(&value.replace('\'', r"'\''"));
        text.push_str("'\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variable(key: &str, value: &str) -> (String, SecretText) {
        (key.to_owned(), SecretText(value.into()))
    }

    #[test]
    fn the_last_duplicate_wins_and_impossible_ones_vanish() {
        let variables =
            [variable("A", "1"), variable("B=C", "x"), variable("", "x"), variable("A", "2"), variable("Z", "a\0b")];
        assert!(sort(&variables, 0).passed == [("A", "2")]);
    }

    #[test]
    fn large_ones_are_assigned_by_the_script() {
        let large = "x".repeat(EXEC_VARIABLE);
        let variables = [variable("LARGE", &large), variable("SMALL", "1"), variable("NO-NAME", &large)];
        let sorted = sort(&variables, 0);
        assert!(sorted.passed == [("SMALL", "1")]);
        assert!(sorted.assigned == [("LARGE", large.as_str())]);
        assert!(sorted.lost == [("NO-NAME", large.as_str())]);
        let warnings = sorted.warnings();
        assert!(warnings.len() == 2 && warnings[0].contains("LARGE (128 KiB)") && warnings[1].contains("\"NO-NAME\""));
        assert!(sort(&[variable("SMALL", "1")], 0).warnings().is_empty());
    }

    #[test]
    fn a_total_beyond_the_limit_moves_the_largest() {
        let value = "x".repeat(100 * 1024);
        let variables: Vec<_> = (0..20).map(|at| variable(&format!("V{at}"), &value)).collect();
        let sorted = sort(&variables, 64 * 1024);
        let passed: usize = sorted.passed.iter().map(|(key, value)| size(key, value)).sum();
        assert!(passed + 64 * 1024 <= EXEC_TOTAL);
        assert_eq!(sorted.passed.len() + sorted.assigned.len(), 20);
    }

    #[test]
    fn quotes_survive() {
        assert_eq!(assignments(&[("A", "it's $HOME\n")]), "A='it'\\''s $HOME\n'\n");
    }
}
